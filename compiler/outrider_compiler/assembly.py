"""The steps of a build over one model: candidates, figures, choice, then the layout with its documents.

Rules are in docs/spec/compiler.md; `pipeline` owns the folders and the order.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from outrider_compiler import artifact, choose, documents, lock, measure, package, robustness
from outrider_compiler.candidate import Candidate, NotBuilt
from outrider_compiler.candidates import Workshop
from outrider_compiler.errors import GateError, LockError, NothingBuiltError, UnchangedError, UsageError
from outrider_compiler.figures import Figures
from outrider_compiler.host import this_host
from outrider_compiler.outcome import Outcome
from outrider_compiler.package import Artifact, Blobs
from outrider_compiler.report import content, page
from outrider_compiler.subject import Subject
from outrider_profiles import Profile
from outrider_protocol.manifest import Descriptor, Index

if TYPE_CHECKING:
    from outrider_compiler.pipeline import Inputs
    from outrider_compiler.progress import Progress
    from outrider_compiler.request import BuildRequest


TFLITE: Final = "tflite"
LAYERED: Final = frozenset({"int8_static", "int8_mixed"})


class Assembly:
    """One build; call `build_all`, then `measure_all` or `follow`, then `write`."""

    def __init__(
        self, request: BuildRequest, inputs: Inputs, subject: Subject, folder: Path, progress: Progress
    ) -> None:
        self.request, self.inputs, self.subject = request, inputs, subject
        self.folder, self.progress, self.say = folder, progress, progress.say
        self.workshop = Workshop(subject.imported, subject.imported.simplified, subject.prepared, folder)
        self.gate = request.judging
        self.outcomes: dict[str, Outcome] = {}
        self.chosen: dict[str, Candidate] = {}
        self.built: dict[str, list[Candidate]] = {}

    def build_all(self, converted: Callable[[], None]) -> None:
        """Build every candidate, those of LiteRT last, once its conversion is over; nothing where a lock says what."""
        if self.inputs.lock is not None:
            converted()
            return
        for profile in sorted(self.inputs.profiles, key=lambda item: item.engine.format == TFLITE):
            if profile.engine.format == TFLITE:
                converted()
            self.say(f"{profile.name}: building candidates")
            self.workshop.build(self._asked(profile), step=self.progress.step)

    def measure_all(self) -> None:
        """Measure and choose for every profile; raises `GateError` or `NothingBuiltError`."""
        for profile in self.inputs.profiles:
            built = self.workshop.build(self._asked(profile))
            candidates = [self.subject.raw_form(item, profile) for item in built if isinstance(item, Candidate)]
            absent = [item for item in built if isinstance(item, NotBuilt)]
            self._check_asked(profile, candidates, absent)
            if any(item.name == measure.BASELINE for item in candidates):
                self._measure(profile, candidates, absent)
            else:
                self._skip(profile, absent)
        if not self.chosen:
            raise NothingBuiltError("; ".join(f"{name}: {item.why}" for name, item in self.outcomes.items()))

    def _asked(self, profile: Profile) -> Profile:
        """The profile with the precisions that were asked for; raises `UsageError` for one that it does not allow."""
        asked = self.request.precisions
        forbidden = [name for name in asked if name not in profile.precisions]
        if forbidden:
            raise UsageError(
                f"{profile.name} does not allow {', '.join(forbidden)}, only {', '.join(profile.precisions)}"
            )
        return replace(profile, precisions=asked) if asked else profile

    def _check_asked(self, profile: Profile, candidates: list[Candidate], absent: list[NotBuilt]) -> None:
        """A precision that was asked for and changed nothing is an error, not a success."""
        made = {item.precision for item in candidates}
        for name in self.request.precisions:
            if name not in made:
                why = "; ".join(f"{item.name}: {item.reason}" for item in absent if item.name.startswith(name))
                raise UnchangedError(f"{profile.name}: {name} was asked for and not built ({why})")

    def _measure(self, profile: Profile, candidates: list[Candidate], absent: list[NotBuilt]) -> None:
        self.say(f"{profile.name}: measuring {len(candidates)} candidates")
        external = self.inputs.measured.get(profile.name)
        truth, step = self.subject.truth, self.progress.step
        figures, failed = measure.measure(candidates, profile, truth, this_host(), external, step)
        choice = choose.choose(figures, self.gate, profile)
        if choice is None:
            raise self._refused(profile, figures, (*absent, *failed))
        self.say(f"{profile.name}: layer by layer")
        self.chosen[profile.name] = next(item for item in candidates if item.name == choice.chosen)
        self.built[profile.name] = candidates
        self._decided(
            Outcome(
                profile.name,
                profile.engine.name,
                tuple(self._with_layers(profile, item, choice.chosen) for item in figures),
                (*absent, *failed),
                choice,
                choice.reason,
                robustness=self._robustness(profile),
            )
        )

    def _with_layers(self, profile: Profile, item: Figures, chosen: str) -> Figures:
        """Figures layer by layer, of what was chosen and of the forms in static integers."""
        if item.name == measure.BASELINE or (item.name != chosen and item.precision not in LAYERED):
            return item
        found = self.workshop.layers(self._asked(profile), item.name)
        return replace(item, layers=tuple(figure.json() for figure in found))

    def _decided(self, outcome: Outcome) -> None:
        self.outcomes[outcome.profile] = outcome
        self.progress.outcome(outcome)

    def _refused(self, profile: Profile, figures: list[Figures], absent: tuple[NotBuilt, ...]) -> GateError:
        """Nothing may ship for this profile: the onlooker still learns what was measured."""
        why = choose.nothing_passes(figures, self.gate, profile)
        missed = choose.all_refusals(figures, self.gate, profile)
        self._decided(Outcome(profile.name, profile.engine.name, tuple(figures), absent, None, why, refusals=missed))
        return GateError(f"{profile.name}: {why}")

    def _robustness(self, profile: Profile) -> dict[str, Any]:
        if not self.request.robustness:
            return {}
        self.say(f"{profile.name}: noise, missing channels and adversarial inputs")
        return robustness.report(self.subject, self.chosen[profile.name], profile, self.folder)

    def _skip(self, profile: Profile, absent: list[NotBuilt]) -> None:
        why = "not built: " + "; ".join(sorted({item.reason for item in absent}))
        self._decided(Outcome(profile.name, profile.engine.name, (), tuple(absent), None, why))
        self.say(f"{profile.name}: {why}")

    def follow(self, locked: lock.Lock) -> None:
        """Build what the lock chose; raises `LockError` where the lock belongs to another build."""
        mine = self.locked()
        locked.check(mine.request, mine.inputs, mine.tools)
        for profile in self.inputs.profiles:
            outcome = self.outcomes[profile.name] = locked.outcomes[profile.name]
            if outcome.choice is not None:
                self.say(f"{profile.name}: building {outcome.choice.chosen} as locked")
                self.chosen[profile.name] = self._again(profile, outcome, outcome.choice.chosen)

    def _again(self, profile: Profile, outcome: Outcome, name: str) -> Candidate:
        chosen = next(item for item in outcome.figures if item.name == name)
        for item in self.workshop.build(profile, chosen.precision, chosen.recipe or None):
            if item.name == name and isinstance(item, Candidate):
                return self.subject.raw_form(item, profile)
        raise LockError(f"{profile.name}: {name} cannot be built here")

    def write(self, folder: Path) -> None:
        """Assemble artifacts, report and referrers, and write the layout."""
        self.say("writing the release")
        blobs = Blobs()
        artifacts = [self._artifact(blobs, profile) for profile in self.inputs.profiles if profile.name in self.chosen]
        made = self.locked()
        value = content.report(made, self.subject.truth, self.inputs.profiles)
        text, html = content.encode(value), page.render(value)
        referrers = [item for made_for in artifacts for item in self._referrers(blobs, made_for, made, text, html)]
        listed = {made_for.profile: made_for.descriptor for made_for in artifacts}
        request = self.request
        index = Index(request.name, request.version, request.counter, listed, tuple(referrers))
        folder.mkdir()
        beside = {"report.html": html, "report.json": text, lock.FILE: made.encode()}
        package.write(folder, index, blobs, beside)

    def _artifact(self, blobs: Blobs, profile: Profile) -> Artifact:
        outcome = self.outcomes[profile.name]
        made = artifact.make(blobs, self.request, self.subject, profile, self.chosen[profile.name], outcome)
        digest = made.descriptor.digest
        if self.inputs.lock is not None and outcome.manifest != digest:
            raise LockError(f"{profile.name}: the rebuilt manifest is {digest}, the lock says {outcome.manifest}")
        self.outcomes[profile.name] = replace(outcome, manifest=digest, warnings=artifact.warnings(self.subject))
        return made

    def _referrers(self, blobs: Blobs, made: Artifact, locked: lock.Lock, text: bytes, html: bytes) -> list[Descriptor]:
        described = {
            "report.html": (package.REPORT_HTML, html),
            "report.json": (package.REPORT_JSON, text),
            "evidence.json": (package.EVIDENCE, documents.evidence(self.outcomes[made.profile])),
            "provenance.json": (package.PROVENANCE, documents.provenance(made, locked, self.inputs.origin)),
            "bom.json": (package.BOM, documents.bom(made, locked)),
        }
        listed = [
            package.add_referrer(blobs, made.descriptor, kind, title, data) for title, (kind, data) in described.items()
        ]
        return listed + list(self._candidates(blobs, made))

    def _candidates(self, blobs: Blobs, made: Artifact) -> Iterator[Descriptor]:
        if self.request.for_bench:
            yield package.add_candidates(blobs, made.descriptor, self.built[made.profile])

    def locked(self) -> lock.Lock:
        """The lock of this build, as far as it has come."""
        request, meaning, inputs = self.request, self.subject.meaning, self.inputs
        asked: dict[str, Any] = {
            "model": request.name, "version": request.version, "counter": request.counter, "task": request.task,
            "classes": list(meaning.classes), "probabilities": meaning.deciding, "embedding": meaning.embedding,
            "gate": vars(self.gate), "architecture": request.architecture or "",
            "precisions": list(request.precisions), "slices": list(request.slices),
            "preprocess": request.preprocess.words(),
        }  # fmt: skip
        digests = {
            "model": self.subject.imported.digest,
            "calibration": inputs.calibration.digest,
            "evaluation": inputs.evaluation.digest,
            **{f"profile:{profile.name}": profile_digest(profile) for profile in inputs.profiles},
        }
        tools = lock.tool_versions(torch=self.subject.imported.kind != "onnx")
        return lock.Lock(asked, digests, tools, self.outcomes, self._evidence())

    def _evidence(self) -> dict[str, str]:
        if self.inputs.lock is not None:
            return self.inputs.lock.evidence
        return {f"measured:{name}": item.digest for name, item in self.inputs.measured.items()}


def profile_digest(profile: Profile) -> str:
    """Digest of everything that a profile says."""
    return "sha256:" + hashlib.sha256(repr(profile).encode()).hexdigest()

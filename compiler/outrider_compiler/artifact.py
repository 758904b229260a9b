"""One profile's artifact from its chosen candidate: config, model, labels, golden vectors, reference statistics."""

from __future__ import annotations

from dataclasses import replace

from outrider_compiler import engines, reference
from outrider_compiler.candidate import Candidate
from outrider_compiler.outcome import Outcome
from outrider_compiler.package import Artifact, Blobs, DeviceFile, add_artifact
from outrider_compiler.request import BuildRequest
from outrider_compiler.subject import Subject
from outrider_profiles import Profile
from outrider_protocol import canonical, manifest
from outrider_protocol.manifest import Config, Role, TensorSpec


def make(
    blobs: Blobs, request: BuildRequest, subject: Subject, profile: Profile, chosen: Candidate, outcome: Outcome
) -> Artifact:
    """Add the artifact to the layout; its bytes depend on inputs, tools and `chosen` alone."""
    runner = engines.load(chosen, profile.load)
    accuracy = next(item.value("accuracy") for item in outcome.figures if item.name == chosen.name)
    config = Config(
        model=request.name,
        version=request.version,
        counter=request.counter,
        profile=profile.name,
        engine=profile.engine.name,
        precision=chosen.precision,
        inputs=_shipped(chosen, runner.inputs),
        outputs=_shipped(chosen, runner.outputs),
        probabilities=subject.meaning.deciding,
        classes=subject.meaning.classes,
        embedding=subject.meaning.embedding,
        load=manifest.Load(profile.load.mode, profile.load.prepack, 1),
        decision=subject.meaning.task.decision,
        providers=_providers(profile),
    )
    return add_artifact(blobs, config, _files(subject, chosen, runner, accuracy, _golden_rows(config)))


def _providers(profile: Profile) -> tuple[manifest.Provider, ...]:
    """In the profile's order; the engine's CPU alone is not listed."""
    listed = tuple(manifest.Provider(item.name, item.options) for item in profile.providers)
    return () if [item.name for item in listed] in ([engines.CPU], ["XNNPACK"]) else listed


def _shipped(chosen: Candidate, specs: tuple[TensorSpec, ...]) -> tuple[TensorSpec, ...]:
    """A LiteRT file holds a batch of one, which the agent feeds row by row: to callers the batch is free."""
    if chosen.engine != "litert":
        return specs
    return tuple(replace(spec, shape=(-1, *spec.shape[1:])) for spec in specs)


def _golden_rows(config: Config) -> int:
    """A few, or as many as a model with a fixed batch takes at once."""
    shape = config.inputs[0].shape
    return shape[0] if shape and shape[0] > 0 else reference.GOLDEN_ROWS


def _files(
    subject: Subject, chosen: Candidate, runner: engines.Runner, accuracy: float | None, golden_rows: int
) -> list[DeviceFile]:
    meaning, feeds = subject.meaning, subject.calibration.feeds
    answers = runner.run(feeds)
    embedding = answers[meaning.embedding] if meaning.embedding else None
    probabilities = meaning.task.decision.probabilities(answers[meaning.deciding])
    answered = reference.Answered(subject.watched, probabilities, embedding)
    few = engines.rows(feeds, 0, golden_rows)
    layer = [] if chosen.preprocess is None else [DeviceFile(Role.PREPROCESS, "preprocess.json", chosen.preprocess)]
    return [
        DeviceFile(Role.MODEL, chosen.title, chosen.data),
        DeviceFile(Role.LABELS, "labels.json", canonical.encode({"classes": list(meaning.classes)})),
        DeviceFile(Role.GOLDEN, "golden.bin", reference.golden(few, runner.run(few), chosen.precision)),
        DeviceFile(
            Role.STATISTICS, "statistics.json", reference.statistics(answered, meaning.classes, accuracy).encode()
        ),
        *layer,
    ]


def warnings(subject: Subject) -> tuple[str, ...]:
    """What a reader should know about the calibration set."""
    name = subject.inputs[0].name
    constant = reference.constant_channels(subject.watched)
    return tuple(f"channel {channel} of {name!r} never changes in the calibration set" for channel in constant)

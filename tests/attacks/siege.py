"""A device under attack: how an attack is brought, what must be reported of it, and what must stand afterwards.

The aftermath is the same for every attack: what served before serves and answers, floors and trusted documents are
those of before (or what the fleet itself has published since), and nothing new is committed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tuf.api.metadata import Metadata

from outrider_agent.air_gap import NotImportedError, bring
from outrider_agent.paths import Paths
from outrider_agent.update import trust_file
from outrider_protocol import canonical, ids, signing, telemetry, topics
from outrider_protocol.execution import ENDS, TOUCHED, State
from outrider_protocol.messages import Event, ExecutionReport, TrustOnline
from outrider_protocol.order import Order
from tests.agent.supervisor.folder import document, write_folder
from tests.agent.supervisor.house import PROFILE, Artifact, Authority, Trust, until
from tests.agent.supervisor.world import World, new_world
from tests.attacks.attacker import NOTHING, Attacker, Offer

ROOTS = ("root-1", "root-2", "root-3")
OTHER_ENDS = TOUCHED | ENDS


@dataclass(frozen=True)
class Refusal:
    """What the agent must say: the error's class, and the end of the execution (None: it will be tried again)."""

    error: str
    state: str | None = "rejected"


@dataclass(frozen=True)
class Standing:
    """What no attack may move."""

    serving: str
    floors: dict[str, Any]
    trusted: dict[str, bytes]
    committed: frozenset[str]


@dataclass
class Siege:
    """A world whose agent serves release 1.0."""

    world: World
    first: Artifact
    seen: dict[tuple[str, str, int], Event] = field(default_factory=dict)
    releases: int = 0
    published: list[dict[str, bytes]] = field(default_factory=list)

    @property
    def paths(self) -> Paths:
        """The device's files."""
        return Paths.under(self.world.agent.home)

    # ---------------------------------------------------------------- before

    def attacker(self, held: frozenset[str] = NOTHING) -> Attacker:
        """One with these keys."""
        return Attacker.of(self.world, held)

    def list_release(self) -> Order:
        """The fleet publishes a new release, which this device has not heard of; its order, not signed yet."""
        self.releases += 1
        artifact = Artifact(self.first.directory, f"9.{self.releases}", 9)
        self.world.trust.release(artifact.path, artifact.encoded, artifact.counter)
        self.world.publish()
        return self.order(artifact)

    def order(self, artifact: Artifact, **changes: Any) -> Order:
        """An order for it under the next sequence, not signed yet."""
        made = self.world.agent.order(artifact, self.world.next_seq(), epoch=self.world.trust.epoch)
        return replace(made, **changes)

    def standing(self) -> Standing:
        """As it is now."""
        floors = json.loads(self.paths.update.read_bytes())["floors"]
        committed = frozenset(path.name for path in self.paths.artifacts.iterdir())
        return Standing(self.world.serving(), floors, trust_file.load(self.paths.trust / trust_file.FILE), committed)

    # ---------------------------------------------------------------- the attack

    def desire(self, envelope: bytes) -> None:
        """The retained order."""
        self.world.server.publish({topics.desired(self.world.agent.device): envelope})

    def carry(self, envelope: bytes, offer: Offer, folder: Path) -> NotImportedError | None:
        """Bring order and documents in a folder to the running agent; what `outrider-agent import` would say."""
        return self.imported(self.stick(envelope, offer, folder))

    def stick(self, envelope: bytes, offer: Offer, folder: Path) -> Path:
        """Write them into a folder."""
        return write_folder(folder, self.world.agent.device, envelope, offer.messages, self.first.chunks())

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run `outrider-agent` as a person on the device would."""
        environment = {**os.environ, "OUTRIDER_HOME": str(self.world.agent.home)}
        command = [sys.executable, "-m", "outrider_agent.cli", *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)

    def imported(self, folder: Path) -> NotImportedError | None:
        """Bring a folder."""
        try:
            bring(self.paths, folder, lambda _: None)
        except NotImportedError as error:
            return error
        return None

    def refused(self, refusal: Refusal, seq: int | None) -> dict[str, Any]:
        """Wait until the agent has reported this refusal, with a hint; its detail."""
        found: dict[str, Any] = until(lambda: self._said(refusal, seq), f"{refusal} of order {seq}")
        assert found["error"] == refusal.error, found
        assert found["hint"], found
        return found

    def _said(self, refusal: Refusal, seq: int | None) -> dict[str, Any] | None:
        for body in self._news():
            if body.get("what") == "order_not_taken" and (refusal.state is None or seq is None):
                return body
            if body.get("seq") == seq is not None:
                report = ExecutionReport.read(body)
                if report.state == refusal.state:
                    return dict(report.detail)
                assert State(report.state) not in OTHER_ENDS, f"the attack ended as {report.state}: {report.detail}"
        return None

    def _news(self) -> Iterator[dict[str, Any]]:
        """Bodies of events that nobody has looked at."""
        for key, batch in list(self.world.server.batches.items()):
            if key not in self.seen and batch.stream == "event":
                self.seen[key] = telemetry.check_event(batch)
                yield self.seen[key].body

    # ---------------------------------------------------------------- the aftermath

    @contextmanager
    def withstands(self, *, moves: frozenset[str] = NOTHING, taken: int | None = None) -> Iterator[Standing]:
        """Around an attack; `moves` are trusted documents that stolen keys may move, `taken` an accepted sequence.

        An order that passed every check of order and metadata moves the floors, whatever its artifact turns out to be.
        """
        list(self._news())
        before = self.standing()
        yield before
        after = self.standing()
        assert (after.serving, after.committed) == (before.serving, before.committed)
        if taken is None:
            assert after.floors == before.floors
        else:
            assert (after.floors["epoch"], after.floors["seq"]) == (before.floors["epoch"], taken)
        self._trusts_the_fleet(before, after, moves)
        self.world.infer(1)

    def _trusts_the_fleet(self, before: Standing, after: Standing, moves: frozenset[str]) -> None:
        self.published += map(fleet_documents, self.world.offered[len(self.published) :])
        for name, data in after.trusted.items():
            if name in moves:
                continue
            assert data == before.trusted.get(name) or any(data == of.get(name) for of in self.published), name
            if name in before.trusted:
                assert version(data) >= version(before.trusted[name]), name
        assert after.trusted.keys() >= before.trusted.keys()

    def replace_director(self, *, reset_time_floor: bool = False) -> None:
        """The ceremony after a theft: a new key, a new epoch, sequences from 1."""
        trust = self.world.trust
        trust.keys["director"], trust.epoch = signing.generate(), trust.epoch + 1
        trust.reset_time_floor, self.world.last_seq = reset_time_floor, 0
        self.heal()

    def obeys(self) -> None:
        """The fleet's own order is taken: for what runs already."""
        self.desire(self.world.trust.order(order := self.order(self.first)))
        self.world.ended(order.seq, "already_installed", epoch=order.epoch)

    def heal(self) -> None:
        """The fleet publishes anew, above whatever stolen keys have signed."""
        self.world.trust.version += 5
        self.world.publish()


def fleet_documents(messages: dict[str, bytes]) -> dict[str, bytes]:
    """What a device keeps of a bundle, by the names of its trust file."""
    online = TrustOnline.decode(messages[topics.TRUST_ONLINE])
    found = {f"{name}.json": getattr(online, name).encode() for name in ("timestamp", "snapshot", "targets")}
    found |= {name: text.encode() for name, text in online.files.items()}
    found |= {document(topic): data for topic, data in messages.items() if "/roots/" not in topic}
    return {**found, "root.json": messages[topics.trust_root(online.root_version)]}


def version(data: bytes) -> int:
    """Of a role; 0 for a fleet file, whose place is held by the targets that hash it."""
    value = canonical.decode(data, len(data))
    return int(Metadata.from_bytes(data).signed.version) if "signed" in value else 0


@contextmanager
def besieged(authority: Authority) -> Iterator[Siege]:
    """A running agent that serves release 1.0, of a fleet whose root takes two of three keys."""
    trust = Trust(root_names=ROOTS, threshold=2)
    with new_world(authority, trust) as world:
        world.agent.start()
        yield Siege(world, world.install("1.0"))


def hostile(siege: Siege, encoded: bytes, config: bytes, label: str) -> tuple[Artifact, dict[str, bytes]]:
    """An artifact of any manifest and config; what is published of it."""
    directory = siege.world.directory / f"hostile-{label}"
    directory.mkdir()
    (directory / "manifest.json").write_bytes(encoded)
    (directory / "config.json").write_bytes(config)
    chunks = {topics.blob(ids.hex_of(ids.digest_of(data)), 0): data for data in (encoded, config)}
    return Artifact(directory, label, 9), chunks


__all__ = ["PROFILE", "Refusal", "Siege", "Standing", "besieged", "hostile"]

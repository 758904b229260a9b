"""What this device remembers, after every power cut on the way: the old or the new, never neither, never below a floor.

Each flow runs the agent's own code with a recording disk, notes what it promised and when, and then holds every state
that a cut may leave against that. `SLICE` is drawn for each run of the tests; `LONG` is for `make soak`.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from outrider_agent import enrolled, sealed
from outrider_agent.durable import Durable, Operation
from outrider_agent.errors import NotEnrolledError
from outrider_agent.paths import Paths
from outrider_agent.supervisor.desired_file import Desired, DesiredFile
from outrider_agent.supervisor.machine import Event, Stage
from outrider_agent.supervisor.runner import Runner
from outrider_agent.supervisor.state import Execution, Release, StateFile, UpdateState
from outrider_agent.update import identity, stage, trust_file
from outrider_agent.update.bundle import Bundle
from outrider_agent.update.trust_store import TrustStore
from outrider_protocol import canonical, ids, signing, topics
from outrider_protocol.errors import UntrustedError
from outrider_protocol.manifest import Manifest
from outrider_protocol.messages import TrustOnline
from outrider_protocol.trust import Floors, Identity
from tests.agent.supervisor.house import Trust
from tests.agent.update.kit import Device, Given
from tests.agent.update.test_process import order_of
from tests.simulation.power_cut import Cut, Left, Recording

pytestmark = pytest.mark.timeout(1200)


@dataclass(frozen=True)
class Depth:
    """States a cut, restarts a cut, seeds."""

    states: int
    restarts: int
    seeds: int


SLICE = Depth(states=32, restarts=2, seeds=1)
LONG = Depth(states=384, restarts=8, seeds=2)
depths = pytest.mark.parametrize("depth", [SLICE, pytest.param(LONG, marks=pytest.mark.soak)], ids=["slice", "long"])


def cuts(record: Callable[[], Recording], depth: Depth) -> Iterator[Cut]:
    """The cuts of a flow, recorded once a seed."""
    for seed in range(depth.seeds):
        yield from record().cuts(seed, depth.states)


def some(states: Iterator[Left], number: int, chance: random.Random) -> list[Left]:
    """A few of the states, the first and the last among them."""
    found = list(states)
    inner = chance.sample(found[1:-1], min(max(0, number - 2), len(found[1:-1]))) if len(found) > 2 else []
    return [*found[:1], *inner, *found[1:][-1:]]


@pytest.fixture(autouse=True)
def no_real_syncs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The simulated disk says what is sure; the real one need not be waited for."""
    monkeypatch.setattr("os.fsync", lambda fd: None)


class Killed(BaseException):
    """`kill -9`: what was done stays in the page cache, nothing more is done."""


# -------------------------------------------------------------------- the trust store

PATH = "har/1.0/x86-64"
NOW = dt.datetime.now(dt.UTC)


@dataclass
class TrustStory:
    """Refreshes of one device: news, a new root, a forgery, news again."""

    directory: Path
    trust: Trust
    bundles: list[dict[str, bytes]]

    @classmethod
    def begin(cls, directory: Path) -> TrustStory:
        trust = Trust()
        trust.release(PATH, b"manifest", 3)
        bundles = [trust.messages(), trust.messages()]
        trust.keys["timestamp"] = signing.generate()
        trust.new_root()
        bundles.append(trust.messages())
        forged = trust.messages()
        online = TrustOnline.decode(forged[topics.TRUST_ONLINE])
        bad = replace(online, targets=online.targets.replace("har", "bar"))
        bundles.append({**forged, topics.TRUST_ONLINE: bad.encode()})
        trust.min_counter = {"har": 2}
        bundles.append(trust.messages())
        return cls(directory, trust, bundles)

    def record(self) -> Recording:
        shutil.rmtree(self.directory, ignore_errors=True)
        trust_file.begin(self.directory, self.trust.roots[1], Durable())
        recording = Recording(self.directory, self.kept())
        store = TrustStore(self.directory, Durable(recording))
        for messages in self.bundles:
            with suppress(UntrustedError):
                store.refresh(Bundle(Given(messages), "har"), PATH, NOW)
            recording.promise(self.kept())
        return recording

    def kept(self, directory: Path | None = None) -> dict[str, bytes]:
        return trust_file.load((directory or self.directory) / trust_file.FILE)


def version(kept: dict[str, bytes], role: str) -> int:
    data = kept.get(f"{role}.json")
    return int(canonical.decode(data, 1 << 20)["signed"]["version"]) if data else 0


@depths
def test_the_trust_store(tmp_path: Path, depth: Depth) -> None:
    """AGT-CUT-3: after any cut the file is whole, one of two adjacent sets, and no older metadata gets in."""
    story, place, chance = TrustStory.begin(tmp_path / "trust"), tmp_path / "left", random.Random(1)
    for cut in cuts(story.record, depth):
        for left in cut.states():
            assert trust_file.decode(left.tree[Path(trust_file.FILE)] or b"") in (cut.promised, cut.following)
        for left in some(cut.states(), depth.restarts, chance):
            left.write(place)
            store = TrustStore(place, Durable())
            with suppress(UntrustedError):
                store.refresh(Bundle(Given(story.bundles[0]), "har"), PATH, NOW)  # the oldest, replayed
            after = story.kept(place)
            for role in ("root", "timestamp", "snapshot", "targets"):
                assert version(after, role) >= version(cut.promised, role), role
            assert store.refresh(Bundle(Given(story.bundles[-1]), "har"), PATH, NOW).floors.min_counter == {"har": 2}


# -------------------------------------------------------------------- update.json


class Nothing:
    """Actions that do nothing."""

    def __getattr__(self, name: str) -> Any:
        return lambda *_, **__: None


def release(number: int) -> Release:
    return Release("har", f"{number}.0", number, "sha256:" + f"{number}" * 64)


def execution(number: int) -> Execution:
    return Execution(1, number, release(number), Stage.NOTIFIED, f"{number}" * 64)


FETCH = (Event.DOWNLOAD_BEGAN, Event.VERIFY_BEGAN, Event.FILES_STAGED, Event.VALIDATE_BEGAN, Event.VALIDATED)
GOOD = (*FETCH, Event.CANDIDATE_READY, Event.PROBATION_PASSED)
BAD = (*FETCH, Event.CANDIDATE_READY, Event.CANDIDATE_FAILED, Event.ROLLBACK_DONE)
STORY = (GOOD, BAD, (Event.DOWNLOAD_BEGAN, Event.REFUSED), GOOD)


def update_story(directory: Path) -> Recording:
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir()
    path = directory / "update.json"
    StateFile(path, Durable()).begin()
    recording = Recording(directory, UpdateState())
    runner = Runner(StateFile(path, Durable(recording)), Nothing())
    runner.start()
    recording.promise(runner.state)
    for number, events in enumerate(STORY, 1):
        runner.accept(execution(number), Floors(1, number, 1000 * number, f"{number}" * 64))
        recording.promise(runner.state)
        for event in events:
            runner.feed(event, {"of": event.value})
            recording.promise(runner.state)
    return recording


@depths
def test_update_json(tmp_path: Path, depth: Depth) -> None:
    """AGT-CUT-4: every transition is the old state or the new; floors never fall; each start can go on from it."""
    place = tmp_path / "left"
    for cut in cuts(lambda: update_story(tmp_path / "var"), depth):
        for left in cut.states():
            found = UpdateState.decode(left.tree[Path("update.json")] or b"")
            assert found in (cut.promised, cut.following)
            assert found.floors.seq >= cut.promised.floors.seq
            served = left.tree.get(Path("serving.json"))
            was = (None, cut.promised.current, cut.following.current)
            assert served is None or UpdateState.decode(served).current in was
        for left in some(cut.states(), depth.restarts, random.Random(cut.done)):
            left.write(place)
            again = Runner(StateFile(place / "update.json", Durable()), Nothing())
            again.start()
            again.resume()


@depths
def test_a_kill_and_then_a_cut(tmp_path: Path, depth: Depth) -> None:
    """AGT-CUT-5: what a killed process left unsynced is made sure before the next one acts on what it read."""
    operations = len(update_story(tmp_path / "count").operations)
    chance = random.Random(3)
    points = range(operations) if depth is LONG else sorted(chance.sample(range(operations), 40))
    for point in points:
        directory = tmp_path / "var"
        recording = _killed_at(directory, point)
        found = StateFile(directory / "update.json", Durable(recording)).load()
        recording.promise(found)
        last = list(recording.cuts(at_most=depth.states))[-1]
        for left in last.states():
            assert UpdateState.decode(left.tree[Path("update.json")] or b"") == found


def _killed_at(directory: Path, point: int) -> Recording:
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir()
    StateFile(directory / "update.json", Durable()).begin()
    recording = Recording(directory)

    def record(operation: Operation) -> None:
        if len(recording.operations) == point:
            raise Killed
        recording(operation)

    runner = Runner(StateFile(directory / "update.json", Durable()), Nothing())
    runner._file = StateFile(directory / "update.json", Durable(record))
    with suppress(Killed):
        runner.start()
        for number, events in enumerate(STORY, 1):
            runner.accept(execution(number), Floors(1, number))
            for event in events:
                runner.feed(event)
    return recording


@depths
def test_the_kept_order(tmp_path: Path, depth: Depth) -> None:
    """AGT-CUT-4: the kept order is the old one, the new one, or none: it is asked for by its digest."""
    place = tmp_path / "left"
    one, two = b'{"order":1}', b'{"order":2}'
    DesiredFile(tmp_path / "desired.json", Durable()).save(Desired(one))
    recording = Recording(tmp_path)
    DesiredFile(tmp_path / "desired.json", Durable(recording)).save(Desired(two, "/media/stick"))
    for cut in recording.cuts(at_most=depth.states):
        for left in cut.states():
            left.write(place)
            file = DesiredFile(place / "desired.json", Durable())
            found = [file.load(hashlib.sha256(envelope).hexdigest()) for envelope in (one, two)]
            assert found in ([Desired(one), None], [None, Desired(two, "/media/stick")])


# -------------------------------------------------------------------- an artifact, from the envelope to the commit


class Artifacts:
    """A device that takes in one artifact; the load test is left out: it writes nothing."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch, encrypt: bool) -> None:
        monkeypatch.setattr(stage, "load_test", lambda *_: {})
        self.device, self.encrypt = Device(directory), encrypt
        self.artifact = self.device.artifact("1.0")
        self.envelope = self.device.trust.order(order_of(self.artifact))
        self.var, self.before = self.device.paths.var, directory / "before"
        shutil.copytree(self.var, self.before)

    def record(self) -> Recording:
        self.back_to(self.before)
        recording = Recording(self.var, False)
        self.device.disk = Durable(recording)
        assert self.device.update(self.envelope, encrypt=self.encrypt).op == "staged"
        recording.promise(True)
        return recording

    def back_to(self, place: Path) -> None:
        shutil.rmtree(self.var)
        shutil.copytree(place, self.var)

    def is_whole(self, var: Path) -> bool:
        """Whether the artifact is committed; what is committed must be right to the last byte."""
        committed = var / "artifacts" / ids.hex_of(self.artifact.digest)
        if not committed.exists():
            return False
        manifest = Manifest.decode((committed / "manifest.json").read_bytes())
        assert ids.digest_of((committed / "manifest.json").read_bytes()) == self.artifact.digest
        assert ids.digest_of((committed / "config.json").read_bytes()) == manifest.config.digest
        key = (var / "artifacts.key").read_bytes() if self.encrypt else None
        stage.verify(committed, manifest, Durable(), key)
        return True


@depths
@pytest.mark.parametrize("encrypt", [False, True], ids=["plain", "sealed"])
def test_an_artifact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, depth: Depth, encrypt: bool) -> None:
    """AGT-CUT-6: what stands under an artifact's name is whole; the next run ends in the same artifact."""
    story, place, chance = Artifacts(tmp_path, monkeypatch, encrypt), tmp_path / "left", random.Random(2)
    few = replace(depth, states=min(depth.states, 256))
    for cut in cuts(story.record, few):
        if depth is SLICE and cut.done % 3 and not cut.promised:
            continue
        states = list(cut.states())
        for left in states:
            _check_left(story, left, place, promised=cut.promised)
        for left in some(iter(states), depth.restarts // 2, chance):
            left.write(place)
            story.back_to(place)
            story.device.disk = Durable()
            said = story.device.update(story.envelope, encrypt=encrypt)
            assert said.op == "staged", said
            assert story.is_whole(story.var)


def _check_left(story: Artifacts, left: Left, place: Path, *, promised: bool) -> None:
    hex_digest = ids.hex_of(story.artifact.digest)
    committed = {path: data for path, data in left.tree.items() if path.parts[:2] == ("artifacts", hex_digest)}
    sealed_there = [path for path, data in left.tree.items() if data and sealed.SUFFIX in path.name]
    assert not sealed_there or len(left.tree.get(Path("artifacts.key")) or b"") == sealed.KEY_BYTES
    if committed or promised:
        left.write(place)
        assert story.is_whole(place)


# -------------------------------------------------------------------- enrolment


def generation(name: str, fleet: str, root: bytes) -> dict[str, bytes]:
    """The files of one enrolment: each says whose it is."""
    found = Identity("dev-1", name * 64, fleet, "x86-64")
    pem = {part: f"{part} of {name}".encode() for part in ("device.key", "device.pem", "ca.pem")}
    return {**pem, identity.ROOT: root, identity.FILE: identity.encode(found), enrolled.CONFIG: f"# {name}".encode()}


ROOTS = {"a": Trust().roots[1], "b": Trust().roots[1]}
OURS = generation("1", "ours", ROOTS["a"])
AGAIN = generation("2", "ours", ROOTS["a"])
OTHERS = generation("3", "theirs", ROOTS["b"])
FLOORS = Floors(3, 9, 77, "ff")
ENROLMENTS: dict[str, tuple[dict[str, bytes] | None, dict[str, bytes]]] = {
    "first": (None, OURS),
    "again": (OURS, AGAIN),
    "another fleet": (OURS, OTHERS),
}


def enrolment_story(home: Path, before: dict[str, bytes] | None, after: dict[str, bytes]) -> Recording:
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir()
    paths = Paths.under(home)
    if before is not None:
        enrolled.commit(paths, Durable(), before)
        state = StateFile(paths.update, Durable())
        state.save(replace(state.load(), floors=FLOORS))
    recording = Recording(home, before)
    enrolled.commit(paths, Durable(recording), after)
    recording.promise(after)
    return recording


def check_enrolled(home: Path, cut: Cut, before: dict[str, bytes] | None) -> None:
    """After `finish`, as every start does: all files are of one enrolment, and trust and floors are that one's."""
    paths = Paths.under(home)
    try:
        found = identity.load(paths.identity)
    except NotEnrolledError:
        assert cut.promised is None
        return
    files = next(item for item in (OURS, AGAIN, OTHERS) if item[identity.FILE] == identity.encode(found))
    assert files in (cut.promised, cut.following)
    assert {path.name: path.read_bytes() for path in paths.identity.iterdir()} == {
        name: data for name, data in files.items() if name != enrolled.CONFIG
    }
    assert trust_file.load(paths.trust / trust_file.FILE)[trust_file.ROOT] == files[identity.ROOT]
    kept = before is not None and files is not OTHERS
    assert StateFile(paths.update, Durable()).load().floors == (FLOORS if kept else Floors())
    assert paths.config.exists()
    assert not list(paths.var.glob("*.gone")), "the former key stayed"


@depths
@pytest.mark.parametrize("name", ENROLMENTS)
def test_enrolment(tmp_path: Path, depth: Depth, name: str) -> None:
    """AGT-CUT-7: the device is who it was, or who it becomes: key, certificates, trust and floors together."""
    before, after = ENROLMENTS[name]
    place, chance = tmp_path / "left", random.Random(4)
    few = depth if depth is LONG else replace(depth, states=10)
    for cut in cuts(lambda: enrolment_story(tmp_path / "home", before, after), few):
        states = list(cut.states())
        for left in states:
            left.write(place)
            enrolled.finish(Paths.under(place), Durable())
            check_enrolled(place, cut, before)
        if depth is SLICE and cut.done % 4:
            continue
        for left in some(iter(states), depth.restarts, chance):  # a second cut, while the first is repaired
            left.write(place)
            recording = Recording(place)
            enrolled.finish(Paths.under(place), Durable(recording))
            seconds = list(recording.operations)
            for second in recording.cuts(at_most=depth.restarts * 2):
                if depth is SLICE and seconds and chance.random() > 4 / len(seconds):
                    continue
                for again in second.states():
                    again.write(tmp_path / "second")
                    enrolled.finish(Paths.under(tmp_path / "second"), Durable())
                    check_enrolled(tmp_path / "second", cut, before)

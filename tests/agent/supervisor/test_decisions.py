"""The supervisor's small pure decisions: trials, tries, waits, update.json and the runner's order of work."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider_agent.durable import Durable, Operation
from outrider_agent.errors import StateError
from outrider_agent.paths import Paths
from outrider_agent.supervisor import desired
from outrider_agent.supervisor.backoff import Backoff
from outrider_agent.supervisor.desired_file import DesiredFile
from outrider_agent.supervisor.executions import Executions
from outrider_agent.supervisor.loop import Loop
from outrider_agent.supervisor.machine import Event, Stage
from outrider_agent.supervisor.orders import Orders
from outrider_agent.supervisor.runner import Runner
from outrider_agent.supervisor.state import Execution, Release, StateFile, UpdateState
from outrider_agent.supervisor.trial import Limits, Shadow, judge_probation, judge_shadow
from outrider_protocol.trust import Floors

LIMITS = Limits(shadow_windows=50, shadow_disagreement_max=0.3, probation_windows=10, probation_s=600.0)
RELEASE = Release("har", "1.0", 1, "sha256:" + "a" * 64)
EXECUTION = Execution(1, 2, RELEASE, Stage.NOTIFIED, "ee", {"probation_s": 1.5}, {"n": 1})


@pytest.mark.parametrize(
    ("shadow", "drifted", "event"),
    [
        (Shadow(49, 49), False, None),
        (Shadow(50, 15), False, Event.SHADOW_AGREED),
        (Shadow(50, 16), False, Event.SHADOW_DISAGREED),
        (Shadow(10, 10), True, Event.SHADOW_AGREED),
    ],
)
def test_shadowing(shadow: Shadow, drifted: bool, event: Event | None) -> None:
    """AGT-EXE-7: enough windows are judged by their disagreement; a drifted device judges nobody."""
    assert judge_shadow(shadow, LIMITS, drifted) is event


@pytest.mark.parametrize(
    ("attested", "answered", "elapsed_s", "said", "event"),
    [
        (True, 10, 0.0, False, Event.PROBATION_PASSED),
        (False, 10, 0.0, False, None),
        (True, 9, 599.0, False, None),
        (True, 9, 600.0, False, Event.NO_TRAFFIC),
        (True, 9, 900.0, True, None),
        (True, 10, 900.0, True, Event.PROBATION_PASSED),
    ],
)
def test_probation(attested: bool, answered: int, elapsed_s: float, said: bool, event: Event | None) -> None:
    """AGT-EXE-3: attested and answered enough, or no traffic, said once."""
    assert judge_probation(attested, answered, elapsed_s, LIMITS, said) is event


def test_probation_of_nothing_still_asks_for_one_inference() -> None:
    """AGT-EXE-1: `probation_windows` 0 does not make an unused candidate succeed."""
    assert judge_probation(True, 0, 0.0, replace(LIMITS, probation_windows=0), False) is None


def test_parameters_have_the_protocols_defaults() -> None:
    """AGT-EXE-3: what an order does not say is what the artifact's declaration says."""
    assert Limits.of({"probation_s": 5.0}) == Limits(0, 1, 10, 5.0)


def test_an_order_needs_the_update_process_until_it_is_staged() -> None:
    """AGT-SUP-5: a retained order that came again starts nothing when its execution is further or has ended."""
    assert desired.needs_update("ee", None)
    assert desired.needs_update("other", EXECUTION)
    for stage in Stage:
        assert desired.needs_update("ee", replace(EXECUTION, stage=stage)) == (stage in desired.FETCHING)


def test_a_refused_order_is_not_tried_at_every_reconnect() -> None:
    """AGT-SUP-5: a refusal stands for a while and is reported once; another envelope starts over."""
    tries = desired.Tries()
    assert tries.failed("aa", 0.0, final=True) is None
    assert tries.is_news("aa", "SignatureError")
    assert not tries.is_news("aa", "SignatureError")
    assert tries.refused("aa", desired.AGAIN_S - 1)
    assert not tries.refused("aa", desired.AGAIN_S + 1)
    assert not tries.refused("bb", 1.0)
    assert tries.failed("bb", 1.0, final=False) == desired.FIRST_S


def test_two_orders_that_fail_in_turn_make_no_storm() -> None:
    """AGT-SUP-5: the broker's order and a carried one are each reported once, and their waits grow all the same."""
    tries, waits = desired.Tries(), list[float | None]()
    assert [tries.is_news(one, "StalledError") for one in "ab" if tries.failed(one, 0.0, final=False)] == [True, True]
    for _ in range(4):
        for one in "ab":
            waits.append(tries.failed(one, 1.0, final=False))
            assert not tries.is_news(one, "StalledError")
    assert waits == [4.0, 4.0, 8.0, 8.0, 16.0, 16.0, 32.0, 32.0]
    for one in "ab":
        tries.failed(one, 2.0, final=True)
    assert tries.refused("a", 3.0)
    assert tries.refused("b", 3.0)


def test_waits_between_tries_grow_to_their_limit() -> None:
    """AGT-SUP-5: an order that cannot be judged yet is tried again after 2, 4, 8 … 600 s."""
    tries = desired.Tries()
    waits = [tries.failed("aa", 0.0, final=False) for _ in range(12)]
    assert waits[:4] == [2.0, 4.0, 8.0, 16.0]
    assert waits[-1] == desired.LIMIT_S


@given(st.integers(1, 60))
def test_reconnecting_is_fast_first_and_spread(failures: int) -> None:
    """AGT-SUP-4: the first tries come within a second, later ones within the limit, spread over half of it."""
    backoff = Backoff(first_s=0.25, limit_s=30.0)
    waits = [backoff.next_s() for _ in range(failures)]
    assert waits[0] <= 0.25
    assert all(0.125 <= wait <= 30.0 for wait in waits)
    backoff.succeeded()
    assert backoff.next_s() <= 0.25


def test_update_json_round_trip() -> None:
    """AGT-EXE-2: everything in update.json comes back as it was."""
    other = replace(RELEASE, release="0.9", digest="sha256:" + "b" * 64)
    state = UpdateState(RELEASE, other, None, Floors(1, 2, 3, "ff"), EXECUTION, starts=4)
    assert UpdateState.decode(state.encode()) == state
    assert state.kept() == {"a" * 64, "b" * 64}


@pytest.mark.parametrize("damage", [None, b"", b"{}", b'{"v":1,"floors":{}}', b"{" * 10, bytes(400)])
def test_a_damaged_update_json_is_never_guessed_at(tmp_path: Path, damage: bytes | None) -> None:
    """AGT-EXE-2: guessing what was trusted would be a way to roll it back; what served last is known all the same."""
    path = tmp_path / "update.json"
    file = StateFile(path, Durable())
    file.begin()
    file.save(UpdateState(current=RELEASE, floors=Floors(1, 7), starts=3))
    path.unlink() if damage is None else path.write_bytes(damage)
    with pytest.raises(StateError) as caught:
        file.load()
    assert caught.value.hint
    recalled = file.recall()
    assert recalled.lost is not None
    assert recalled.state == UpdateState(current=RELEASE, starts=3)


def test_a_runner_that_lost_its_state_saves_none(tmp_path: Path) -> None:
    """AGT-EXE-2: starts are counted on, no execution begins, and the damaged file stays as it is."""
    path = tmp_path / "update.json"
    file = StateFile(path, Durable())
    file.save(UpdateState(current=RELEASE, starts=3))
    path.write_bytes(b"")
    runner = Runner(file, Recorder())
    runner.start()
    assert path.read_bytes() == b""
    assert (runner.state.current, runner.state.starts, file.recall().state.starts) == (RELEASE, 4, 4)
    with pytest.raises(AssertionError):
        runner.accept(EXECUTION, Floors(1, 1))
    path.unlink()
    (tmp_path / "serving.json").write_bytes(b"nonsense")
    assert file.recall().state == UpdateState()


def test_promotion_keeps_the_last_succeeded_as_previous() -> None:
    """AGT-EXE-6: the release to return to is one that succeeded; ordering the same one again does not lose it."""
    newer = replace(RELEASE, release="2.0", digest="sha256:" + "c" * 64)
    state = replace(UpdateState(current=RELEASE), candidate=newer).promoted()
    assert (state.current, state.previous, state.candidate) == (newer, RELEASE, None)
    assert replace(state, candidate=newer).promoted().previous == RELEASE


class Recorder:
    """Actions that only write down; the disk writes into the same list."""

    def __init__(self) -> None:
        self.log: list[str] = []

    def operation(self, operation: Operation) -> None:
        if operation.kind == "rename":
            self.log.append("saved")

    def __getattr__(self, name: str) -> Any:
        return lambda *_, **__: self.log.append(name)


def test_the_runner_saves_before_it_acts(tmp_path: Path) -> None:
    """AGT-EXE-2: the new stage is durable before any effect of it happens, and a start resumes there."""
    path, recorder = tmp_path / "update.json", Recorder()
    StateFile(path, Durable()).begin()
    runner = Runner(StateFile(path, Durable(recorder.operation)), recorder)
    runner.accept(replace(EXECUTION, stage=Stage.VALIDATING), Floors(1, 2))
    runner.feed(Event.VALIDATED)
    assert recorder.log == ["saved", "report", "saved", "report", "start_candidate"]
    again = Runner(StateFile(path, Durable()), recorder)
    assert again.state.execution is not None
    assert (again.state.execution.stage, again.state.candidate) == (Stage.ACTIVATING, RELEASE)
    recorder.log.clear()
    again.resume()
    assert recorder.log == ["report", "start_candidate"]


def test_an_end_forgets_the_candidate_and_keeps_the_reason(tmp_path: Path) -> None:
    """AGT-EXE-4: the detail of the failure is in the report of the end that it led to."""
    file = StateFile(tmp_path / "update.json", Durable())
    file.begin()
    runner = Runner(file, Recorder())
    runner.accept(replace(EXECUTION, stage=Stage.ACTIVATING), Floors(1, 2))
    runner.feed(Event.CANDIDATE_FAILED, {"error": "WorkerEndedError"})
    runner.feed(Event.ROLLBACK_DONE)
    assert runner.execution is not None
    assert (runner.execution.stage, runner.execution.detail) == (Stage.ROLLED_BACK, {"error": "WorkerEndedError"})
    assert runner.state.candidate is None
    assert not runner.offer(Event.ROLLBACK_DONE)


class Relay:
    """Where the update process would be: it writes down what it is told."""

    def __init__(self) -> None:
        self.hearer: Any = None
        self.envelope: bytes | None = None
        self.told: list[tuple[str, Any]] = []

    def begin(self, envelope: bytes, fields: dict[str, Any]) -> None:
        self.envelope = envelope
        self.told.append(("begin", sorted(fields)))

    def proceed(self, current: str | None) -> None:
        self.told.append(("proceed", current))

    def stop(self) -> None:
        self.envelope = None


def test_what_runs_is_told_when_the_order_is_taken(tmp_path: Path) -> None:
    """AGT-EXE-8: a probation that passes while the next order is verified changes what `already installed` means."""
    newer = replace(RELEASE, release="2.0", digest="sha256:" + "c" * 64)
    file, trial = (
        StateFile(tmp_path / "update.json", Durable()),
        replace(EXECUTION, target=newer, stage=Stage.PROBATION),
    )
    file.save(UpdateState(current=RELEASE, candidate=newer, execution=trial))
    runner, relay = Runner(file, Recorder()), Relay()
    loop = Loop()
    kept = DesiredFile(tmp_path / "desired.json", Durable())
    orders = Orders(loop, runner, relay, Recorder(), kept, lambda: True)  # type: ignore[arg-type]  # simulators
    orders.received(b"the next order")
    runner.feed(Event.PROBATION_PASSED)
    view = {
        "epoch": 1,
        "seq": 3,
        "parameters": {},
        "model": "har",
        "release": "1.0",
        "counter": 1,
        "manifest": RELEASE.digest,
    }
    orders.update_accepted(b"the next order", {"order": view, "floors": vars(Floors(1, 3))})
    loop.close()
    assert relay.told == [("begin", ["floors", "folder"]), ("proceed", newer.digest)]


def test_an_order_that_comes_again_begins_no_second_row_of_tries(tmp_path: Path) -> None:
    """AGT-SUP-5: each connection brings the order at once, and leaves one try that waits."""
    clock = [0.0]
    loop, relay = Loop(lambda: clock[0]), Relay()
    StateFile(tmp_path / "update.json", Durable()).begin()
    runner = Runner(StateFile(tmp_path / "update.json", Durable()), Recorder())
    kept = DesiredFile(tmp_path / "desired.json", Durable())
    orders = Orders(loop, runner, relay, SimpleNamespace(agent=lambda *_: None), kept, lambda: True)  # type: ignore[arg-type]  # simulators

    def fails() -> None:
        relay.stop()
        orders.update_failed(b"an order", {"state": None, "error": "StalledError"})

    for _ in range(10):
        orders.received(b"an order")
        fails()
    began = len(relay.told)
    for _ in range(2000):
        clock[0] += 1.0
        loop.run_once(0.0)
        if relay.envelope is not None:
            fails()
    loop.close()
    assert began == 10
    assert len(relay.told) - began <= 4


def test_floors_are_durable_before_the_update_goes_on(tmp_path: Path) -> None:
    """AGT-UPD-1: when the update process hears `proceed`, floors and execution of the order are in update.json."""
    file, found = StateFile(tmp_path / "update.json", Durable()), list[Floors]()

    class Looking(Relay):
        def proceed(self, current: str | None) -> None:
            del current
            found.append(StateFile(tmp_path / "update.json", Durable()).load().floors)

    file.begin()
    runner, loop = Runner(file, Recorder()), Loop()
    kept = DesiredFile(tmp_path / "desired.json", Durable())
    orders = Orders(loop, runner, Looking(), Recorder(), kept, lambda: True)  # type: ignore[arg-type]  # simulators
    orders.received(b"an order")
    view = {"epoch": 1, "seq": 3, "parameters": {}, "model": "har", "release": "1.0", "counter": 1}
    floors = Floors(1, 3, 5, "ff")
    orders.update_accepted(b"an order", {"order": {**view, "manifest": RELEASE.digest}, "floors": vars(floors)})
    loop.close()
    assert found == [floors]


def test_what_nobody_returns_to_is_removed(tmp_path: Path) -> None:
    """AGT-EXE-6: artifacts, downloads and detectors' memories of releases of long ago go; those of kept ones stay."""
    paths, loop = Paths.under(tmp_path), Loop()
    former = replace(RELEASE, digest="sha256:" + "b" * 64)
    state = UpdateState(current=RELEASE, previous=former)
    StateFile(paths.update, Durable()).begin()
    StateFile(paths.update, Durable()).save(state)
    drift = paths.var / "drift"
    for name in (RELEASE.hex, former.hex, "c" * 64):
        for folder in (paths.artifacts, paths.downloads):
            (folder / name).mkdir(parents=True)
        drift.mkdir(exist_ok=True)
        (drift / f"{name}.json").write_text("{}")
        (drift / f"{name}.json.corrupt").write_text("{}")
    workers = SimpleNamespace(serving=None, all=[])
    made = Executions(loop, paths, workers, Relay(), Recorder(), lambda: None, {})  # type: ignore[arg-type]  # simulators
    made.discard_candidate(state)
    loop.close()
    for folder in (paths.artifacts, paths.downloads):
        assert {path.name for path in folder.iterdir()} == {RELEASE.hex, former.hex}
    assert {path.name.partition(".")[0] for path in drift.iterdir()} == {RELEASE.hex, former.hex}
    assert len(list(drift.iterdir())) == 4


def test_another_artifacts_attestation_counts_for_nothing(tmp_path: Path) -> None:
    """AGT-EXE-1: success is said by a worker that attests the very digest that was ordered, and by no other."""
    paths, loop = Paths.under(tmp_path), Loop()
    trial = replace(EXECUTION, stage=Stage.PROBATION, parameters={"probation_windows": 1.0, "probation_s": 1e6})
    StateFile(paths.update, Durable()).begin()
    StateFile(paths.update, Durable()).save(UpdateState(candidate=RELEASE, execution=trial))
    attest = SimpleNamespace(digest="sha256:" + "b" * 64, answered=99, model_sha256="cd")
    workers = SimpleNamespace(serving=SimpleNamespace(attest=attest, pid=1), all=[], promote=lambda: None)
    made = Executions(loop, paths, workers, Relay(), Recorder(), lambda: None, {})  # type: ignore[arg-type]  # simulators
    made.judge()
    assert made.runner.execution is not None
    assert made.runner.execution.stage is Stage.PROBATION
    attest.digest = RELEASE.digest
    made.judge()
    loop.close()
    assert made.runner.execution.stage is Stage.SUCCEEDED

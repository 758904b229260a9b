"""A disk that takes nothing any more: the files that the agent writes cannot be made, because directories lie there."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from outrider_agent.config import Broker, Config, Device
from outrider_agent.control import Message
from outrider_agent.durable import Durable
from outrider_agent.outbox.store import Outbox
from outrider_agent.paths import Paths
from outrider_agent.supervisor.executions import AGAIN_S, Executions
from outrider_agent.supervisor.loop import Loop
from outrider_agent.supervisor.machine import Stage
from outrider_agent.supervisor.state import Release, StateFile, UpdateState
from outrider_agent.supervisor.worker import Worker
from outrider_agent.supervisor.workers import Workers
from tests.agent.supervisor.house import until
from tests.agent.supervisor.test_decisions import EXECUTION, RELEASE, Recorder, Relay
from tests.agent.supervisor.world import World

CONFIG = Config(Device("dev-1", "x86-64"), Broker("127.0.0.1", 1))


def test_a_start_on_a_full_disk_serves(world: World) -> None:
    """AGT-SUP-9: neither state nor outbox can be written at a start: what was current serves, and both come back."""
    world.agent.start()
    world.install("1.0")
    assert world.agent.stop() == 0
    var = world.agent.home / "var"
    before = StateFile(var / "update.json", Durable()).load().starts
    in_the_way = [var / "update.json.tmp", var / "outbox.db-wal"]
    for path in in_the_way:
        path.mkdir()
    world.agent.start()
    until(lambda: world.status(lambda s: s["attest"] and s["connected"]), "it serves")
    assert len(world.infer(20)) == 20
    for path in in_the_way:
        shutil.rmtree(path)
    until(lambda: StateFile(var / "update.json", Durable()).load().starts == before + 1, "the start is counted")
    until(lambda: "is in use again" in world.agent.log(), "the outbox is a file again")
    until(lambda: any(event.body.get("what") == "outbox_in_memory" for event in world.server.events()), "it is told")
    assert world.infer(3)[0] != "None"


def test_the_end_of_a_candidate_is_saved_once_the_disk_is_back(tmp_path: Path) -> None:
    """AGT-SUP-9: what could not be saved is tried again, for the execution that it was said of."""
    paths, clock = Paths.under(tmp_path), [0.0]
    loop = Loop(lambda: clock[0])
    StateFile(paths.update, Durable()).begin()
    trial = replace(EXECUTION, stage=Stage.ACTIVATING)
    StateFile(paths.update, Durable()).save(UpdateState(candidate=RELEASE, execution=trial))
    rolled_back: list[Release | None] = []
    workers = SimpleNamespace(all=[], serving=None, roll_back=lambda current, **_: rolled_back.append(current))
    made = Executions(loop, paths, workers, Relay(), Recorder(), lambda: None, {})  # type: ignore[arg-type]  # simulators
    in_the_way = paths.update.with_name("update.json.tmp")
    in_the_way.mkdir()
    made.candidate_failed({"error": "WorkerEndedError"})
    assert made.runner.execution == trial
    in_the_way.rmdir()
    clock[0] += AGAIN_S
    loop.run_once(0.0)
    loop.close()
    assert made.runner.execution is not None
    assert (made.runner.execution.stage, rolled_back) == (Stage.ROLLING_BACK, [None])


class Said:
    """What a worker is told, instead of a process."""

    def __init__(self) -> None:
        self.alive, self.told = True, list[str]()

    def send(self, op: str, fields: object = None, fds: object = ()) -> None:
        del fields, fds
        self.told.append(op)


def test_a_worker_without_a_lease_serves_and_is_lent_one_later(tmp_path: Path) -> None:
    """AGT-SUP-9: an outbox that gives out no sequence now keeps no worker from serving."""
    outbox, loop = Outbox.open(tmp_path / "o.db", 1 << 20), Loop()
    workers = Workers(loop, Paths.under(tmp_path), CONFIG, lambda: outbox)
    worker = Worker(loop, RELEASE, "serve", lambda: outbox, workers)
    said = Said()
    worker._child = said  # type: ignore[assignment]  # a simulator
    workers.serving = worker
    outbox._database.execute("PRAGMA query_only = ON")
    worker.serve()
    workers.flush_blocking()
    assert said.told == ["serve"]
    outbox._database.execute("PRAGMA query_only = OFF")
    workers.flush_blocking()
    assert said.told == ["serve", "lease"]
    workers.flush_blocking()
    assert said.told == ["serve", "lease"]
    outbox.close()
    loop.close()


def test_a_worker_that_says_nonsense_ends_nothing(tmp_path: Path) -> None:
    """AGT-SUP-10: whichever message is not what it should be is passed over, and the supervisor goes on."""
    outbox, loop = Outbox.open(tmp_path / "o.db", 1 << 20), Loop()
    workers = Workers(loop, Paths.under(tmp_path), CONFIG, lambda: outbox)
    StateFile(tmp_path / "var" / "update.json", Durable()).begin()
    Executions(loop, Paths.under(tmp_path), workers, Relay(), Recorder(), lambda: None, {})  # type: ignore[arg-type]
    worker = workers.shadow = Worker(loop, RELEASE, "shadow", lambda: outbox, workers)
    nonsense: dict[str, dict[str, Any]] = {"event": {"type": "x", "body": 7}, "shadow": {"n": "many"}, "batch": {}}
    for op, fields in nonsense.items():
        worker._message(Message(op, fields))
        worker._message(Message(op, {}))
    outbox.close()
    loop.close()

"""The worker process: load, answer, record, and obey the supervisor, in one loop on one thread.

Rules (docs/spec/local-api.md):

- `probe` loads, passes the golden vectors, prints one JSON object and exits; it opens no socket, and ends with the
  update process that waits for it.
- `serve` and `shadow` say `ready` only after hashing, loading, golden vectors and warming; else `failed`, exit 1.
- The supervisor's end of file ends the worker at once; `stop` and `drain` hand over what is held first.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import socket
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from outrider_agent import control
from outrider_agent.config import Config as AgentConfig
from outrider_agent.config import load as load_config
from outrider_agent.control import Channel, Message
from outrider_agent.drift.detector import Rule
from outrider_agent.drift.monitor import Monitor, entered
from outrider_agent.drift.reference import Reference
from outrider_agent.drift.state import Restored, StateFiles
from outrider_agent.durable import Durable
from outrider_agent.errors import AgentError, ControlError, DurableError
from outrider_agent.paths import Paths
from outrider_agent.worker import engine, golden
from outrider_agent.worker.artifact import Artifact, read_artifact
from outrider_agent.worker.batches import Ledger
from outrider_agent.worker.errors import ArtifactError
from outrider_agent.worker.link import SupervisorLink
from outrider_agent.worker.recorder import Recorder, Rules
from outrider_agent.worker.samples import Policy
from outrider_agent.worker.server import Server
from outrider_agent.worker.service import BODY_MAX_BYTES, Service, refusal
from outrider_agent.worker.shadow import ShadowFeed, ShadowJudge

TICK_S: Final = 1.0
LEASE_WAIT_S: Final = 0.02


@dataclass(frozen=True)
class Ready:
    """A loaded and checked artifact."""

    artifact: Artifact
    loaded: engine.Loaded
    checked: golden.Checked


def prepare(directory: Path, model: str) -> Ready:
    """Read, hash, load, check and warm; raises an `AgentError`."""
    artifact = read_artifact(directory)
    if artifact.config.model != model:
        raise ArtifactError(f"{directory} holds {artifact.config.model!r}, {model!r} was asked for")
    loaded = engine.load(artifact)
    return Ready(artifact, loaded, golden.check(artifact, loaded.engine))


def failure(error: AgentError) -> dict[str, Any]:
    """How an error is told: class, message, hint."""
    return {"error": type(error).__name__, "message": str(error), "hint": error.hint}


def probe(directory: Path, model: str) -> int:
    """Load and check in this process, print one JSON object; 0 where all is well, else 1."""
    try:
        ready = prepare(directory, model)
    except AgentError as error:
        sys.stdout.write(json.dumps({"ok": False, **failure(error)}) + "\n")
        return 1
    told = {
        "ok": True,
        "digest": ready.artifact.digest,
        "model_sha256": ready.loaded.model_sha256,
        "load_ms": ready.loaded.load_ms,
        "latency_us": ready.checked.latency_us,
        "checked": ready.checked.vectors,
    }
    sys.stdout.write(json.dumps(told) + "\n")
    return 0


def monitored(ready: Ready, config: AgentConfig, restored: Restored) -> Monitor | None:
    """The drift monitor, where the artifact ships statistics and agent.toml does not turn it off."""
    statistics = ready.artifact.statistics
    if statistics is None or not config.drift.enabled:
        return None
    reference = Reference.of(statistics, has_embedding=ready.artifact.config.embedding is not None)
    rule = Rule(
        arl_windows=float(statistics.average_run_length), baseline_windows=max(1, config.drift.baseline_windows)
    )
    return Monitor(reference, rule, restored.state)


class Worker:
    """The loop of the roles `serve` and `shadow`."""

    def __init__(
        self, ready: Ready, config: AgentConfig, paths: Paths, link: SupervisorLink, epoll: select.epoll
    ) -> None:
        artifact, statistics = ready.artifact, ready.artifact.statistics
        self._ready, self._link, self._epoll = ready, link, epoll
        self._files = StateFiles(paths.var / "drift", Durable())
        restored = self._files.restore(artifact.config.model, artifact.digest)
        policy = Policy(config.samples.enabled, config.samples.per_batch_max, config.samples.control_ratio)
        self._recorder = Recorder(
            artifact.config,
            artifact.digest,
            statistics.bins if statistics else (),
            monitored(ready, config, restored),
            Ledger(config.device.id, config.telemetry.batch_records),
            Rules(config.telemetry.flush_s, policy),
        )
        self._service = Service(artifact, ready.loaded.engine, self._recorder, self._wait_for_lease)
        self._server = Server(epoll, self._service.handle, _closing_refusal, BODY_MAX_BYTES)
        self._judge: ShadowJudge | None = None
        self._shadow_told = -1
        self._restored, self._serving, self._draining, self._stopping = restored, False, False, False
        self._tick_s, self._waited = 0.0, False

    def run(self) -> int:
        """Until `stop` or the supervisor's end; the exit status."""
        try:
            while not self._stopping:
                for number, mask in self._epoll.poll(self._timeout_s()):
                    self._event(number, mask)
                self._after(time.monotonic())
            self._finish()
        except ControlError:
            return 0  # nobody is left to work for: the supervisor starts what is needed again
        return 0

    def _timeout_s(self) -> float:
        if self._server.has_backlog:
            return 0.0
        due_s = self._recorder.due_s(time.monotonic())
        return TICK_S if due_s is None else min(due_s, TICK_S)

    def _event(self, number: int, mask: int) -> None:
        if self._server.ready(number, mask, time.monotonic()):
            return
        if number == self._link.fileno():
            if mask & select.EPOLLOUT:
                self._link.push()
            self._obey(self._link.receive())
        elif self._judge is not None and number == self._judge.sock.fileno():
            self._compare(self._judge)

    def _after(self, now_s: float) -> None:
        self._server.run_backlog(now_s)
        self._recorder.work(self._link, _now_ms(), now_s)
        if self._draining and self._server.idle:
            self._drained()
        if now_s - self._tick_s >= TICK_S:
            self._tick_s = now_s
            self._every_tick(now_s)

    def _every_tick(self, now_s: float) -> None:
        self._server.expire(now_s)
        if self._serving:
            self._attest()
            self._save(now_s, force=False)
        if self._judge is not None:
            self._tell_shadow(self._judge)

    def _attest(self) -> None:
        loaded, answered = self._ready.loaded, self._service.counters.answered
        self._link.attest(self._ready.artifact.digest, loaded.model_sha256, answered)

    def _save(self, now_s: float, *, force: bool) -> None:
        state = self._recorder.to_save(now_s, force=force)
        if state is None:
            return
        try:
            self._files.save(state)
        except DurableError as error:
            self._link.tell("event", {"type": "agent", "body": {"what": "drift_state_not_saved", **failure(error)}})

    def _obey(self, messages: list[Message]) -> None:
        operations = {
            "lease": self._lease,
            "serve": self._serve,
            "drain": self._drain,
            "flush": self._flush,
            "cleared": self._cleared,
            "shadow_on": self._shadow_on,
            "shadow_off": self._shadow_off,
            "stop": self._stop,
        }
        for message in messages:
            if message.op in operations:
                operations[message.op](message)

    def _lease(self, message: Message) -> None:
        self._waited = False
        self._recorder.ledger.lease(str(message.fields["outbox_id"]), int(message.fields["seq"]))

    def _serve(self, message: Message) -> None:
        del message
        self._serving, self._draining = True, False
        self._server.serve(_listeners())
        self._recorder.begin(self._link)
        self._attest()
        if self._restored.damaged is not None:
            body = {"what": "drift_state_damaged", "message": self._restored.damaged}
            self._link.tell("event", {"type": "agent", "body": body})
        if self._restored.new and self._recorder.phase == "rebaselining":
            self._link.drift(entered(self._restored.state))
        self._restored = Restored(self._restored.state)
        self._save(time.monotonic(), force=True)

    def _drain(self, message: Message) -> None:
        del message
        self._draining = True
        self._server.drain()

    def _drained(self) -> None:
        self._draining = self._serving = False
        self._hand_over()
        self._attest()
        self._save(time.monotonic(), force=True)
        self._link.tell("drained")

    def _flush(self, message: Message) -> None:
        del message
        self._hand_over()

    def _hand_over(self) -> None:
        self._recorder.flush(self._link, _now_ms())
        seq = self._recorder.ledger.give_back()
        if seq is not None:
            self._link.tell("unused", {"seq": seq})

    def _cleared(self, message: Message) -> None:
        if message.fields.get("digest") == self._ready.artifact.digest and self._recorder.cleared(self._link):
            self._save(time.monotonic(), force=True)

    def _shadow_on(self, message: Message) -> None:
        self._shadow_off(message)
        sock, wanted = socket.socket(fileno=message.fds[0]), int(message.fields["n"])
        if self._serving:
            self._service.shadow = ShadowFeed(sock, wanted)
            return
        self._judge = ShadowJudge(sock, self._ready.loaded.engine, self._ready.artifact.config, wanted)
        self._epoll.register(sock.fileno(), select.EPOLLIN)

    def _shadow_off(self, message: Message) -> None:
        del message
        if self._service.shadow is not None:
            self._service.shadow.close()
            self._service.shadow = None
        if self._judge is not None:
            self._end_judging(self._judge)

    def _compare(self, judge: ShadowJudge) -> None:
        reached = judge.finished
        if not judge.step():
            self._end_judging(judge)
        elif judge.finished and not reached:
            self._tell_shadow(judge)

    def _end_judging(self, judge: ShadowJudge) -> None:
        self._tell_shadow(judge)
        self._epoll.unregister(judge.sock.fileno())
        judge.sock.close()
        self._judge = None

    def _tell_shadow(self, judge: ShadowJudge) -> None:
        if judge.count.n + judge.count.dropped != self._shadow_told:
            self._shadow_told = judge.count.n + judge.count.dropped
            self._link.tell("shadow", judge.count.json())

    def _stop(self, message: Message) -> None:
        del message
        self._stopping = True

    def _finish(self) -> None:
        self._server.close()
        if self._serving:
            self._hand_over()
            self._attest()
            self._save(time.monotonic(), force=True)
        self._link.push_all()

    def _wait_for_lease(self) -> None:
        """The next lease is on its way: read the channel, and wait a moment for it, but once for each lease."""
        wait_s = 0.0 if self._waited else LEASE_WAIT_S
        self._waited = True
        deadline_s = time.monotonic() + wait_s
        while self._recorder.ledger.seq is None and not self._stopping:
            left_s = max(0.0, deadline_s - time.monotonic())
            if not select.select([self._link], [], [], left_s)[0]:
                return
            self._obey(self._link.receive())


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _closing_refusal(error: AgentError) -> list[bytes | memoryview]:
    return refusal(error, close=True)


def _listeners() -> list[socket.socket]:
    """Duplicates of the inherited listening sockets, so that a second `serve` finds them open."""
    numbers = [os.environ.get(name, "") for name in (control.LISTEN_FD, control.LISTEN_TCP_FD)]
    return [socket.socket(fileno=os.dup(int(number))) for number in numbers if number.isdigit()]


def attend(directory: Path, model: str) -> int:
    """The roles `serve` and `shadow`: the exit status."""
    channel = Channel.from_environment()
    try:
        paths = Paths.from_environment()
        config = load_config(paths.config)
        ready = prepare(directory, model)
    except AgentError as error:
        channel.send("failed", failure(error))
        return 1
    told = {"digest": ready.artifact.digest, "model_sha256": ready.loaded.model_sha256, "load_ms": ready.loaded.load_ms}
    with select.epoll() as epoll:
        link = SupervisorLink(channel.sock, epoll)
        worker = Worker(ready, config, paths, link, epoll)
        link.tell("ready", told)
        return worker.run()


def main(arguments: list[str] | None = None) -> int:
    """`python -m outrider_agent.worker`; returns the exit status."""
    parser = argparse.ArgumentParser(prog="outrider_agent.worker")
    parser.add_argument("--artifact", type=Path, required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--role", choices=["serve", "shadow", "probe"], required=True)
    chosen = parser.parse_args(arguments)
    if chosen.role == "probe":
        control.die_with_parent()
        return probe(chosen.artifact, chosen.model)
    try:
        return attend(chosen.artifact, chosen.model)
    except ControlError as error:
        sys.stderr.write(f"{error}. {error.hint}\n")
        return 1

"""The supervisor process: puts the parts together and runs the loop.

1. It verifies nothing and never touches a tensor: numpy, onnxruntime, tuf, cryptography and urllib3 are never loaded.
2. Bulk batches are committed at most once in `flush_s`; an event at once.
3. No retained order within 2 s does not mean that there is none: it asks again, with growing pauses.
4. A damaged outbox is set aside and the agent runs on; a full disk is logged and tried again. An outbox that cannot be
   opened at all has a small one in memory in its place until it can: inference goes on, and the loss is reported.
5. Where update.json is lost, what served last serves, the loss is reported, and orders are refused by its name.
6. SIGTERM and SIGINT: workers hand over what they hold, everything is committed, presence says offline.
"""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Callable
from typing import Final

from outrider_agent import enrolled
from outrider_agent.clock import Now
from outrider_agent.config import Config
from outrider_agent.durable import Durable
from outrider_agent.errors import AgentError, DurableError, NotEnrolledError, OutboxError
from outrider_agent.outbox.schema import OutboxDamagedError
from outrider_agent.outbox.store import Outbox
from outrider_agent.paths import Paths
from outrider_agent.supervisor import removal
from outrider_agent.supervisor.broker_link import BrokerLink, Connected, Credentials, Fact, Lost, Received, Refused
from outrider_agent.supervisor.executions import Executions, now_ms
from outrider_agent.supervisor.import_socket import ImportSocket
from outrider_agent.supervisor.journal import Journal
from outrider_agent.supervisor.lock import only_agent
from outrider_agent.supervisor.loop import Loop, Timer
from outrider_agent.supervisor.relay import UpdateRelay
from outrider_agent.supervisor.removal import Removal
from outrider_agent.supervisor.renewer import Renewer
from outrider_agent.supervisor.reporter import Reporter
from outrider_agent.supervisor.sender import Sender
from outrider_agent.supervisor.settings import update_settings
from outrider_agent.supervisor.state import StateFile
from outrider_agent.supervisor.status_socket import StatusSocket
from outrider_agent.supervisor.workers import Workers
from outrider_agent.update import trust_file
from outrider_protocol import topics
from outrider_protocol.errors import ProtocolError
from outrider_protocol.messages import Ack, Presence

_LOG: Final = logging.getLogger(__name__)
ASK_AGAIN_S: Final = (2.0, 4.0, 8.0, 30.0)
STOP_S: Final = 5.0
OUTBOX_AGAIN_S: Final = 5.0
EVENTS_MOVED: Final = 10_000
ORDER_BYTES_MAX: Final = 64 * 1024


class Supervisor:
    """One agent, running."""

    def __init__(self, paths: Paths, config: Config) -> None:
        self._paths, self._config, self._device = paths, config, config.device.id
        self.loop = Loop()
        self._outbox_missing: AgentError | None = None
        self._outbox = self._outbox_or_memory(self._open_outbox)
        self._workers = Workers(self.loop, paths, config, self._current_outbox)
        self._changed_pending = False
        self._session = 0
        self._connected = False
        self._asking: Timer | None = None
        self._stopping = False
        credentials = Credentials.under(paths.identity, self._now)
        self._journal = Journal(self._current_outbox, now_ms, self._send_soon)
        # The link needs the number of this start, the executions need the relay, the relay needs the link.
        starts = StateFile(paths.update, Durable()).recall().state.starts + 1
        self._link = BrokerLink(self._device, config.broker, credentials, starts, self.loop.wake)
        self._relay = UpdateRelay(self.loop, self._link)
        settings = update_settings(config)
        self.executions = Executions(
            self.loop, paths, self._workers, self._relay, self._journal, self._changed, settings
        )
        self._sender = Sender(self._device, self._current_outbox, self._link, config.telemetry, self.loop.now_s)
        self._reporter = Reporter(config, lambda: self.executions.state, self._workers, self._current_outbox, now_ms)
        self._renewer = Renewer(
            self.loop,
            self._link,
            self._journal,
            self._now,
            device=self._device,
            server=config.server.url,
            every_s=config.supervisor.renew_every_s,
        )
        self._removal = Removal(self.loop, paths, self._workers, self._journal, self._current_outbox, self.stop)
        if config.device.erasable:
            self._relay.on_removal = self._removal.begin
        self._status = StatusSocket(self.loop, paths.status_socket, self._status_now)
        self._imports = ImportSocket(self.loop, paths.import_socket, self.executions.orders)

    def run(self) -> None:
        """Until SIGTERM or SIGINT."""
        self.loop.on_wake(self._facts)
        self._guarded(self.executions.start if self._removal.order is None else self._removal.resume)
        self._tell_loss()
        self._link.start()
        self._renewer.start()
        self.loop.call_every(self._config.telemetry.flush_s, self._flush)
        self.loop.call_every(OUTBOX_AGAIN_S, self._back_to_the_file)
        self.loop.call_every(1.0, self.executions.judge)
        self.loop.call_every(self._config.supervisor.state_every_s, self._changed)
        while not self._stopping:
            self._guarded(self.loop.run)
        self._close()

    def _tell_loss(self) -> None:
        lost = self.executions.runner.lost
        if lost is not None:
            _LOG.error("%s (%s)", lost, lost.hint)
            self._journal.agent("state_lost", {"message": str(lost), "hint": lost.hint})
        self._tell_missing_outbox()

    def _tell_missing_outbox(self) -> None:
        missing = self._outbox_missing
        if missing is not None:
            self._journal.agent("outbox_in_memory", {"message": str(missing)[:500], "hint": missing.hint})

    def stop(self) -> None:
        """Leave the loop; may be called from a signal handler."""
        self._stopping = True
        self.loop.stop()

    def _now(self) -> Now:
        """Called in the link's thread: reads one reference."""
        return Now.read(self.executions.state.floors.time_ms)

    def _current_outbox(self) -> Outbox:
        return self._outbox

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except OutboxDamagedError as error:
            self._renew_outbox(error)
        except (OutboxError, DurableError) as error:
            _LOG.error("%s (%s)", error, error.hint)
            self.loop.wake()

    def _open_outbox(self) -> Outbox:
        return Outbox.open(self._paths.outbox, self._config.telemetry.outbox_bytes)

    def _outbox_or_memory(self, opening: Callable[[], Outbox]) -> Outbox:
        try:
            opened, self._outbox_missing = opening(), None
        except (OutboxError, DurableError) as error:
            _LOG.error("%s (%s): telemetry is held in memory", error, error.hint)
            opened, self._outbox_missing = Outbox.in_memory(self._paths.outbox), error
        return opened

    def _renew_outbox(self, error: OutboxDamagedError) -> None:
        _LOG.error("%s (%s)", error, error.hint)
        self._take_outbox(self._outbox_or_memory(self._outbox.renew))
        self._journal.agent("outbox_renewed", {"message": str(error)})
        self._tell_missing_outbox()

    def _take_outbox(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self._sender.renewed()
        for worker in self._workers.all:
            worker.lend_anew()

    def _back_to_the_file(self) -> None:
        if self._outbox_missing is None:
            return
        try:
            opened = self._open_outbox()
        except (OutboxError, DurableError):
            return  # said when it was missed
        held, self._outbox_missing = self._outbox, None
        self._take_outbox(opened)
        for item in held.sendable("event", held.acked()["event"], EVENTS_MOVED):
            opened.put("event", item.kind, item.n, item.body)
        held.close()
        _LOG.warning("the outbox %s is in use again", opened.path)

    # ---------------------------------------------------------------- the connection

    def _facts(self) -> None:
        for fact in self._link.facts():
            self._fact(fact)

    def _fact(self, fact: Fact) -> None:
        if isinstance(fact, Received):
            self._received(fact.topic, fact.payload)
        elif isinstance(fact, Connected):
            self._on_connected(fact.session)
        elif isinstance(fact, Lost):
            self._on_lost(fact)
        elif isinstance(fact, Refused):
            _LOG.error("the broker refused the subscription of %s", ", ".join(fact.topics))

    def _on_connected(self, session: int) -> None:
        _LOG.info("connected to %s:%d", self._config.broker.host, self._config.broker.port)
        self._session, self._connected, self._renewer.connected = session, True, True
        self._link.publish(topics.presence(self._device), Presence(session, True).encode(), retain=True)
        self._ask(0)
        self._relay.connected()
        self._send_state()
        self._sender.connected()

    def _on_lost(self, fact: Lost) -> None:
        level = logging.WARNING if fact.had_connected else logging.INFO
        _LOG.log(level, "no connection: %s", fact.reason)
        self._connected = self._renewer.connected = False
        self._sender.lost()
        if self._asking is not None:
            self._asking.cancel()

    def _ask(self, times: int) -> None:
        if not self._connected:
            return
        self._link.subscribe([topics.all_down(self._device)])
        wait_s = ASK_AGAIN_S[min(times, len(ASK_AGAIN_S) - 1)]
        self._asking = self.loop.call_later(wait_s, lambda: self._ask(times + 1))

    def _received(self, topic: str, payload: bytes) -> None:
        if topic == topics.desired(self._device):
            if self._asking is not None:
                self._asking.cancel()
            if payload and len(payload) <= ORDER_BYTES_MAX and self._removal.order is None:
                self.executions.orders.received(payload)
        elif topic == topics.ack(self._device):
            self._ack(payload)
        elif topic == topics.certificate(self._device):
            self._renewer.answered(payload)
        else:
            self._relay.message(topic, payload)

    def _ack(self, payload: bytes) -> None:
        try:
            ack = Ack.decode(payload)
        except ProtocolError as error:
            _LOG.warning("an ack was not understood: %s", error)
            return
        self._sender.acked(ack)
        if ack.cleared is not None:
            for worker in self._workers.all:
                worker.send("cleared", {"digest": ack.cleared})

    # ---------------------------------------------------------------- every now and then

    def _flush(self) -> None:
        self._workers.flush_blocking()
        self._outbox.commit()
        self._sender.send()

    def _send_soon(self) -> None:
        self.loop.call_later(0.0, self._sender.send)

    def _changed(self) -> None:
        """Something that the server is told changed; several changes are one message."""
        if not self._changed_pending:
            self._changed_pending = True
            self.loop.call_later(0.05, self._send_state)

    def _send_state(self) -> None:
        self._changed_pending = False
        if self._connected:
            self._link.publish(topics.state(self._device), self._reporter.reported(self._session).encode())

    def _status_now(self) -> dict[str, object]:
        lost = self.executions.runner.lost
        return {**self._reporter.status(self._session, self._connected), "lost": str(lost) if lost else None}

    # ---------------------------------------------------------------- the end

    def _close(self) -> None:
        self._relay.stop()
        self._renewer.stop()
        leaving = self._workers.all
        self._workers.stop(STOP_S)
        deadline_s = time.monotonic() + STOP_S
        while any(worker.alive for worker in leaving) and time.monotonic() < deadline_s:
            self._guarded(lambda: self.loop.run_once(0.1))
        for worker in leaving:
            worker.kill()
            worker.wait(STOP_S)
        self._guarded(self._outbox.commit)
        self._guarded(self._sender.send)
        self._link.stop(farewell=self._removal.order is None)
        self._guarded(self._outbox.close)
        self._status.close()
        self._imports.close()
        self._workers.close()
        if self._removal.order is not None:
            removal.erase(self._paths, Durable())
            _LOG.warning("this device was decommissioned: its keys, models and records are erased")


def prepare(paths: Paths, disk: Durable) -> None:
    """Directories with their permissions; raises `NotEnrolledError` before the device has an identity."""
    enrolled.finish(paths, disk)
    if not (paths.identity / "device.pem").exists():
        raise NotEnrolledError(f"{paths.identity}: no certificate")
    for directory in (paths.artifacts, paths.downloads, paths.trust):
        disk.make_directory(directory)
        disk.settle(directory)
    trust_file.sweep(paths.trust)
    if not paths.run.is_dir():
        paths.run.mkdir(parents=True)
        paths.run.chmod(0o755)  # whatever the umask: applications of other users reach the sockets below


def run(paths: Paths, config: Config) -> None:
    """Run the agent in this process until a signal, or until it was erased."""
    os.umask(0o077)
    with only_agent(paths.lock):
        if removal.read(paths) is not None and not (paths.identity / "device.key").exists():
            removal.erase(paths, Durable())  # the last process was interrupted when the keys had gone
        prepare(paths, Durable())
        supervisor = Supervisor(paths, config)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: supervisor.stop())
        supervisor.run()

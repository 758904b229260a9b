"""The update process as the supervisor sees it: it is fed messages, and says how far it has come.

1. One at a time. It is started for one order envelope and ends with `staged`, `failed` or its death.
2. It asks for exact topics; they are asked for again on every new connection, and given back when it ends.
3. Only topics under `o1/trust/` and `o1/blob/` are forwarded: it cannot ask for anything else.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Any, Final, Protocol

from outrider_agent.control import Message
from outrider_agent.supervisor.child import Child
from outrider_agent.supervisor.loop import Loop

_LOG: Final = logging.getLogger(__name__)
_ALLOWED: Final = ("o1/trust/", "o1/blob/")
STOP_GRACE_S: Final = 2.0


class Subscriber(Protocol):
    """What the relay needs of the connection."""

    def subscribe(self, filters: Iterable[str]) -> None: ...
    def unsubscribe(self, filters: Iterable[str]) -> None: ...


class Hearer(Protocol):
    """Who hears of the order's way."""

    def update_accepted(self, envelope: bytes, fields: dict[str, Any]) -> None: ...
    def update_progress(self, fields: dict[str, Any]) -> None: ...
    def update_staged(self, fields: dict[str, Any]) -> None: ...
    def update_failed(self, envelope: bytes, fields: dict[str, Any]) -> None: ...


def _ignore_removal(order: dict[str, Any]) -> None:
    _LOG.error("an order to erase this device is not obeyed: %s", order)


class UpdateRelay:
    """Runs the update process."""

    def __init__(self, loop: Loop, link: Subscriber) -> None:
        self._loop, self._link = loop, link
        self.hearer: Hearer
        self.on_removal: Callable[[dict[str, Any]], None] = _ignore_removal
        self._child: Child | None = None
        self._leaving: Child | None = None
        self._topics: set[str] = set()
        self._envelope = b""

    @property
    def envelope(self) -> bytes | None:
        """The order that is being worked on."""
        return self._envelope if self._child is not None else None

    def begin(self, envelope: bytes, fields: dict[str, Any]) -> None:
        """Start on an order; a process for another one is ended first."""
        self.stop()
        child: Child
        child = Child(self._loop, "update process", lambda m: self._heard(child, m), lambda s: self._ended(child, s))
        child.start(["outrider_agent.update"])
        self._child, self._envelope = child, envelope
        child.send("begin", fields, envelope)

    def proceed(self, current: str | None) -> None:
        """The accepted order is durable; `current` is the digest that runs and has succeeded at this moment."""
        if self._child is not None:
            self._child.send("proceed", {"current": current})

    def message(self, topic: str, payload: bytes) -> None:
        """Forward a message that it asked for."""
        if self._child is not None and topic in self._topics:
            self._child.send("message", {"topic": topic}, payload)

    def connected(self) -> None:
        """Ask again for what it still waits for."""
        self._link.subscribe(sorted(self._topics))

    def stop(self) -> None:
        """End it; what it has fetched stays."""
        child, self._child = self._child, None
        self._forget_topics()
        if child is not None:
            self._leaving = child
            child.terminate(STOP_GRACE_S)

    @property
    def is_leaving(self) -> bool:
        """Whether a process that was asked to leave is still there."""
        return self._leaving is not None and self._leaving.alive

    def _heard(self, child: Child, message: Message) -> None:
        if child is not self._child:
            return
        if message.op == "subscribe":
            self._subscribe(message.fields["topics"])
        elif message.op == "unsubscribe":
            self._topics.difference_update(message.fields["topics"])
            self._link.unsubscribe(message.fields["topics"])
        elif message.op == "accepted":
            self.hearer.update_accepted(self._envelope, message.fields)
        elif message.op == "progress":
            self.hearer.update_progress(message.fields)
        elif message.op == "staged":
            self._done(lambda _: self.hearer.update_staged(message.fields))
        elif message.op == "removal":
            self._done(lambda _: self.on_removal(message.fields["order"]))
        elif message.op == "failed":
            self._done(lambda envelope: self.hearer.update_failed(envelope, message.fields))

    def _subscribe(self, wanted: list[str]) -> None:
        allowed = [topic for topic in wanted if topic.startswith(_ALLOWED) and "+" not in topic and "#" not in topic]
        self._topics.update(allowed)
        self._link.subscribe(allowed)

    def _done(self, tell: Callable[[bytes], None]) -> None:
        envelope = self._envelope
        self.stop()
        tell(envelope)

    def _ended(self, child: Child, status: int) -> None:
        if child is not self._child:
            return
        _LOG.error("the update process ended with status %d", status)
        self._child = None
        self._forget_topics()
        fields = {"state": None, "error": "UpdateProcessEndedError", "message": f"exit status {status}", "hint": ""}
        self.hearer.update_failed(self._envelope, fields)

    def _forget_topics(self) -> None:
        self._link.unsubscribe(sorted(self._topics))
        self._topics.clear()

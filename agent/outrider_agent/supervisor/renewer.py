"""When this device's certificate is looked after: a short-lived process does it, the supervisor carries its messages.

1. Soon after the start, and then every `renew_every_s`; sooner where an operator's approval is waited for.
2. One process at a time; one that does not answer is ended.
3. What came of it is said once: an event for the operator, a line in the log. The connection goes on: the next one uses
   the new certificate.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from outrider_agent.clock import Now
from outrider_agent.control import Message
from outrider_agent.supervisor.broker_link import BrokerLink
from outrider_agent.supervisor.child import Child
from outrider_agent.supervisor.journal import Journal
from outrider_agent.supervisor.loop import Loop, Timer
from outrider_protocol import topics

FIRST_S: Final = 20.0
WAITING_S: Final = 600.0
LIMIT_S: Final = 90.0
_LOG: Final = logging.getLogger(__name__)


class Renewer:
    """Starts `outrider_agent.renewal` now and then."""

    def __init__(
        self,
        loop: Loop,
        link: BrokerLink,
        journal: Journal,
        now: Callable[[], Now],
        *,
        device: str,
        server: str,
        every_s: float,
    ) -> None:
        self._loop, self._link, self._journal, self._now = loop, link, journal, now
        self._device, self._server, self._every_s = device, server, every_s
        self._child: Child | None = None
        self._said = ("", "")
        self._timer: Timer | None = None
        self.connected = False

    def start(self) -> None:
        """Begin; the first look comes soon."""
        self._look_in(min(FIRST_S, self._every_s))

    def _look_in(self, wait_s: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(wait_s, self._look)

    def stop(self) -> None:
        """End what runs."""
        child, self._child = self._child, None
        if child is not None:
            child.kill()

    def answered(self, payload: bytes) -> None:
        """The server's answer came over the connection."""
        if self._child is not None:
            self._child.send("message", {}, payload)

    def _look(self) -> None:
        self._look_in(self._every_s)
        if self._child is not None:
            return
        child: Child
        child = Child(self._loop, "renewal", lambda m: self._heard(child, m), lambda s: self._ended(child, s))
        child.start(["outrider_agent.renewal"])
        self._child = child
        floor_ms = self._now().floor_ms
        child.send("begin", {"connected": self.connected, "server": self._server, "verified_ms": floor_ms})
        self._loop.call_later(LIMIT_S, child.kill)

    def _heard(self, child: Child, message: Message) -> None:
        if child is not self._child:
            return
        if message.op == "request":
            self._link.publish(topics.renew(self._device), message.blob or b"")
        elif message.op == "done":
            self._done(str(message.fields["outcome"]), str(message.fields["message"]), str(message.fields["hint"]))

    def _done(self, outcome: str, message: str, hint: str) -> None:
        if outcome == "waiting":
            self._look_in(min(WAITING_S, self._every_s))
        if outcome == "current" or (outcome, message) == self._said:
            return
        self._said = (outcome, message)
        level = logging.INFO if outcome == "renewed" else logging.WARNING
        _LOG.log(level, "certificate: %s %s %s", outcome, message, hint)
        self._journal.agent(f"certificate_{outcome}", {"message": message[:500], "hint": hint})

    def _ended(self, child: Child, status: int) -> None:
        if child is self._child:
            self._child = None
            if status:
                _LOG.error("the renewal process ended with status %d", status)

"""The event stream: rollout, drift and agent events, durable in the outbox when a call returns.

1. An event is never dropped and never sent before it is committed.
2. `clock_ok` is false while the device's clock stands before this agent was built.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Final

from outrider_agent.clock import BUILD_MS
from outrider_agent.errors import OutboxError
from outrider_agent.outbox.store import Outbox
from outrider_protocol import telemetry
from outrider_protocol.messages import Event, ExecutionReport

_LOG: Final = logging.getLogger(__name__)


class Journal:
    """Writes events."""

    def __init__(self, outbox: Callable[[], Outbox], clock_ms: Callable[[], int], written: Callable[[], None]) -> None:
        self._outbox, self._clock_ms, self._written = outbox, clock_ms, written

    def execution(self, report: ExecutionReport) -> None:
        """An execution entered a state."""
        self.event("execution", report.body())

    def agent(self, what: str, detail: dict[str, Any]) -> None:
        """Something else that the operator should know."""
        self.event("agent", {"what": what, **detail})

    def event(self, kind: str, body: dict[str, Any]) -> None:
        """Any event."""
        at_ms = self._clock_ms()
        event = Event(kind, at_ms, at_ms >= BUILD_MS, body)
        try:
            self._outbox().put("event", "event", 1, telemetry.event_body(event))
        except OutboxError as error:
            _LOG.error("an event waits in memory: %s", error)
        self._written()

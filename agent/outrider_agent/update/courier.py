"""Fetches messages of exact topics through the supervisor.

1. At most `window` topics are subscribed at once; each arrival makes room for the next.
2. What has not come is asked for again every `again_s`: a missing retained message may be a late one.
3. `stop` ends the process in good order; the supervisor's end of file ends it too.

    courier = Courier(channel)
    for topic, data in courier.fetch(topics, stall_s=30.0): ...
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from outrider_agent.control import Channel, Message
from outrider_agent.update.errors import StalledError

WINDOW: Final = 32
AGAIN_S: Final = 2.0
STALL_S: Final = 30.0


class Stopped(SystemExit):
    """The supervisor wants this process to leave: exit status 0."""

    def __init__(self) -> None:
        super().__init__(0)


class Courier:
    """The update process's only way to the outside."""

    def __init__(self, channel: Channel, clock: Callable[[], float] = time.monotonic) -> None:
        self._channel, self._now_s = channel, clock

    def expect(self, op: str, timeout_s: float) -> Message | None:
        """The next message with this operation; others are dropped. None when it did not come in time."""
        deadline_s = self._now_s() + timeout_s
        while (left_s := deadline_s - self._now_s()) > 0:
            message = self._next(left_s)
            if message is not None and message.op == op:
                return message
        return None

    def fetch(
        self, topics: Sequence[str], stall_s: float = STALL_S, window: int = WINDOW, again_s: float = AGAIN_S
    ) -> Iterator[tuple[str, bytes]]:
        """Yield (topic, payload) of every topic, as they arrive; raises `StalledError` after `stall_s` of silence."""
        waiting, open_topics = deque(topics), dict[str, None]()
        last_s = asked_s = self._now_s()
        try:
            while waiting or open_topics:
                self._open_more(waiting, open_topics, window)
                message = self._next(again_s)
                if message is not None and message.op == "message" and message.fields["topic"] in open_topics:
                    topic = str(message.fields["topic"])
                    del open_topics[topic]
                    last_s = self._now_s()
                    yield topic, message.blob or b""
                elif self._now_s() - last_s > stall_s:
                    missing = len(waiting) + len(open_topics)
                    raise StalledError(f"no answer for {stall_s:.0f} s; {missing} messages are missing")
                elif self._now_s() - max(last_s, asked_s) > again_s and open_topics:
                    asked_s = self._now_s()
                    self._channel.send("subscribe", {"topics": list(open_topics)})
        finally:
            self._channel.send("unsubscribe", {"topics": list(topics)})

    def pause(self, pause_s: float) -> None:
        """Let time pass; messages that come are dropped."""
        deadline_s = self._now_s() + pause_s
        while (left_s := deadline_s - self._now_s()) > 0:
            self._next(left_s)

    def _open_more(self, waiting: deque[str], open_topics: dict[str, None], window: int) -> None:
        fresh: list[str] = []
        while waiting and len(open_topics) < window:
            topic = waiting.popleft()
            open_topics[topic] = None
            fresh.append(topic)
        if fresh:
            self._channel.send("subscribe", {"topics": fresh})

    def _next(self, timeout_s: float) -> Message | None:
        message = self._channel.receive_within(timeout_s)
        if message is not None and message.op == "stop":
            raise Stopped
        return message

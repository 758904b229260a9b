"""Bytes from the broker's retained topics, fetched through the supervisor.

1. Subscriptions go out in order and retained messages come back in order: `online.json` and the model's role are asked
   for together, so that they are of one moment wherever they can be.
2. A retained message that is missing may be a late one: silence means "cannot refresh", never "there is none". Only
   what `online.json` itself says does not exist (a root above its newest) is not asked for.
3. Roots are asked for by windows, not one by one: a device that slept through fifty rotations catches up in two.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from outrider_agent.update.courier import WINDOW, Courier
from outrider_agent.update.errors import CannotRefreshError, StalledError
from outrider_protocol import documents, limits, topics
from outrider_protocol.errors import TooLargeError
from outrider_protocol.messages import TrustOnline

WAIT_S: Final = 10.0
ROOT_WAIT_S: Final = 5.0


class BrokerSource:
    """See `sources.Source`; for the documents of one model's devices."""

    def __init__(self, courier: Courier, model: str) -> None:
        self._courier, self._model = courier, model
        self._found: dict[str, bytes] = {}
        self._newest: int | None = None

    def document(self, name: str, limit_bytes: int) -> bytes | None:
        """See `Source`."""
        if name not in self._found:
            self._fetch(name)
        data = self._found.get(name)
        if data is not None and len(data) > limit_bytes:
            raise TooLargeError(name, len(data), limit_bytes)
        return data

    def chunks(self, hex_digest: str, numbers: Sequence[int]) -> Iterator[tuple[int, bytes]]:
        """See `Source`."""
        wanted = {topics.blob(hex_digest, number): number for number in numbers}
        for topic, data in self._courier.fetch(list(wanted)):
            yield wanted[topic], data

    def _fetch(self, name: str) -> None:
        number = documents.root_number(name)
        if number is None:
            pair = (documents.ONLINE, documents.role(self._model))
            self._bring([*pair, *({name} - set(pair))], WAIT_S)
            return
        last = min(self._newest_root(), number + WINDOW - 1)
        self._bring([documents.root(n) for n in range(number, last + 1)], ROOT_WAIT_S)

    def _newest_root(self) -> int:
        if self._newest is None:
            online = self.document(documents.ONLINE, limits.TRUST_ONLINE_BYTES) or b""
            self._newest = TrustOnline.decode(online).root_version
        return self._newest

    def _bring(self, names: list[str], wait_s: float) -> None:
        wanted = {documents.topic_of(name): name for name in names}
        try:
            for topic, data in self._courier.fetch(list(wanted), stall_s=wait_s):
                self._found[wanted[topic]] = data
        except StalledError as error:
            missing = [name for name in names if name not in self._found]
            if documents.root_number(names[0]) is None or names[0] in missing:
                raise CannotRefreshError(f"{', '.join(missing)}: {error}") from error

"""The supervisor's socket for orders that a person brings in a folder: one request a connection, then news of it.

1. The request is one line of JSON, `{"folder", "envelope"}`, of at most `REQUEST_BYTES`; it comes from the agent's own
   user or root: the socket is 0600. The order in it is judged like any other.
2. News are lines of JSON as `orders.Orders.news` gives them; after the one with `ended` the connection is closed.
3. Who connects and says nothing, or too much, is dropped; nobody holds the supervisor up.
"""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any, Final

from outrider_agent.supervisor.listeners import OwnSocket
from outrider_agent.supervisor.loop import Loop
from outrider_agent.supervisor.orders import Orders
from outrider_protocol import canonical, limits
from outrider_protocol.errors import ProtocolError
from outrider_protocol.fields import Fields

REQUEST_BYTES: Final = 64 * 1024
REQUEST_S: Final = 5.0


class ImportSocket:
    """Takes imports; tells those who wait."""

    def __init__(self, loop: Loop, path: Path, orders: Orders) -> None:
        self._loop, self._orders = loop, orders
        self._waiting: list[_Visitor] = []
        self._socket = OwnSocket(loop, path, self._visited, mode=0o600)
        orders.news = self._news

    def close(self) -> None:
        """Take no more; those who wait see the end of the connection."""
        for visitor in self._waiting:
            visitor.drop()
        self._socket.close()

    def _visited(self, connection: socket.socket) -> None:
        self._waiting = [visitor for visitor in self._waiting if visitor.alive]
        visitor = _Visitor(self._loop, connection, self._orders)
        self._waiting.append(visitor)
        self._loop.call_later(REQUEST_S, visitor.drop_silent)

    def _news(self, envelope: bytes, news: dict[str, Any]) -> None:
        for visitor in self._waiting:
            visitor.tell(envelope, news)


class _Visitor:
    """One connection."""

    def __init__(self, loop: Loop, connection: socket.socket, orders: Orders) -> None:
        self._loop, self._connection, self._orders = loop, connection, orders
        self._asked, self._envelope, self.alive = b"", b"", True
        loop.watch(connection, self._readable)

    def drop(self) -> None:
        """End it."""
        if self.alive:
            self.alive = False
            self._loop.forget(self._connection)
            self._connection.close()

    def drop_silent(self) -> None:
        """End it unless it has asked for something."""
        if not self._envelope:
            self.drop()

    def tell(self, envelope: bytes, news: dict[str, Any]) -> None:
        """Send news of its own order; the last ones end it."""
        if not self.alive or envelope != self._envelope:
            return
        try:
            self._connection.sendall(json.dumps(news).encode() + b"\n")
        except OSError:
            self.drop()
        if news.get("ended"):
            self.drop()

    def _readable(self) -> None:
        try:
            part = self._connection.recv(REQUEST_BYTES)
        except BlockingIOError:
            return
        except OSError:
            part = b""
        self._asked += part
        if not part or len(self._asked) > REQUEST_BYTES:
            self.drop()
        elif self._asked.endswith(b"\n") and not self._envelope:
            self._ask(self._asked)

    def _ask(self, line: bytes) -> None:
        try:
            fields = Fields(canonical.decode(line, REQUEST_BYTES, "import"), "import")
            self._envelope, folder = fields.text("envelope", limit=limits.ORDER_BYTES).encode(), fields.text("folder")
        except ProtocolError:
            self.drop()
            return
        if not self._envelope or not Path(folder).is_absolute():
            self.drop()
            return
        self._orders.imported(self._envelope, folder)

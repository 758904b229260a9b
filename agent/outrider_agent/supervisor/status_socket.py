"""The supervisor's own socket: whoever connects gets one JSON object and the end of file."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from outrider_agent.supervisor.listeners import listen_unix
from outrider_agent.supervisor.loop import Loop

SEND_BYTES: Final = 256 * 1024


class StatusSocket:
    """Answers `outrider-agent status`."""

    def __init__(self, loop: Loop, path: Path, status: Callable[[], dict[str, Any]]) -> None:
        self._status, self._path = status, path
        self._server = listen_unix(path)
        self._server.setblocking(False)
        loop.watch(self._server, self._accept)

    def close(self) -> None:
        """Stop answering."""
        self._server.close()
        self._path.unlink(missing_ok=True)

    def _accept(self) -> None:
        try:
            connection, _ = self._server.accept()
        except OSError:
            return
        with connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BYTES)
            connection.setblocking(False)
            try:
                connection.sendall(json.dumps(self._status()).encode())
            except OSError:
                return

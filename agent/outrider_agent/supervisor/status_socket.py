"""The supervisor's own socket: whoever connects gets one JSON object and the end of file."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from outrider_agent.supervisor.listeners import OwnSocket
from outrider_agent.supervisor.loop import Loop

SEND_BYTES: Final = 256 * 1024


class StatusSocket:
    """Answers `outrider-agent status`."""

    def __init__(self, loop: Loop, path: Path, status: Callable[[], dict[str, Any]]) -> None:
        self._status = status
        self._socket = OwnSocket(loop, path, self._visited)

    def close(self) -> None:
        """Stop answering."""
        self._socket.close()

    def _visited(self, connection: socket.socket) -> None:
        with connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BYTES)
            try:
                connection.sendall(json.dumps(self._status()).encode())
            except OSError:
                return

"""Listening sockets: the local API's, made once a model and inherited by every worker of it, and the supervisor's own.

1. A swap of workers closes no listening socket: a connection attempt waits in the backlog and is never refused.
2. The Unix socket is for owner and group (0660); a file of an earlier agent is replaced (`lock` lets one agent run).
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from outrider_agent.config import Model
from outrider_agent.control import LISTEN_FD, LISTEN_TCP_FD
from outrider_agent.errors import ConfigError
from outrider_agent.supervisor.loop import Loop

BACKLOG: Final = 256


@dataclass(frozen=True)
class Listeners:
    """The sockets of one model."""

    unix: socket.socket
    tcp: socket.socket | None

    def descriptors(self) -> dict[str, int]:
        """Environment name → descriptor, as a worker inherits them."""
        named = {LISTEN_FD: self.unix.fileno()}
        if self.tcp is not None:
            named[LISTEN_TCP_FD] = self.tcp.fileno()
        return named

    def close(self) -> None:
        """Stop listening."""
        self.unix.close()
        if self.tcp is not None:
            self.tcp.close()


class OwnSocket:
    """A Unix socket that the loop watches: each connection goes to `visited`, which does not block."""

    def __init__(self, loop: Loop, path: Path, visited: Callable[[socket.socket], None], mode: int = 0o660) -> None:
        self._path, self._visited = path, visited
        self._server = listen_unix(path, mode)
        self._server.setblocking(False)
        loop.watch(self._server, self._accept)

    def close(self) -> None:
        """Take no more connections."""
        self._server.close()
        self._path.unlink(missing_ok=True)

    def _accept(self) -> None:
        try:
            connection, _ = self._server.accept()
        except OSError:
            return  # who came has gone again
        connection.setblocking(False)
        self._visited(connection)


def listen(path: Path, model: Model) -> Listeners:
    """Open the sockets of one model; raises `ConfigError` when an address is taken."""
    unix = listen_unix(path)
    try:
        return Listeners(unix, _listen_tcp(model.http) if model.http else None)
    except ConfigError:
        unix.close()
        raise


def listen_unix(path: Path, mode: int = 0o660) -> socket.socket:
    """A listening Unix socket; a stale file is replaced."""
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    server = socket.socket(socket.AF_UNIX)
    try:
        server.bind(str(path))
    except OSError as error:
        server.close()
        hint = "A socket's path has at most 107 bytes: use a shorter directory."
        raise ConfigError(f"{path}: {error}", hint) from error
    path.chmod(mode)
    server.listen(BACKLOG)
    return server


def _listen_tcp(address: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    family = socket.AF_INET6 if host.startswith("[") else socket.AF_INET
    try:
        return socket.create_server((host.strip("[]"), int(port)), family=family, backlog=BACKLOG)
    except (OSError, ValueError, OverflowError) as error:
        raise ConfigError(f"http {address!r}: {error}") from error

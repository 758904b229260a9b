"""Messages between the server and the signer: a length (4 bytes, big endian) and one JSON object.

1. At most `FRAME_BYTES`, checked before anything is read.
2. A Unix socket's path may be as long as the file system allows.
"""

import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from outrider_protocol import canonical, limits
from outrider_protocol.errors import MalformedError, TooLargeError

FRAME_BYTES: Final = 8 * limits.MIB
_LENGTH: Final = struct.Struct(">I")


def send(connection: socket.socket, value: dict[str, Any]) -> None:
    """Send one object."""
    data = canonical.encode(value)
    if len(data) > FRAME_BYTES:
        raise TooLargeError("signer message", len(data), FRAME_BYTES)
    connection.sendall(_LENGTH.pack(len(data)) + data)


def receive(connection: socket.socket) -> dict[str, Any] | None:
    """Read one object; None when the other side is done. Raises `MalformedError` or `TooLargeError`."""
    header = _exactly(connection, _LENGTH.size)
    if not header:
        return None
    (length,) = _LENGTH.unpack(header)
    if length > FRAME_BYTES:
        raise TooLargeError("signer message", length, FRAME_BYTES)
    return canonical.decode(_exactly(connection, length), FRAME_BYTES, "signer message")


def _exactly(connection: socket.socket, count: int) -> bytes:
    data = bytearray()
    while len(data) < count:
        part = connection.recv(min(65536, count - len(data)))
        if not part:
            if data:
                raise MalformedError("the connection ended within a message")
            return b""
        data += part
    return bytes(data)


@contextmanager
def short_path(path: Path) -> Iterator[str]:
    """A name for `path` that fits into a socket address (108 bytes), valid inside the `with`."""
    fd = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)  # the directory need not be readable
    try:
        yield f"/proc/self/fd/{fd}/{path.name}"
    finally:
        os.close(fd)

"""Who is at the other end of a Unix socket: the kernel says it, the peer cannot.

1. The signer answers its own user, and the users that it was started for; a connection of anybody else is closed.
"""

import pwd
import socket
import struct
from collections.abc import Iterable
from typing import Final

from outrider_fleet.errors import ConfigError

_CREDENTIALS: Final = struct.Struct("3i")  # struct ucred: pid, uid, gid


def uid_of(connection: socket.socket) -> int:
    """The user id of the process that connected."""
    data = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    uid: int = _CREDENTIALS.unpack(data)[1]
    return uid


def uids(users: Iterable[str]) -> frozenset[int]:
    """The ids of users by name or number; raises `ConfigError`."""
    return frozenset(_uid(user) for user in users)


def _uid(user: str) -> int:
    if user.isascii() and user.isdigit():
        return int(user)
    try:
        return pwd.getpwnam(user).pw_uid
    except KeyError as error:
        raise ConfigError(f"there is no user {user!r} on this machine") from error

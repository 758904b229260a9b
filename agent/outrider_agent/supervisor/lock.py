"""One agent a directory: a lock that the kernel lets go when its holder ends, however it ends.

1. The supervisor alone holds it; no child inherits it, so a child that outlives a killed supervisor blocks nothing.
2. A second agent is refused before it reads or writes anything.
3. Update processes take turns: one that was told to leave may still be writing when the next one starts.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from outrider_agent.errors import ConfigError


@contextmanager
def in_turn(path: Path) -> Iterator[None]:
    """Hold the lock file `path`, after whoever holds it now: for processes that must not work at the same time."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


@contextmanager
def only_agent(path: Path) -> Iterator[None]:
    """Hold the lock file `path`; raises `ConfigError` where another agent holds it."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        raise ConfigError(f"{path.parent} is in use", "Another agent runs in this directory: stop it first.") from None
    try:
        yield
    finally:
        os.close(fd)

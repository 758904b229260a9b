"""What enrolment leaves on the disk: key, certificates, root of trust, first state; all at one moment, or nothing.

1. Everything is written into a directory beside `identity/` and synced; a rename to `identity.next` is the moment.
2. From then on `finish` carries it through, at once or at the next start: whatever was cut off is done again.
3. A device that joins another fleet, or whose state was lost, begins anew: this root, no floors. One that enrols again
   in its own fleet keeps what it trusts and never goes below.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from outrider_agent.durable import GONE, Durable
from outrider_agent.errors import AgentError, DurableError, StateError
from outrider_agent.paths import Paths
from outrider_agent.supervisor.state import StateFile
from outrider_agent.update import identity, trust_file
from outrider_agent.update.errors import TrustDamagedError

CONFIG: Final = "agent.toml"
_BEGIN: Final = "begin"
_MAKING: Final = ".new"
_NEXT: Final = ".next"


def check_places(paths: Paths) -> None:
    """Raise `DurableError` where `commit` could not write: to be known before a token is spent."""
    for place in (paths.identity, paths.config):
        nearest = next(parent for parent in place.parents if os.path.lexists(parent))
        if not (nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK)):
            raise DurableError(f"{place} cannot be written below {nearest}")


def commit(paths: Paths, disk: Durable, files: dict[str, bytes]) -> None:
    """Replace the identity by these files (`agent.toml` among them is written where none is); raises `DurableError`."""
    finish(paths, disk)
    making, following = _beside(paths, _MAKING), _beside(paths, _NEXT)
    disk.remove_tree(making)
    disk.make_directory(making)
    for name, data in files.items():
        disk.write(making / name, data)
    if _begins_anew(paths, files):
        disk.write(making / _BEGIN, b"")
    disk.rename(making, following)
    finish(paths, disk)


def finish(paths: Paths, disk: Durable) -> None:
    """Carry through a replacement that was cut off; without one, nothing."""
    disk.remove_tree(_beside(paths, GONE))  # a former key does not stay
    following = _beside(paths, _NEXT)
    if not following.exists():
        return
    disk.settle(following)
    if (following / _BEGIN).exists():
        trust_file.begin(paths.trust, (following / identity.ROOT).read_bytes(), disk)
        StateFile(paths.update, disk).begin()
        disk.remove(following / _BEGIN)
    if (following / CONFIG).exists():
        _write_config(paths, disk, (following / CONFIG).read_bytes())
        disk.remove(following / CONFIG)
    disk.remove_tree(paths.identity)
    disk.rename(following, paths.identity)


def _write_config(paths: Paths, disk: Durable, data: bytes) -> None:
    if not paths.config.exists():
        disk.make_directory(paths.etc, mode=0o755)
        disk.write(paths.config, data, mode=0o644)


def _begins_anew(paths: Paths, files: dict[str, bytes]) -> bool:
    try:
        same_fleet = identity.load(paths.identity).fleet == identity.decode(files[identity.FILE]).fleet
        same_root = (paths.identity / identity.ROOT).read_bytes() == files[identity.ROOT]
        trust_file.load(paths.trust / trust_file.FILE)
        StateFile(paths.update, Durable()).load()
    except (AgentError, StateError, TrustDamagedError, OSError):
        return True
    return not (same_fleet and same_root)


def _beside(paths: Paths, suffix: str) -> Path:
    return paths.identity.with_name(paths.identity.name + suffix)

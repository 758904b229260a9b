"""Timings that `outrider-compiler bench` took on the board itself, and that `build --measured FILE` takes over.

1. A candidate is found by the SHA-256 of its file: what was timed is what would ship.
2. A file of another profile, or of a machine that is itself only a proxy for the board, is refused.
3. What the file does not hold stays the proxy that it was, and says so.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from outrider_compiler.digests import digest_of_file
from outrider_compiler.errors import UsageError
from outrider_compiler.figures import Timing
from outrider_protocol import canonical, limits
from outrider_protocol.errors import ProtocolError

VERSION: Final = 1


@dataclass(frozen=True)
class Measured:
    """Timings by SHA-256 for one profile; `digest` of the file."""

    profile: str
    machine: str
    timings: dict[str, Timing]
    digest: str = ""

    def encode(self) -> bytes:
        """The file's bytes."""
        timings = {sha256: vars(timing) for sha256, timing in sorted(self.timings.items())}
        value = {"v": VERSION, "profile": self.profile, "machine": self.machine, "timings": timings}
        return (json.dumps(value, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()

    def timing(self, sha256: str, here: Timing) -> Timing:
        """The board's timing of a file, or the one that was taken here."""
        found = self.timings.get(sha256)
        return here if found is None else replace(found, memory_bytes=found.memory_bytes or here.memory_bytes)


def load(paths: tuple[Path, ...], profiles: tuple[str, ...]) -> dict[str, Measured]:
    """Files by the profile that they speak for; raises `UsageError`."""
    found: dict[str, Measured] = {}
    for path in paths:
        item = _read(path)
        if item.profile not in profiles:
            raise UsageError(f"{path}: measured for {item.profile}, which is not built ({', '.join(profiles)})")
        if item.profile in found:
            raise UsageError(f"{path}: a second file for {item.profile}", "Give one --measured for each profile.")
        found[item.profile] = item
    return found


def _read(path: Path) -> Measured:
    try:
        value: dict[str, Any] = canonical.decode(path.read_bytes(), limits.INDEX_BYTES, str(path))
        timings = {sha256: Timing(**item) for sha256, item in value["timings"].items()}
        found = Measured(str(value["profile"]), str(value["machine"]), timings, digest_of_file(path))
        known = value["v"] == VERSION
    except (OSError, ProtocolError, KeyError, TypeError, AttributeError) as error:
        hint = "Give a file that `outrider-compiler bench --out` wrote."
        raise UsageError(f"{path}: no measured timings ({error})", hint) from error
    if not known or not timings:
        raise UsageError(f"{path}: version {value['v']} with {len(timings)} timings is not read here")
    proxies = sorted({timing.proxy for timing in timings.values() if timing.proxy})
    if proxies:
        hint = "Run `outrider-compiler bench` on the board itself."
        raise UsageError(f"{path}: a proxy itself: {proxies[0]}", hint)
    return found

"""D2, D3 and D4: what the compiler chose and refused, from its report among the release's referrers."""

from __future__ import annotations

import os
from pathlib import Path

from examples.watch.checker.record import Row
from examples.watch.errors import RecordError

AGREEMENT_AT_LEAST = 0.98
SQNR_AT_LEAST_DB = 20.0
SIZE_AT_MOST = 0.4


def has_vnni(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether this machine multiplies 8-bit integers fast (AVX512-VNNI)."""
    return os.path.exists(cpuinfo) and "avx512_vnni" in cpuinfo.read_text()  # noqa: PTH110


def profile_report(report: Row, profile: str) -> Row:
    """One profile's part of a report; raises `RecordError`."""
    for part in report["profiles"]:
        if part["profile"] == profile:
            return dict(part)
    raise RecordError(f"the report has no profile {profile}")


def candidate(part: Row, precision: str) -> Row:
    """One candidate of a profile; raises `RecordError`."""
    for entry in part["candidates"]:
        if entry["precision"] == precision:
            return dict(entry)
    raise RecordError(f"{part['profile']}: no candidate {precision}")

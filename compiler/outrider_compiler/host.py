"""The machine at hand, and whether its figures speak for a profile.

A figure is a `proxy` when the architecture differs, when the profile promises CPU features that are absent here, or
when this machine has 8-bit products that the profile does not promise. A proxy never decides alone.
"""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from outrider_profiles import Profile

MACHINES: Final = {"amd64": "x86_64", "arm64": "aarch64"}


@dataclass(frozen=True)
class Host:
    """Architecture as profiles name it, and CPU flags as /proc/cpuinfo lists them."""

    architecture: str
    features: frozenset[str]


def this_host(cpuinfo: Path = Path("/proc/cpuinfo")) -> Host:
    """Look at the machine."""
    machine = platform.machine().lower()
    return Host(MACHINES.get(machine, machine), _features(cpuinfo))


def _features(cpuinfo: Path) -> frozenset[str]:
    try:
        lines = cpuinfo.read_text(encoding="utf-8").splitlines()
    except OSError:
        return frozenset()
    listed = (line.partition(":")[2].split() for line in lines if line.lower().startswith(("flags", "features")))
    return frozenset(next(listed, []))


def proxy_reason(host: Host, profile: Profile, precision: str) -> str:
    """Why a latency measured on `host` is only a proxy for the profile; '' where it is a measurement."""
    if host.architecture != profile.architecture:
        return f"measured on {host.architecture}, the profile is {profile.architecture}"
    promised = frozenset(profile.cpu_features)
    if promised and not promised & host.features:
        return f"measured without {' or '.join(sorted(promised))}, which the profile promises"
    favours = frozenset(profile.int8.accelerated_by) & host.features
    if precision.startswith("int8") and favours and not promised & frozenset(profile.int8.accelerated_by):
        return f"measured with {', '.join(sorted(favours))}, which the profile does not promise"
    return ""

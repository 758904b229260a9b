"""The machine at hand, and whether its figures speak for a profile.

A figure is a `proxy` when the board has another architecture, engine or engine version, when it tries an execution
provider first that is absent here, when it promises CPU features that are absent here, or when this machine has 8-bit
products that it does not promise. A proxy never decides alone.
"""

from __future__ import annotations

import importlib.metadata
import platform
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from outrider_profiles import Profile

MACHINES: Final = {"amd64": "x86_64", "arm64": "aarch64"}
PACKAGES: Final = {
    "onnxruntime": ("onnxruntime", "onnxruntime-gpu"),
    "litert": ("ai-edge-litert",),
    "tflite-runtime": ("tflite-runtime",),
}
BUILT_IN: Final = frozenset({"CPUExecutionProvider", "XNNPACK"})


@dataclass(frozen=True)
class Host:
    """Architecture as profiles name it, CPU flags as /proc/cpuinfo lists them, engine versions, providers."""

    architecture: str
    features: frozenset[str]
    engines: dict[str, str] = field(default_factory=dict)
    providers: frozenset[str] = BUILT_IN

    def words(self, engine: str) -> str:
        """How the machine is named beside a figure: no host name, nothing personal."""
        return f"{self.architecture}, {engine} {self.engines.get(engine, '(absent)')}"


def this_host(cpuinfo: Path = Path("/proc/cpuinfo")) -> Host:
    """Look at the machine."""
    machine = platform.machine().lower()
    engines = {name: found for name, packages in PACKAGES.items() if (found := _version(packages))}
    return Host(MACHINES.get(machine, machine), _features(cpuinfo), engines, BUILT_IN | _providers())


def _features(cpuinfo: Path) -> frozenset[str]:
    try:
        lines = cpuinfo.read_text(encoding="utf-8").splitlines()
    except OSError:
        return frozenset()
    listed = (line.partition(":")[2].split() for line in lines if line.lower().startswith(("flags", "features")))
    return frozenset(next(listed, []))


def _version(packages: tuple[str, ...]) -> str:
    for name in packages:
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return ""


def _providers() -> frozenset[str]:
    import onnxruntime

    return frozenset(onnxruntime.get_available_providers())


def proxy_reason(host: Host, profile: Profile, precision: str) -> str:
    """Why a latency measured on `host` is only a proxy for the profile; '' where it is a measurement."""
    if host.architecture != profile.architecture:
        return f"measured on {host.architecture}, the profile is {profile.architecture}"
    return _engine_reason(host, profile) or _feature_reason(host, profile, precision)


def _engine_reason(host: Host, profile: Profile) -> str:
    from packaging.specifiers import SpecifierSet

    engine, first = profile.engine, profile.providers[0].name
    if engine.name not in host.engines:
        return f"measured without {engine.name}, which the board runs"
    if host.engines[engine.name] not in SpecifierSet(engine.versions):
        return f"measured with {engine.name} {host.engines[engine.name]}, the board runs {engine.versions}"
    return "" if first in host.providers else f"measured without {first}, which the board tries first"


def _feature_reason(host: Host, profile: Profile, precision: str) -> str:
    promised = frozenset(profile.cpu_features)
    if promised and not promised & host.features:
        return f"measured without {' or '.join(sorted(promised))}, which the profile promises"
    favours = frozenset(profile.int8.accelerated_by) & host.features
    if precision.startswith("int8") and favours and not promised & frozenset(profile.int8.accelerated_by):
        return f"measured with {', '.join(sorted(favours))}, which the profile does not promise"
    return ""

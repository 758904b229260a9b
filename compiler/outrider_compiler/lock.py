"""`outrider.lock`: what was measured and chosen, so that the same bytes can be built again without measuring.

1. It names every input by digest and every tool by version; `--locked` refuses others.
2. It holds no time stamp and no path.
"""

from __future__ import annotations

import importlib.metadata
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from outrider_compiler.errors import LockError
from outrider_compiler.outcome import Outcome
from outrider_protocol import canonical, limits
from outrider_protocol.errors import ProtocolError

FILE: Final = "outrider.lock"
LOCK_BYTES: Final = 64 * limits.MIB  # a thousand classes on a dozen boards
TOOLS: Final = (
    "numpy",
    "onnx",
    "onnxruntime",
    "onnxslim",
    "outrider-compiler",
    "outrider-profiles",
    "outrider-protocol",
)
TORCH_TOOLS: Final = ("onnxscript", "torch", "litert-torch", "ai-edge-litert", "ai-edge-quantizer")


@dataclass(frozen=True)
class Lock:
    """`request` are the words of the build, `inputs` digests by name, `tools` versions by package.

    `evidence` are digests of what was measured elsewhere: it shaped the choice, and a rebuild does without it.
    """

    request: dict[str, Any]
    inputs: dict[str, str]
    tools: dict[str, str]
    outcomes: dict[str, Outcome]
    evidence: dict[str, str] = field(default_factory=dict)

    def encode(self) -> bytes:
        """Readable JSON, the same bytes for the same content."""
        value = {
            "v": 1,
            "request": self.request,
            "inputs": self.inputs,
            "tools": self.tools,
            "evidence": self.evidence,
            "profiles": {name: outcome.json() for name, outcome in self.outcomes.items()},
        }
        return (json.dumps(value, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()

    def check(self, request: dict[str, Any], inputs: dict[str, str], tools: dict[str, str]) -> None:
        """Raise `LockError` where this build is not the one that the lock describes."""
        for what, mine, locked in (
            ("request", request, self.request), ("input", inputs, self.inputs), ("tool", tools, self.tools),
        ):  # fmt: skip
            for key in sorted({*mine, *locked}):
                if mine.get(key) != locked.get(key):
                    raise LockError(f"{what} {key!r} is {mine.get(key)!r}, the lock says {locked.get(key)!r}")


def load(path: Path) -> Lock:
    """Read a lock; raises `LockError`."""
    try:
        value = canonical.decode(path.read_bytes(), LOCK_BYTES, str(path))
        profiles = value["profiles"]
        outcomes = {name: Outcome.of(name, item) for name, item in profiles.items()}
        request, inputs, tools, evidence = (dict(value[name]) for name in ("request", "inputs", "tools", "evidence"))
        return Lock(request, inputs, tools, outcomes, evidence)
    except (OSError, ProtocolError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise LockError(f"{path}: {error}") from error


def tool_versions(*, torch: bool) -> dict[str, str]:
    """Installed versions of what shapes the bytes."""
    wanted = TOOLS + TORCH_TOOLS if torch else TOOLS
    return {name: version for name in wanted if (version := _version(name))}


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""

"""Takes a trained model and builds one artifact per hardware profile, choosing by measurement and saying why.

    import → normalise → check → candidates → measure → choose → package

Importing this package loads nothing but its errors; torch, onnx and the engines load when a build needs them.

    release = build(source="net.onnx", name="har", version="1.0", counter=1, profiles=["x86-64-vnni"],
                    calibration="calib.npz", evaluation="eval.npz", out="release")
    release.report()["profiles"]["x86-64-vnni"]["reason"]
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from outrider_compiler.errors import CompilerError, GateError, RefusedError, UsageError

if TYPE_CHECKING:
    from outrider_compiler.progress import Progress
    from outrider_compiler.release import Release
    from outrider_compiler.request import BuildRequest, Gate, Preprocessing

__version__ = "0.1.0"
__all__ = [
    "BuildRequest",
    "CompilerError",
    "Gate",
    "GateError",
    "Preprocessing",
    "RefusedError",
    "Release",
    "UsageError",
    "build",
]

_LATER = {"BuildRequest": "request", "Gate": "request", "Preprocessing": "request", "Release": "release"}


def build(request: BuildRequest | None = None, progress: Progress | None = None, **fields: Any) -> Release:
    """Build a release from a `BuildRequest`, or from its fields by name; raises `CompilerError`, leaves nothing behind.

    As fields, paths may be strings and several values any sequence; a field that does not exist is a `TypeError`.
    """
    from outrider_compiler import pipeline
    from outrider_compiler import request as asked

    if request is not None and fields:
        raise TypeError("give a request or its fields, not both")
    return pipeline.build(request or asked.from_fields(fields), progress)


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_LATER[name]}"), name)

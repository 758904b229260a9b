"""Takes a trained model and builds one artifact per hardware profile, choosing by measurement and saying why.

    import → normalise → check → candidates → measure → choose → package

Heavy packages (torch, onnx, onnxruntime) load when they are needed: importing this one is cheap.

    release = build(BuildRequest(source="net.onnx", name="har", version="1.0", counter=1, profiles=("x86-64-vnni",),
                                 calibration=Path("calib.npz"), evaluation=Path("eval.npz"), out=Path("release")))
    release.report()["profiles"]["x86-64-vnni"]["reason"]
"""

from outrider_compiler.errors import CompilerError, GateError, RefusedError, UsageError
from outrider_compiler.pipeline import build
from outrider_compiler.release import Release
from outrider_compiler.request import BuildRequest, Preprocessing

__version__ = "0.1.0"
__all__ = [
    "BuildRequest",
    "CompilerError",
    "GateError",
    "Preprocessing",
    "RefusedError",
    "Release",
    "UsageError",
    "build",
]

"""LiteRT candidates from a torch source, where the extra `outrider-compiler[litert]` is installed.

1. An ONNX file cannot become a LiteRT model: converters from ONNX change operators and layouts behind one's back.
2. Conversion runs in a process of its own, like every foreign module.
3. Static int8 uses plain min/max ranges: the quantizer's default calibrator clips.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Final

import numpy as np

from outrider_compiler.candidate import Candidate, NotBuilt
from outrider_compiler.data import DataSet
from outrider_compiler.errors import SourceError
from outrider_compiler.importers.imported import Imported
from outrider_compiler.importers.torch_source import run_child

NEEDED: Final = {
    "litert_torch": "litert-torch",
    "ai_edge_quantizer": "ai-edge-quantizer",
    "ai_edge_litert": "ai-edge-litert",
}
FORMS: Final = ("fp32", "int8_static")
CALIBRATION_ROWS: Final = 256


def missing_packages() -> list[str]:
    """Packages of the extra that are not installed."""
    return [package for module, package in NEEDED.items() if importlib.util.find_spec(module) is None]


def build(
    imported: Imported, calibration: DataSet, precisions: tuple[str, ...], folder: Path
) -> list[Candidate | NotBuilt]:
    """fp32 and int8_static, as far as `precisions` allows; reasons where they cannot be built."""
    wanted = [name for name in FORMS if name in precisions]
    reason = _obstacle(imported)
    if reason or imported.torch is None:
        return [NotBuilt(name, reason) for name in wanted]
    samples = folder / "litert-calibration.npz"
    np.savez(samples, **calibration.part(0, CALIBRATION_ROWS))  # type: ignore[arg-type]  # numpy types the names as keyword flags
    plain, int8 = folder / "fp32.tflite", folder / "int8.tflite"
    more = {"int8": str(int8) if "int8_static" in wanted else "", "samples": str(samples)}
    try:
        run_child("outrider_compiler.candidates.litert_export", imported.torch, plain, **more)
    except SourceError as error:
        return [NotBuilt(name, f"LiteRT conversion failed: {error}") for name in wanted]
    files = {"fp32": plain, "int8_static": int8}
    inputs, outputs = _names(imported)
    return [Candidate(name, name, "litert", files[name].read_bytes(), inputs, outputs) for name in wanted]


def _names(imported: Imported) -> tuple[tuple[str, ...], tuple[str, ...]]:
    graph = imported.model.graph
    return tuple(item.name for item in graph.input), tuple(item.name for item in graph.output)


def _obstacle(imported: Imported) -> str:
    if imported.torch is None:
        return "LiteRT is built from torch sources alone: give module:callable or a state dict with --architecture"
    absent = missing_packages()
    return f"the extra outrider-compiler[litert] is not installed (missing: {', '.join(absent)})" if absent else ""

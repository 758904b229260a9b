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

from outrider_compiler.candidates.candidate import Candidate, NotBuilt
from outrider_compiler.data import DataSet
from outrider_compiler.errors import SourceError
from outrider_compiler.importers.imported import Imported
from outrider_compiler.importers.torch_source import TorchSource, run_child

NEEDED: Final = {
    "litert_torch": "litert-torch",
    "ai_edge_quantizer": "ai-edge-quantizer",
    "ai_edge_litert": "ai-edge-litert",
}
FORMS: Final = ("fp32", "int8_static")
CALIBRATION_ROWS: Final = 512


def missing_packages() -> list[str]:
    """Packages of the extra that are not installed."""
    return [package for module, package in NEEDED.items() if importlib.util.find_spec(module) is None]


def build(
    imported: Imported, calibration: DataSet, precisions: tuple[str, ...], folder: Path
) -> list[Candidate | NotBuilt]:
    """fp32 and int8_static, as far as `precisions` allows; reasons where they cannot be built."""
    wanted = [name for name in FORMS if name in precisions]
    reason = _obstacle(imported)
    if reason:
        return [NotBuilt(name, reason) for name in wanted]
    samples = folder / "litert-calibration.npz"
    np.savez(samples, **calibration.part(0, CALIBRATION_ROWS))  # type: ignore[arg-type]  # numpy types the names as keyword flags
    return [_form(imported.torch, name, samples, folder) for name in wanted if imported.torch]


def _obstacle(imported: Imported) -> str:
    if imported.torch is None:
        return "LiteRT is built from torch sources alone: give module:callable or a state dict with --architecture"
    absent = missing_packages()
    return f"the extra outrider-compiler[litert] is not installed (missing: {', '.join(absent)})" if absent else ""


def _form(source: TorchSource, name: str, samples: Path, folder: Path) -> Candidate | NotBuilt:
    out = folder / f"{name}.tflite"
    try:
        run_child("outrider_compiler.candidates.litert_export", source, out, form=name, samples=str(samples))
    except SourceError as error:
        return NotBuilt(name, f"LiteRT conversion failed: {error}")
    return Candidate(name, name, "litert", out.read_bytes())

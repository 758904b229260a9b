"""LiteRT candidates from a torch source or a .tflite file, where the extra `outrider-compiler[litert]` is installed.

1. An ONNX file cannot become a LiteRT model: converters from ONNX change operators and layouts behind one's back. A
   .tflite file ships as it is, as fp32.
2. Conversion and quantization run in a process of their own, like every foreign module: one conversion for all forms.
3. What each form is, `litert_recipes` says; how files are made small, `litert_slim`.
"""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any, Final

import numpy as np

from outrider_compiler.candidate import Candidate, Layer, NotBuilt
from outrider_compiler.candidates.job import spread
from outrider_compiler.data import DataSet
from outrider_compiler.errors import SourceError
from outrider_compiler.importers import child
from outrider_compiler.importers.imported import Imported
from outrider_compiler.importers.torch_source import EXPORT_TIMEOUT_S, TorchSource, run_child
from outrider_profiles import Int8

NEEDED: Final = {
    "litert_torch": "litert-torch",
    "ai_edge_quantizer": "ai-edge-quantizer",
    "ai_edge_litert": "ai-edge-litert",
}
EXPORTER: Final = "outrider_compiler.candidates.litert_export"
# Forms of each precision. `int8_weight` needs no fast integers, so an accelerator of integers alone has no use for it.
FORMS: Final = {
    "fp32": ("fp32",),
    "int8_static": ("int8_static",),
    "int8_dynamic": ("int8_dynamic", "int8_weight"),
    "int16_activation": ("int16_activation",),
}
CALIBRATION_ROWS: Final = 256
PLAIN: Final = "litert.tflite"


def missing_packages() -> list[str]:
    """Packages of the extra that are not installed."""
    return [package for module, package in NEEDED.items() if importlib.util.find_spec(module) is None]


def build(
    imported: Imported, calibration: DataSet, precisions: tuple[str, ...], int8: Int8, folder: Path
) -> list[Candidate | NotBuilt]:
    """The forms of `precisions`; reasons where they cannot be built."""
    wanted = {form: precision for precision in precisions for form in FORMS.get(precision, ())}
    others = [NotBuilt(name, f"LiteRT's quantizer makes no {name}") for name in precisions if name not in FORMS]
    reason = _obstacle(imported, set(wanted))
    if reason:
        return [*(_without(name, reason, imported) for name in wanted), *others]
    if imported.tflite is not None and set(wanted) == {"fp32"}:
        return [Candidate("fp32", "fp32", "litert", imported.tflite), *others]
    try:
        _run(imported, calibration, list(wanted), int8, folder)
    except SourceError as error:
        failed = [NotBuilt(name, f"LiteRT conversion failed: {error}") for name in wanted]
        return [*failed, *others]
    return [*(_read(name, precision, imported, folder) for name, precision in wanted.items()), *others]


def _without(form: str, reason: str, imported: Imported) -> Candidate | NotBuilt:
    """A form where nothing can be converted: only a .tflite file's own floats need no converter."""
    if form == "fp32" and imported.tflite is not None:
        return Candidate("fp32", "fp32", "litert", imported.tflite)
    return NotBuilt(form, reason)


def _obstacle(imported: Imported, wanted: set[str]) -> str:
    if imported.torch is None and imported.tflite is None:
        return "LiteRT is built from torch sources alone: give module:callable, a state dict, or a .tflite file"
    absent = missing_packages() if imported.tflite is None or wanted != {"fp32"} else []
    return f"the extra outrider-compiler[litert] is not installed (missing: {', '.join(absent)})" if absent else ""


def _run(imported: Imported, calibration: DataSet, forms: list[str], int8: Int8, folder: Path) -> None:
    """Let the child write the forms that `folder` lacks, each as `litert-FORM.tflite` with its layers or its reason."""
    samples, plain = folder / "litert-calibration.npz", folder / PLAIN
    np.savez(samples, **spread(calibration, CALIBRATION_ROWS))  # type: ignore[arg-type]  # numpy types the names as keyword flags
    task: dict[str, Any] = {
        "forms": {form: str(_path(folder, form)) for form in forms}, "samples": str(samples),
        "per_channel": int8.per_channel, "full": int8.full,
    }  # fmt: skip
    if imported.torch is not None and not plain.is_file():
        run_child(EXPORTER, imported.torch, plain, task=json.dumps(task))
        return
    if imported.tflite is not None:
        plain.write_bytes(imported.tflite)
    more = {
        "task": json.dumps(task),
        "out": str(plain),
        "source": "file" if imported.tflite is not None else "converted",
    }
    child.run(EXPORTER, more, "the LiteRT model", EXPORT_TIMEOUT_S)


def convert(source: TorchSource, folder: Path) -> None:
    """Convert alone, which `_run` then finds done; raises `SourceError`."""
    beside = folder / "early"
    beside.mkdir()
    task = json.dumps({"forms": {}, "samples": "", "per_channel": True, "full": False})
    run_child(EXPORTER, source, beside / PLAIN, task=task)
    (beside / PLAIN).rename(folder / PLAIN)


def _path(folder: Path, form: str) -> Path:
    return folder / f"litert-{form}.tflite"


def _read(name: str, precision: str, imported: Imported, folder: Path) -> Candidate | NotBuilt:
    path = _path(folder, name)
    said = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    if "reason" in said:
        return NotBuilt(name, said["reason"])
    inputs, outputs = _names(imported)
    layers = tuple(
        Layer(item["name"], item["kind"], item["precision"], tuple((value, tensor) for value, tensor in item["values"]))
        for item in said["layers"]
    )
    return Candidate(name, precision, "litert", path.read_bytes(), inputs, outputs, layers=layers)


def _names(imported: Imported) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The source's names; a .tflite file has its own."""
    if imported.onnx is None:
        return (), ()
    graph = imported.onnx.graph
    return tuple(item.name for item in graph.input), tuple(item.name for item in graph.output)

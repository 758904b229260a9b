"""Torch modules and programs: exported in a process of their own, which cannot reach the network.

1. The callable takes no argument and returns a `torch.nn.Module`; it is imported from the current folder or the path.
2. A state dict is read with `weights_only=True` (or safetensors) and nothing else; unpickling code is refused.
3. A `.pt2` program is read as data (`program_file`) and keeps the shapes with which it was exported.
4. What comes back is one ONNX file, of a module with a free batch dimension; the parent checks it like any other.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from outrider_compiler.data import DataSet
from outrider_compiler.digests import digest_of_file
from outrider_compiler.errors import SourceError
from outrider_compiler.importers import child, onnx_file
from outrider_compiler.importers.imported import Imported
from outrider_compiler.normalise import copied, finish
from outrider_protocol import ids, limits

EXPORT_TIMEOUT_S: Final = 600
EXAMPLE_ROWS: Final = 2
EXPORTER: Final = "outrider_compiler.importers.torch_export"
HEAVY: Final = (
    "onnx", "onnxruntime", "onnxruntime.quantization", "onnxruntime.transformers.float16", "onnxslim", "jinja2",
)  # fmt: skip


@dataclass(frozen=True)
class TorchSource:
    """Where a module comes from, for exporters that want torch itself; `example` is an .npz of two samples.

    `weights` is a state dict, or a `.pt2` program, whose `architecture` is ''.
    """

    architecture: str
    weights: Path | None
    example: Path

    @property
    def name(self) -> str:
        """What errors call it."""
        return self.architecture or str(self.weights)


def load(
    architecture: str, weights: Path | None, example: DataSet, folder: Path, beside: Callable[[TorchSource], None]
) -> Imported:
    """Export a module to ONNX; raises `SourceError` with the child's reason. `beside` hears of the source before."""
    samples = folder / "example.npz"
    np.savez(samples, **example.part(0, EXAMPLE_ROWS))  # type: ignore[arg-type]  # numpy types the names as keyword flags
    source = TorchSource(architecture, weights, samples)
    beside(source)
    exported = export(source, folder, warm_up)
    model = onnx_file.parse(exported.read_bytes(), source.name)
    digest = digest_of_file(weights) if weights else ids.digest_of(finish(copied(model)))
    return Imported(model, "torch", digest, source)


def export(source: TorchSource, folder: Path, meanwhile: Callable[[], None] = child.idle) -> Path:
    """The ONNX file that torch makes of a source; raises `SourceError`."""
    if source.weights is not None and not source.weights.is_file():
        raise SourceError(f"{source.weights}: no such file")
    if source.weights is not None and source.weights.stat().st_size > limits.LAYER_BYTES:
        raise SourceError(f"{source.weights}: larger than {limits.LAYER_BYTES} bytes")
    exported = folder / "exported.onnx"
    _run(EXPORTER, source, exported, meanwhile)
    return exported


def run_child(module: str, source: TorchSource, out: Path, **more: str) -> None:
    """Run `python -m module` on a source, which writes `out`; raises `SourceError` with the child's reason."""
    _run(module, source, out, warm_up, **more)


def _run(module: str, source: TorchSource, out: Path, meanwhile: Callable[[], None], **more: str) -> None:
    task = {"architecture": source.architecture, "example": str(source.example), "out": str(out), **more}
    task["weights"] = str(source.weights) if source.weights else ""
    child.run(module, task, source.name, EXPORT_TIMEOUT_S, meanwhile)
    if not out.is_file():
        raise SourceError(f"{source.name}: the exporter wrote nothing")


def warm_up() -> None:
    """Import what the parent needs next, while the child exports on the other core."""
    for name in HEAVY:
        importlib.import_module(name)

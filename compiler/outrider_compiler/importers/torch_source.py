"""Torch modules: exported in a process of their own, which cannot reach the network.

1. The callable takes no argument and returns a `torch.nn.Module`; it is imported from the current folder or the path.
2. A state dict is read with `weights_only=True` (or safetensors) and nothing else; unpickling code is refused.
3. What comes back is one ONNX file with a free batch dimension; the parent checks it like any other.
"""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from outrider_compiler.data import DataSet
from outrider_compiler.digests import digest_of_file
from outrider_compiler.errors import SourceError
from outrider_compiler.importers import onnx_file
from outrider_compiler.importers.imported import Imported
from outrider_compiler.normalise import copied, finish
from outrider_protocol import ids

EXPORT_TIMEOUT_S = 600
EXAMPLE_ROWS = 2
HEAVY = ("onnx", "onnxruntime", "onnxruntime.quantization", "onnxruntime.transformers.float16", "onnxslim", "jinja2")


@dataclass(frozen=True)
class TorchSource:
    """Where a module comes from, for exporters that want torch itself; `example` is an .npz of two samples."""

    architecture: str
    weights: Path | None
    example: Path


def load(architecture: str, weights: Path | None, example: DataSet, folder: Path) -> Imported:
    """Export a module to ONNX; raises `SourceError` with the child's reason."""
    if weights is not None and not weights.is_file():
        raise SourceError(f"{weights}: no such file")
    samples = folder / "example.npz"
    np.savez(samples, **example.part(0, EXAMPLE_ROWS))  # type: ignore[arg-type]  # numpy types the names as keyword flags
    source = TorchSource(architecture, weights, samples)
    exported = folder / "exported.onnx"
    run_child("outrider_compiler.importers.torch_export", source, exported)
    model = onnx_file.parse(exported.read_bytes(), architecture)
    digest = digest_of_file(weights) if weights else ids.digest_of(finish(copied(model)))
    return Imported(model, "torch", digest, source)


def run_child(module: str, source: TorchSource, out: Path, **more: str) -> None:
    """Run `python -m module` on a source; its last line of output is JSON `{"error", "hint"}` where it refuses."""
    task = {"architecture": source.architecture, "example": str(source.example), "out": str(out), **more}
    task["weights"] = str(source.weights) if source.weights else ""
    command = [sys.executable, "-m", module, json.dumps(task)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        warm_up()
        try:
            stdout, stderr = child.communicate(timeout=EXPORT_TIMEOUT_S)
        except subprocess.TimeoutExpired as error:
            child.kill()
            raise SourceError(f"{source.architecture}: no answer within {EXPORT_TIMEOUT_S} s") from error
    if child.returncode != 0 or not out.is_file():
        raise _refusal(source, stdout, stderr)


def warm_up() -> None:
    """Import what the parent needs next, while the child exports on the other core."""
    for name in HEAVY:
        importlib.import_module(name)


def _refusal(source: TorchSource, stdout: str, stderr: str) -> SourceError:
    try:
        said = json.loads(stdout.strip().splitlines()[-1])
        return SourceError(said["error"], said["hint"])
    except (IndexError, ValueError, KeyError, TypeError):
        last = stderr.strip().splitlines()[-1:] or ["the process ended without a word"]
        return SourceError(f"{source.architecture}: {last[0][:400]}")

"""From what the engineer has to a model in memory: .onnx, .tflite, .pt2, a torch module by name, or a state dict.

Foreign Python code, checkpoints and model files are opened in processes of their own (`child`, `sandbox`).
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from outrider_compiler.data import DataSet
from outrider_compiler.errors import SourceError, UsageError
from outrider_compiler.importers import onnx_file, probing, torch_source
from outrider_compiler.importers.imported import Imported
from outrider_profiles import Profile

CALLABLE: Final = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
STATE_DICTS: Final = {".pt", ".pth", ".safetensors"}
MODEL_FILES: Final = {".onnx", ".tflite"}
PROGRAM: Final = ".pt2"
KNOWN: Final = "an .onnx, .tflite or .pt2 file"

__all__ = ["Imported", "check", "load", "onnx_file"]


def load(
    source: str,
    architecture: str | None,
    example: DataSet,
    folder: Path,
    profiles: tuple[Profile, ...] = (),
    beside: Callable[[torch_source.TorchSource], None] = lambda _: None,
) -> Imported:
    """Import a model that every profile runs whose engine reads its format; `folder` takes files in between.

    `beside` hears of a torch source before it is exported, and may begin something else with it. Raises `SourceError`,
    `UsageError` or `UnsupportedModelError`.
    """
    path = Path(source)
    if path.suffix in MODEL_FILES:
        probed = probing.probe(path, source, profiles, folder, torch_source.warm_up)
        probed.require()
        return probed.imported()
    if path.suffix == PROGRAM:
        return torch_source.load("", path, example, folder, beside)
    if path.suffix in STATE_DICTS:
        if architecture is None:
            raise UsageError(
                f"{source} holds weights only", "Add --architecture module:callable, which makes the module."
            )
        return torch_source.load(_checked(architecture), path, example, folder, beside)
    if CALLABLE.fullmatch(source):
        return torch_source.load(source, None, example, folder, beside)
    raise SourceError(
        f"{source!r} is neither {KNOWN}, a state dict ({', '.join(sorted(STATE_DICTS))}) nor module:callable"
    )


def check(path: Path, profiles: tuple[Profile, ...]) -> dict[str, dict[str, Any]]:
    """Per profile whether it runs the model of a file; raises `SourceError` for a file that is no model at all."""
    with tempfile.TemporaryDirectory(prefix="outrider-") as name:
        folder, file = Path(name), path
        if path.suffix == PROGRAM:
            file = torch_source.export(torch_source.TorchSource("", path, folder / "none.npz"), folder)
        elif path.suffix not in MODEL_FILES:
            raise SourceError(
                f"{str(path)!r} is not {KNOWN}", "Other torch sources are checked by `build`, first of all."
            )
        return probing.probe(file, str(path), profiles, folder).verdicts


def _checked(architecture: str) -> str:
    if not CALLABLE.fullmatch(architecture):
        raise UsageError(f"--architecture {architecture!r} is not module:callable")
    return architecture

"""From what the engineer has to one ONNX file: an ONNX file, a torch module by name, or a state dict.

Foreign Python code and checkpoints run in a process of their own, without network (`sandbox`).
"""

from __future__ import annotations

import re
from pathlib import Path

from outrider_compiler.data import DataSet
from outrider_compiler.errors import SourceError, UsageError
from outrider_compiler.importers import onnx_file, torch_source
from outrider_compiler.importers.imported import Imported

CALLABLE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
STATE_DICTS = {".pt", ".pth", ".safetensors"}

__all__ = ["Imported", "load"]


def load(source: str, architecture: str | None, example: DataSet, folder: Path) -> Imported:
    """Import a model; `folder` takes files in between. Raises `SourceError` or `UsageError`."""
    path = Path(source)
    if path.suffix == ".onnx":
        return onnx_file.load(path)
    if path.suffix in STATE_DICTS:
        if architecture is None:
            raise UsageError(
                f"{source} holds weights only", "Add --architecture module:callable, which makes the module."
            )
        return torch_source.load(_checked(architecture), path, example, folder)
    if CALLABLE.fullmatch(source):
        return torch_source.load(source, None, example, folder)
    raise SourceError(f"{source!r} is neither .onnx, {', '.join(sorted(STATE_DICTS))} nor module:callable")


def _checked(architecture: str) -> str:
    if not CALLABLE.fullmatch(architecture):
        raise UsageError(f"--architecture {architecture!r} is not module:callable")
    return architecture

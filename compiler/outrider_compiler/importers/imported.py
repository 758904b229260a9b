"""A model on its way: ONNX in memory, and where it came from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onnx import ModelProto

    from outrider_compiler.importers.torch_source import TorchSource


@dataclass(frozen=True)
class Imported:
    """`kind` is "onnx" or "torch"; `digest` of the source file or, for a callable, of the exported graph's weights."""

    model: ModelProto
    kind: str
    digest: str
    torch: TorchSource | None = None

"""A model on its way: in memory, and where it came from."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final

from outrider_compiler.candidate import Candidate
from outrider_compiler.errors import UnsupportedModelError

if TYPE_CHECKING:
    from onnx import ModelProto

    from outrider_compiler.importers.torch_source import TorchSource

NO_ONNX: Final = "a .tflite file cannot become ONNX: give the ONNX or torch source of the model"


@dataclass(frozen=True)
class Imported:
    """`kind` is "onnx", "torch" or "tflite".

    `digest` is that of the source file (with external data: `external_data.digest`) or, for a callable, of the
    exported graph's weights. A source has `onnx` or `tflite`; `torch` says where a torch source comes from.
    """

    onnx: ModelProto | None
    kind: str
    digest: str
    torch: TorchSource | None = None
    tflite: bytes | None = None

    @property
    def model(self) -> ModelProto:
        """The ONNX model as it came; raises `UnsupportedModelError` for a .tflite source."""
        if self.onnx is None:
            raise UnsupportedModelError(NO_ONNX, "Build for a profile whose engine reads .tflite files.")
        return self.onnx

    @cached_property
    def simplified(self) -> ModelProto | None:
        """The model with constants folded, None for a .tflite source; raises `SourceError`."""
        from outrider_compiler.normalise import simplify

        return simplify(self.onnx) if self.onnx is not None else None

    def candidate(self) -> Candidate:
        """The source itself, as its engine runs it: what every candidate is compared with."""
        if self.tflite is not None:
            return Candidate("source", "fp32", "litert", self.tflite)
        return Candidate("source", "fp32", "onnxruntime", self.model.SerializeToString())

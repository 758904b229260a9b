"""A model on its way: ONNX in memory, and where it came from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onnx import ModelProto

    from outrider_compiler.importers.torch_source import TorchSource
    from outrider_profiles import Profile
    from outrider_protocol.preprocess import Preprocess


@dataclass(frozen=True)
class Imported:
    """`kind` is "onnx" or "torch"; `digest` of the source file or, for a callable, of the exported graph's weights.

    With `preprocess`, `model` takes the raw input, `bare` is the model as it came, and candidates that are not made
    from `model` carry the document as a layer.
    """

    model: ModelProto
    kind: str
    digest: str
    torch: TorchSource | None = None
    preprocess: Preprocess | None = None
    bare: ModelProto | None = None

    def form_for(self, profile: Profile) -> ModelProto:
        """What the profile's engine is asked to run: the bare model where preprocessing travels as a layer."""
        return self.model if self.bare is None or profile.engine.format == "onnx" else self.bare

    @property
    def layer(self) -> bytes | None:
        """The `preprocess` layer of a candidate that is not made from `model`."""
        return self.preprocess.encode() if self.preprocess else None

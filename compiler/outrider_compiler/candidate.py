"""A candidate, and one that could not be built."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

TITLES: Final = {"onnxruntime": "model.onnx", "litert": "model.tflite"}


@dataclass(frozen=True)
class Candidate:
    """`name` is unique in a profile ("int8_static_conv"); `precision` is the profile's word for it ("int8_static").

    `inputs` and `outputs` are the source's names, where the file's own differ (LiteRT). `preprocess` is the layer that
    goes with a file which cannot hold it.
    """

    name: str
    precision: str
    engine: str
    data: bytes
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    preprocess: bytes | None = None

    @property
    def title(self) -> str:
        """File name on the device."""
        return TITLES[self.engine]


@dataclass(frozen=True)
class NotBuilt:
    """Why a form that the profile allows does not exist."""

    name: str
    reason: str

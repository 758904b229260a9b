"""A candidate, and one that could not be built."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Final

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

    def words(self) -> dict[str, Any]:
        """Everything but the file, as JSON."""
        found = {item.name: getattr(self, item.name) for item in fields(self) if item.name != "data"}
        return {**found, "preprocess": self.preprocess and self.preprocess.decode()}

    @classmethod
    def of(cls, words: dict[str, Any], data: bytes) -> Candidate:
        """From `words` and the file; raises `TypeError` or `KeyError`."""
        names = {"inputs": tuple(words["inputs"]), "outputs": tuple(words["outputs"])}
        layer = words.get("preprocess")
        return cls(**{**words, **names, "preprocess": layer.encode() if layer else None}, data=data)

    @property
    def title(self) -> str:
        """File name on the device."""
        return TITLES[self.engine]


@dataclass(frozen=True)
class NotBuilt:
    """Why a form that the profile allows does not exist."""

    name: str
    reason: str

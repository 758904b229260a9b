"""A candidate, its layers, and one that could not be built."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, Final

TITLES: Final = {"onnxruntime": "model.onnx", "litert": "model.tflite"}


@dataclass(frozen=True)
class Layer:
    """A layer as a candidate computes it.

    `name` and `kind` are the source's; `precision` says what the arithmetic of the layer runs in. `values` are the
    source's values that show its result and are still there in the candidate's file, each with the tensor that holds it
    there, the one behind its activation first.
    """

    name: str
    kind: str
    precision: str
    values: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Candidate:
    """`name` is unique in a profile ("int8_static_conv"); `precision` is the profile's word for it ("int8_static").

    `inputs` and `outputs` are the source's names, where the file's own differ (LiteRT). `preprocess` is the layer that
    goes with a file which cannot hold it. `recipe` holds, as JSON, what a search found out: with it the same bytes are
    built again without searching.
    """

    name: str
    precision: str
    engine: str
    data: bytes
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    preprocess: bytes | None = None
    recipe: dict[str, Any] = field(default_factory=dict)
    layers: tuple[Layer, ...] = ()

    def words(self) -> dict[str, Any]:
        """What the board needs beside the file, as JSON."""
        found = {item.name: getattr(self, item.name) for item in fields(self) if item.name not in {"data", "layers"}}
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

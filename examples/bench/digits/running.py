"""Model files as a device would run them, written apart from the compiler: it shall not judge itself.

One thread, one image an inference, session options and load mode of the board. LiteRT files whose inputs or outputs
are integers are fed and read with their own scales; that conversion is not timed.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from examples.bench.digits.data import Images
from outrider_compiler.engines import session_options
from outrider_profiles import Load

OUTPUTS: Final = ("probabilities", "embedding")
Answers = dict[str, NDArray[Any]]


class Running(Protocol):
    """A loaded model file."""

    def once(self) -> None:
        """Infer the image that was offered last: what is timed."""

    def offer(self, image: Images) -> None:
        """The image [1, 1, 32, 32] of the next inferences."""

    def answers(self, images: Images) -> Answers:
        """Outputs by name for images [n, 1, 32, 32]."""


def load(path: Path, mode: Load) -> Running:
    """Load a file by its ending; `mode` says how the board loads ONNX weights."""
    return LiteRt(path) if path.suffix == ".tflite" else Onnx(path, mode)


class Onnx:
    """ONNX Runtime on the CPU."""

    def __init__(self, path: Path, mode: Load) -> None:
        import onnxruntime as ort

        options = session_options(threads=1, prepack=mode.prepack)
        self._session = ort.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
        self._feeds: Answers = {}

    def offer(self, image: Images) -> None:
        """See `Running`."""
        self._feeds = {self._session.get_inputs()[0].name: image}

    def once(self) -> None:
        """See `Running`."""
        self._session.run(None, self._feeds)

    def answers(self, images: Images) -> Answers:
        """See `Running`; image by image, as a device does."""
        found = []
        for start in range(len(images)):
            self.offer(images[start : start + 1])
            found.append(self._session.run(list(OUTPUTS), self._feeds))
        return {name: np.concatenate([row[i] for row in found]) for i, name in enumerate(OUTPUTS)}


class LiteRt:
    """LiteRT with XNNPACK."""

    def __init__(self, path: Path) -> None:
        from ai_edge_litert.interpreter import Interpreter

        self._interpreter: Any = Interpreter(model_path=str(path), num_threads=1)
        self._interpreter.allocate_tensors()
        self._input = self._interpreter.get_input_details()[0]
        details = self._interpreter.get_output_details()
        self._outputs = {OUTPUTS[int(re.findall(r"output_(\d)", item["name"])[0])]: item for item in details}
        self._image: NDArray[Any] = np.zeros(self._input["shape"], self._input["dtype"])

    def offer(self, image: Images) -> None:
        """See `Running`."""
        self._image = _to_integers(image, self._input)

    def once(self) -> None:
        """See `Running`."""
        self._interpreter.set_tensor(self._input["index"], self._image)
        self._interpreter.invoke()
        for detail in self._outputs.values():
            self._interpreter.get_tensor(detail["index"])

    def answers(self, images: Images) -> Answers:
        """See `Running`."""
        found: dict[str, list[NDArray[Any]]] = {name: [] for name in OUTPUTS}
        for start in range(len(images)):
            self.offer(images[start : start + 1])
            self.once()
            for name, detail in self._outputs.items():
                found[name].append(_to_floats(self._interpreter.get_tensor(detail["index"]), detail))
        return {name: np.concatenate(rows) for name, rows in found.items()}


def _to_integers(values: NDArray[Any], detail: dict[str, Any]) -> NDArray[Any]:
    if not np.issubdtype(detail["dtype"], np.integer):
        return values
    scale, zero = detail["quantization"]
    limits = np.iinfo(detail["dtype"])
    steps: NDArray[Any] = np.clip(np.round(values / scale) + zero, limits.min, limits.max)
    return steps.astype(detail["dtype"])


def _to_floats(values: NDArray[Any], detail: dict[str, Any]) -> NDArray[Any]:
    if not np.issubdtype(values.dtype, np.integer):
        return np.array(values)
    scale, zero = detail["quantization"]
    floats: NDArray[Any] = (values.astype(np.float32) - zero) * np.float32(scale)
    return floats

"""Ranges of activations over the calibration set: minimum and maximum, on one thread, in file order.

Min/max and nothing cleverer: clipping calibrators cost accuracy on short, peaky sensor windows. Only the values that a
form rounds are looked at: finding the extremes of a value takes longer than computing it.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from outrider_compiler.data import DataSet, Feeds
from outrider_compiler.engines import PROVIDERS, session_options

if TYPE_CHECKING:
    from onnx import ModelProto

BATCH: Final = 128


class BatchReader:
    """Feeds the calibrator; a model with a fixed batch gets batches of that size."""

    def __init__(self, data: DataSet, batch: int) -> None:
        stop = data.n - data.n % batch if batch < data.n else data.n
        self._batches = iter([data.part(start, start + batch) for start in range(0, stop, batch)])

    def get_next(self) -> Feeds | None:
        """The next batch, or None at the end."""
        return next(self._batches, None)


def ranges(model: ModelProto, data: DataSet, folder: Path, *, symmetric: bool, values: Collection[str]) -> Any:
    """`onnxruntime.quantization.TensorsData` of min and max of each of `values` that is a float."""
    import onnx
    import onnxruntime as ort

    plain, augmented = folder / "calibrate.onnx", folder / "augmented.onnx"
    onnx.save_model(model, plain)
    calibrator = _calibrator(values)(plain, None, augmented_model_path=str(augmented), symmetric=symmetric)
    calibrator.augment_graph()
    options = session_options(threads=1, optimize=False)
    calibrator.infer_session = ort.InferenceSession(str(augmented), options, providers=PROVIDERS)
    calibrator.collect_data(BatchReader(data, fixed_batch(model) or BATCH))
    return calibrator.compute_data()


def _calibrator(values: Collection[str]) -> Any:
    from onnxruntime.quantization.calibrate import MinMaxCalibrater

    class Chosen(MinMaxCalibrater):  # type: ignore[misc]  # the package has no types
        def select_tensors_to_calibrate(self, model: ModelProto) -> Any:
            found, infos = super().select_tensors_to_calibrate(model)
            return found & set(values), infos

    return Chosen


def fixed_batch(model: ModelProto) -> int:
    """Size of the first axis where it is fixed, 0 where it is free."""
    dimensions = model.graph.input[0].type.tensor_type.shape.dim
    return int(dimensions[0].dim_value) if dimensions else 0

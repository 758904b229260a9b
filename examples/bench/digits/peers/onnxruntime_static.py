"""Plain ONNX Runtime: `quant_pre_process`, then `quantize_static` with all its defaults (QDQ, s8 everywhere).

With `"tuned": true` as its guide advises for x86: u8 activations, s8 weights, per channel.
Run as a script by the bench's environment: `onnxruntime_static.py '{"model", "samples", "out", "tuned"}'`.
"""

import json
import logging
import sys
from pathlib import Path

import numpy as np
from onnxruntime.quantization import QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process


class Samples:
    """One image at a time: as much of a `CalibrationDataReader` as is asked."""

    def __init__(self, path: str) -> None:
        with np.load(path) as archive:
            self._rows = iter([{"x": archive["x"][i : i + 1]} for i in range(len(archive["x"]))])

    def get_next(self) -> dict[str, np.ndarray] | None:
        """The next image, or None."""
        return next(self._rows, None)


def main() -> None:
    """Quantize."""
    logging.disable(logging.WARNING)
    task = json.loads(sys.argv[1])
    prepared = str(Path(task["out"]).with_suffix(".prepared.onnx"))
    quant_pre_process(task["model"], prepared)
    advised = {"per_channel": True, "activation_type": QuantType.QUInt8, "weight_type": QuantType.QInt8}
    quantize_static(prepared, task["out"], Samples(task["samples"]), **(advised if task.get("tuned") else {}))


if __name__ == "__main__":
    main()

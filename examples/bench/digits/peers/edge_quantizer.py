"""ai-edge-quantizer: its recipe `static_wi8_ai8` and its own calibration, with all defaults.

Run as a script by the project's environment (`make setup-litert`): `edge_quantizer.py '{"model", "samples", "out"}'`.
"""

import json
import sys

import numpy as np
from ai_edge_quantizer import quantizer, recipe


def main() -> None:
    """Quantize."""
    task = json.loads(sys.argv[1])
    with np.load(task["samples"]) as archive:
        rows = [{"args_0": archive["x"][i : i + 1]} for i in range(len(archive["x"]))]
    worker = quantizer.Quantizer(task["model"], recipe.static_wi8_ai8())
    measured = worker.calibrate({"serving_default": rows})
    worker.quantize(measured).export_model(task["out"], overwrite=True)


if __name__ == "__main__":
    main()

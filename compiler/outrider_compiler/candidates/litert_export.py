"""Child process: a torch module to LiteRT, fp32 or static int8.

`python -m outrider_compiler.candidates.litert_export '{…, "form": "fp32" | "int8_static", "samples": "calib.npz"}'`
"""

from __future__ import annotations

import json
import logging
import sys
import warnings
from pathlib import Path
from typing import Any

from outrider_compiler.importers import sandbox
from outrider_compiler.importers.torch_export import input_names


def main() -> int:
    """Convert; 0, or 3 with a JSON line on stdout."""
    task = json.loads(sys.argv[1])
    warnings.simplefilter("ignore")
    logging.disable(logging.ERROR)
    try:
        sandbox.prepare()
        module = sandbox.make_module(task["architecture"], task["weights"])
        _convert(module, task["example"], task["out"])
        if task["form"] == "int8_static":
            _quantize(task["samples"], task["out"])
    except sandbox.ChildRefusalError as error:
        return sandbox.refuse(error)
    return 0


def _convert(module: Any, example: str, out: str) -> None:
    import litert_torch
    import numpy as np
    import torch

    with np.load(example, allow_pickle=False) as samples:
        feeds = {name: torch.from_numpy(samples[name][:1]) for name in samples.files}
    names = input_names(module, list(feeds))
    inputs = tuple(feeds[name] if name in feeds else next(iter(feeds.values())) for name in names)
    try:
        litert_torch.convert(module, inputs).export(out)
    except (RuntimeError, ValueError, TypeError, NotImplementedError) as error:
        text = " ".join(str(error).split())[:400]
        raise sandbox.ChildRefusalError(
            f"litert-torch refused: {text}", "Replace the operator that it names."
        ) from error


def _quantize(samples: str, out: str) -> None:
    import numpy as np
    from ai_edge_quantizer import quantizer, recipe

    with np.load(samples, allow_pickle=False) as archive:
        columns = [archive[name] for name in archive.files]
    rows = [
        {f"args_{i}": np.ascontiguousarray(column[row : row + 1]) for i, column in enumerate(columns)}
        for row in range(len(columns[0]))
    ]
    worker = quantizer.Quantizer(out, recipe.static_wi8_ai8())
    ranges = worker.calibrate({"serving_default": rows})
    Path(out).write_bytes(bytes(worker.quantize(ranges).quantized_model))


if __name__ == "__main__":
    sys.exit(main())

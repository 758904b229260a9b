"""NNCF: `nncf.quantize` with its defaults, and `model_type=TRANSFORMER` for transformers, as its guide advises.

With `"control"` the same under `nncf.quantize_with_accuracy_control`: the validation set is what `control` names, the
metric is accuracy, the allowed drop NNCF's own default (0.01). What was validated is printed as JSON.
Run as a script by the bench's environment: `nncf_quantize.py '{"model", "samples", "out", "transformer", "control"}'`.
"""

import json
import logging
import sys
from collections.abc import Iterable
from typing import Any

import nncf
import numpy as np
import onnx
import onnxruntime


def accuracy(model: onnx.ModelProto, batches: Iterable[Any]) -> float:
    """Share of images that `model` names right; `batches` of (x, y)."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    right = [session.run(["probabilities"], {"x": x})[0].argmax(axis=1) == y for x, y in batches]
    return float(np.concatenate(right).mean())


def pairs(path: str) -> list[tuple[np.ndarray, np.ndarray]]:
    """Images and classes, one at a time."""
    with np.load(path) as archive:
        return [(archive["x"][i : i + 1], archive["y"][i : i + 1]) for i in range(len(archive["y"]))]


def controlled(model: onnx.ModelProto, samples: nncf.Dataset, task: dict[str, Any], more: dict[str, Any]) -> Any:
    """Quantize under accuracy control, and say what the tool saw."""
    seen = pairs(task["control"])
    made = nncf.quantize_with_accuracy_control(model, samples, nncf.Dataset(seen), accuracy, **more)
    print(json.dumps({"before": accuracy(model, seen), "after": accuracy(made, seen), "n": len(seen)}))
    return made


def main() -> None:
    """Quantize."""
    nncf.set_log_level(logging.ERROR)
    task = json.loads(sys.argv[1])
    model = onnx.load(task["model"])
    with np.load(task["samples"]) as archive:
        images = list(archive["x"][:, None])
    samples = nncf.Dataset(images, lambda image: {"x": image})
    more = {"model_type": nncf.ModelType.TRANSFORMER} if task.get("transformer") else {}
    made = controlled(model, samples, task, more) if task.get("control") else nncf.quantize(model, samples, **more)
    onnx.save(made, task["out"])


if __name__ == "__main__":
    main()

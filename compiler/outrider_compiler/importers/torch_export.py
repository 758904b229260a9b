"""Child process: a torch module to ONNX with torch's own (dynamo) exporter.

`python -m outrider_compiler.importers.torch_export '{"architecture": …, "weights": …, "example": …, "out": …}'`
Input names are the forward's arguments, output names the keys of a dict, or what the module says in `output_names`.
"""

from __future__ import annotations

import contextlib
import inspect
import io
import json
import logging
import sys
import warnings
from typing import Any

from outrider_compiler.importers import sandbox

OPSET = 18
CLASSIFIER = ("probabilities", "embedding")


def main() -> int:
    """Export; 0, or 3 with a JSON line on stdout."""
    task = json.loads(sys.argv[1])
    warnings.simplefilter("ignore")
    logging.disable(logging.ERROR)
    try:
        sandbox.prepare()
        export(sandbox.make_module(task["architecture"], task["weights"]), task["example"], task["out"])
    except sandbox.ChildRefusalError as error:
        return sandbox.refuse(error)
    return 0


def export(module: Any, example: str, out: str) -> None:
    """Write `out`; raises `ChildRefusalError` where torch cannot export the module."""
    import numpy as np
    import torch

    with np.load(example, allow_pickle=False) as samples:
        feeds = {name: torch.from_numpy(samples[name]) for name in samples.files}
    names = input_names(module, list(feeds))
    inputs = tuple(feeds[name] if name in feeds else next(iter(feeds.values())) for name in names)
    with torch.no_grad():
        outputs = output_names(module, module(*inputs))
    try:
        program = _program(module, inputs, names, outputs)
    except (torch.onnx.errors.OnnxExporterError, RuntimeError, ValueError, TypeError) as error:
        text = " ".join(str(error.__cause__ or error).split())[:400]
        raise sandbox.ChildRefusalError(
            f"torch cannot export the module: {text}", "torch.export must accept it."
        ) from error
    program.save(out)


def _program(module: Any, inputs: tuple[Any, ...], names: list[str], outputs: list[str]) -> Any:
    import torch

    batch = torch.export.Dim("batch")
    with contextlib.redirect_stdout(io.StringIO()), torch.no_grad():
        return torch.onnx.export(
            module,
            inputs,
            dynamo=True,
            optimize=True,
            verbose=False,
            opset_version=OPSET,
            input_names=names,
            output_names=outputs,
            dynamic_shapes=tuple({0: batch} for _ in inputs),
        )


def input_names(module: Any, known: list[str]) -> list[str]:
    """Names of the forward's arguments without a default; raises `ChildRefusalError` where the data lacks one."""
    parameters = inspect.signature(module.forward).parameters.values()
    names = [
        p.name for p in parameters if p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
    ]
    if len(names) == 1 and len(known) == 1:
        return names
    if set(names) != set(known):
        raise sandbox.ChildRefusalError(
            f"forward takes {names}, the data holds {known}", "Name the arrays `x:<argument>`."
        )
    return names


def output_names(module: Any, result: Any) -> list[str]:
    """Names of the outputs: `module.output_names`, the keys of a dict, or (probabilities, embedding)."""
    declared = getattr(module, "output_names", None)
    if declared:
        return list(declared)
    if isinstance(result, dict):
        return list(result)
    count = len(result) if isinstance(result, (tuple, list)) else 1
    return list(CLASSIFIER[:count]) if count <= len(CLASSIFIER) else [f"output_{i}" for i in range(count)]


if __name__ == "__main__":
    sys.exit(main())

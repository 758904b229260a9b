"""Child process: a torch module or a `.pt2` program to ONNX with torch's own (dynamo) exporter.

`python -m outrider_compiler.importers.torch_export '{"architecture": …, "weights": …, "example": …, "out": …}'`
Input names are the forward's arguments, output names the keys of a dict, or what the module says in `output_names`.
Inputs have the dtypes of the example, but for float64: numpy's default becomes the dtype of the module's weights.
"""

from __future__ import annotations

import contextlib
import inspect
import io
import logging
import sys
import warnings
from pathlib import Path
from typing import Any

from outrider_compiler.importers import program_file, sandbox

OPSET = 18
INNER = ".inner"
CLASSIFIER = ("probabilities", "embedding")


def main() -> int:
    """Export; 0, or 3 with a JSON line on stdout."""
    warnings.simplefilter("ignore")
    logging.disable(logging.ERROR)
    return sandbox.main(work)


def work(task: dict[str, Any]) -> None:
    """Export what the task names; raises `ChildRefusalError`."""
    folder = Path(task["out"]).parent
    sandbox.prepare(folder)
    if task["weights"].endswith(program_file.SUFFIX):
        export_program(program_file.load(Path(task["weights"]), folder), task["out"])
    else:
        export(sandbox.make_module(task["architecture"], task["weights"], folder), task["example"], task["out"])


def export(module: Any, example: str, out: str) -> None:
    """Write `out`; raises `ChildRefusalError` where torch cannot export the module."""
    import torch

    feeds = feeds_of(module, example)
    names = input_names(module, list(feeds))
    inputs = tuple(feeds[name] if name in feeds else next(iter(feeds.values())) for name in names)
    batch = torch.export.Dim("batch")
    with torch.no_grad():
        outputs = output_names(module, module(*inputs))
    _convert(out, names, outputs, model=module, args=inputs, dynamic_shapes=tuple({0: batch} for _ in inputs))


def export_program(program: Any, out: str) -> None:
    """Write `out`, in the shapes with which the program was exported; raises `ChildRefusalError`."""
    spec = program.call_spec.out_spec
    names = [str(key) for key in spec.context] if spec.type is dict else _usual_names(spec.num_leaves)
    _convert(out, program_file.names_of(program), names, model=program)


def feeds_of(module: Any, example: str) -> dict[str, Any]:
    """The example's arrays as tensors, by name."""
    import numpy as np
    import torch

    with np.load(example, allow_pickle=False) as samples:
        feeds = {name: torch.from_numpy(samples[name]) for name in samples.files}
    floats = (item.dtype for item in module.parameters() if item.dtype.is_floating_point)
    dtype = next(floats, torch.float32)
    return {name: value.to(dtype) if value.dtype == torch.float64 else value for name, value in feeds.items()}


def _convert(out: str, names: list[str], outputs: list[str], **what: Any) -> None:
    import torch

    try:
        program = _program(names, **what)
    except (torch.onnx.errors.OnnxExporterError, RuntimeError, ValueError, TypeError) as error:
        said = error.__cause__ or error
        raise sandbox.ChildRefusalError(
            f"torch cannot export the module: {said}", "torch.export must accept it."
        ) from error
    _name_outputs(program.model.graph, outputs)
    program.save(out)


def _name_outputs(graph: Any, wanted: list[str]) -> None:
    """Give the outputs their names; whatever else had one of them (an operator's own word) gets another."""
    values = [value for node in graph.all_nodes() for value in node.outputs] + list(graph.initializers.values())
    for value in values:
        if value.name in wanted:
            value.name = f"{value.name}{INNER}"
    for value, name in zip(graph.outputs, wanted, strict=True):
        value.name = name


def _program(names: list[str], **what: Any) -> Any:
    import torch

    with contextlib.redirect_stdout(io.StringIO()), torch.no_grad():
        return torch.onnx.export(
            dynamo=True,
            optimize=True,
            verbose=False,
            opset_version=OPSET,
            input_names=names,
            **what,
        )


def input_names(module: Any, known: list[str]) -> list[str]:
    """Names of the forward's arguments without a default, or `module.input_names`.

    Raises `ChildRefusalError` where the data lacks one.
    """
    parameters = inspect.signature(module.forward).parameters.values()
    names = list(getattr(module, "input_names", ())) or [
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
    return _usual_names(len(result) if isinstance(result, (tuple, list)) else 1)


def _usual_names(count: int) -> list[str]:
    return list(CLASSIFIER[:count]) if count <= len(CLASSIFIER) else [f"output_{i}" for i in range(count)]


if __name__ == "__main__":
    sys.exit(main())

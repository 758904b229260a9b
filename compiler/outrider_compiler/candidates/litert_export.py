"""Child process: a torch module (or a float .tflite file) to LiteRT, in every form that is asked for.

`python -m outrider_compiler.candidates.litert_export '{…, "out": "litert.tflite", "task": "{…}"}'`

1. `out` is converted once (`source` absent), is there from an earlier conversion (`"converted"`), or is a file that
   came as it is (`"file"`) and ships as it is.
2. Beside each form's file stands a JSON file with its layers, or with the reason why there is none.
3. Ranges are plain minimum and maximum over the samples: the quantizer's default calibrator clips.
"""

from __future__ import annotations

import json
import logging
import sys
import warnings
from pathlib import Path
from typing import Any

from outrider_compiler.candidates import litert_slim
from outrider_compiler.candidates.litert_ends import ends_of
from outrider_compiler.candidates.litert_recipes import Board, recipe
from outrider_compiler.importers import sandbox
from outrider_compiler.importers.torch_export import input_names

Rows = list[dict[str, Any]]


def main() -> int:
    """Convert; 0, or 3 with a JSON line on stdout."""
    warnings.simplefilter("ignore")
    logging.disable(logging.ERROR)
    return sandbox.main(work)


def work(task: dict[str, Any]) -> None:
    """Convert and quantize what the task names; raises `ChildRefusalError`."""
    out, asked = Path(task["out"]), json.loads(task["task"])
    sandbox.prepare(out.parent)
    if "source" not in task:
        _convert(sandbox.make_module(task["architecture"], task["weights"], out.parent), task["example"], task["out"])
    forms = _Forms(out.read_bytes(), asked, as_it_came=task.get("source") == "file")
    for form, path in asked["forms"].items():
        forms.write(form, Path(path))


def _convert(module: Any, example: str, out: str) -> None:
    import litert_torch
    import numpy as np
    import torch

    with np.load(example, allow_pickle=False) as samples:
        feeds = {name: torch.from_numpy(samples[name][:1]) for name in samples.files}
    names = input_names(module, list(feeds))
    inputs = tuple(feeds[name] if name in feeds else next(iter(feeds.values())) for name in names)
    try:
        litert_torch.convert(folded(module, inputs), inputs).export(out)
    except (RuntimeError, ValueError, TypeError, NotImplementedError) as error:
        text = " ".join(str(error).split())[:400]
        raise sandbox.ChildRefusalError(
            f"litert-torch refused: {text}", "Replace the operator that it names."
        ) from error


def folded(module: Any, inputs: tuple[Any, ...]) -> Any:
    """The module with batch norms folded into convolutions, where torch can trace it and both answer alike.

    The converter folds those of Conv2d itself, and leaves a product and a sum behind each Conv1d.
    """
    import torch
    from torch.fx.experimental.optimization import fuse

    try:
        fused = fuse(module).eval()
        with torch.no_grad():
            both = [torch.utils._pytree.tree_leaves(made(*inputs)) for made in (module, fused)]
        alike = all(torch.allclose(one, other, rtol=1e-3, atol=1e-4) for one, other in zip(*both, strict=True))
    except (torch.fx.proxy.TraceError, RuntimeError, ValueError, TypeError, AttributeError, NameError, KeyError):
        return module
    return fused if alike else module


class _Forms:
    """The forms of one float file; calibration runs once for those that need the same ranges."""

    def __init__(self, plain: bytes, asked: dict[str, Any], *, as_it_came: bool) -> None:
        self.plain, self.as_it_came = plain, as_it_came
        self.samples, self.board = asked["samples"], Board(asked["per_channel"], asked["full"])
        self.names: dict[bytes, bytes] = {}
        self.model = litert_slim.parsed(plain)
        self.kinds = {kind for graph in self.model.subgraphs for kind, _ in litert_slim.operators(self.model, graph)}
        self.ends = ends_of(self.model)
        if not as_it_came:
            litert_slim.rename(self.model, self.names)

    def write(self, form: str, path: Path) -> None:
        """The form's file and its layers, or the reason why it has none."""
        try:
            data, model = self._made(form)
        except (RuntimeError, ValueError, TypeError, KeyError, IndexError, NotImplementedError) as error:
            said: dict[str, Any] = {"reason": f"the quantizer refused: {' '.join(str(error).split())[:200]}"}
        else:
            path.write_bytes(data)
            originals = {short.decode(): long.decode() for long, short in self.names.items()}
            said = {"layers": litert_slim.layers(model, originals)}
            if form != "fp32" and not _has_integers(model):
                said = {"reason": "nothing changed: no weight of the model could be quantized"}
        path.with_suffix(".json").write_text(json.dumps(said), encoding="utf-8")

    def _made(self, form: str) -> tuple[bytes, Any]:
        if form == "fp32":
            return (self.plain if self.as_it_came else litert_slim.packed(self.model)), self.model
        model = litert_slim.parsed(self._quantized(recipe(form, self.kinds, self.board, self.ends)))
        litert_slim.free_outputs(model)
        if not self.as_it_came:
            litert_slim.rename(model, self.names)
        return litert_slim.packed(model), model

    def _quantized(self, manager: Any) -> bytes:
        from ai_edge_quantizer import calibrator, quantizer
        from ai_edge_quantizer.utils import qsv_utils

        worker = quantizer.Quantizer(self.plain, manager.get_quantization_recipe())
        if not manager.need_calibration():
            return bytes(worker.quantize().quantized_model)
        signature, names = self._signature()
        measured = calibrator.Calibrator(self.plain, num_threads=1, qsv_update_func=qsv_utils.min_max_update)
        measured.calibrate({signature: _rows(self.samples, names)}, manager)
        return bytes(worker.quantize(measured.get_model_qsvs()).quantized_model)

    def _signature(self) -> tuple[str, list[str]]:
        """The file's only signature with the names of its inputs; raises `ValueError`."""
        from ai_edge_litert.interpreter import Interpreter

        interpreter = Interpreter(model_content=self.plain)
        signatures = interpreter.get_signature_list()
        if len(signatures) != 1:
            raise ValueError(f"the file has {len(signatures)} signatures, one is needed to calibrate by")
        if any(detail["quantization_parameters"]["scales"].size for detail in interpreter.get_tensor_details()):
            raise ValueError("the file is quantized already: give the float file")
        ((name, sides),) = signatures.items()
        return str(name), list(sides["inputs"])


def _has_integers(model: Any) -> bool:
    """Whether a tensor of more than one dimension is quantized."""
    return any(
        tensor.quantization is not None and tensor.quantization.scale is not None and len(tensor.shape) > 1
        for graph in model.subgraphs
        for tensor in graph.tensors
    )


def _rows(samples: str, names: list[str]) -> Rows:
    """Samples under the file's names: its own, or `args_0`, `args_1`, … in the order of the data."""
    import numpy as np

    with np.load(samples, allow_pickle=False) as archive:
        own = set(archive.files) == set(names)
        columns = {name if own else f"args_{i}": archive[name] for i, name in enumerate(archive.files)}
    count = range(len(next(iter(columns.values()))))
    return [{name: np.ascontiguousarray(column[row : row + 1]) for name, column in columns.items()} for row in count]


if __name__ == "__main__":
    sys.exit(main())

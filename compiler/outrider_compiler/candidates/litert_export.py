"""Child process: a torch module to LiteRT, fp32 and (where asked) static int8 of the same file.

`python -m outrider_compiler.candidates.litert_export '{…, "out": "fp32.tflite", "int8": "int8.tflite", "samples": …}'`

With `"source": "file"`, `out` is there already and is quantized alone.
Inputs, outputs and softmax stay in float; ranges are plain minimum and maximum over the samples.
"""

from __future__ import annotations

import logging
import sys
import warnings
from pathlib import Path
from typing import Any, Final

from outrider_compiler.importers import sandbox
from outrider_compiler.importers.torch_export import input_names

STAYS_FLOAT: Final = ("INPUT", "OUTPUT", "SOFTMAX")


def main() -> int:
    """Convert; 0, or 3 with a JSON line on stdout."""
    warnings.simplefilter("ignore")
    logging.disable(logging.ERROR)
    return sandbox.main(work)


def work(task: dict[str, Any]) -> None:
    """Convert and quantize what the task names; raises `ChildRefusalError`."""
    out = Path(task["out"])
    sandbox.prepare(out.parent)
    if task.get("source") != "file":
        _convert(sandbox.make_module(task["architecture"], task["weights"], out.parent), task["example"], task["out"])
    if task["int8"]:
        Path(task["int8"]).write_bytes(_quantized(out, task["samples"]))


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


def _quantized(plain: Path, samples: str) -> bytes:
    from ai_edge_quantizer import calibrator, quantizer
    from ai_edge_quantizer.utils import qsv_utils

    recipe = _recipe()
    signature, names = _signature(plain)
    measured = calibrator.Calibrator(plain.read_bytes(), num_threads=1, qsv_update_func=qsv_utils.min_max_update)
    measured.calibrate({signature: _rows(samples, names)}, recipe)
    worker = quantizer.Quantizer(plain.read_bytes(), recipe.get_quantization_recipe())
    return bytes(worker.quantize(measured.get_model_qsvs()).quantized_model)


def _signature(plain: Path) -> tuple[str, list[str]]:
    """The file's only signature with the names of its inputs; raises `ChildRefusalError`."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(plain))
    signatures = interpreter.get_signature_list()
    if len(signatures) != 1:
        raise sandbox.ChildRefusalError(f"the file has {len(signatures)} signatures", "One is needed to calibrate by.")
    if any(detail["quantization_parameters"]["scales"].size for detail in interpreter.get_tensor_details()):
        raise sandbox.ChildRefusalError("the file is quantized already", "Give the float file.")
    ((name, sides),) = signatures.items()
    return str(name), list(sides["inputs"])


def _recipe() -> Any:
    from ai_edge_quantizer import recipe_manager
    from ai_edge_quantizer.algorithm_manager import AlgorithmName
    from ai_edge_quantizer.qtyping import TFLOperationName

    recipe = recipe_manager.RecipeManager()
    recipe.add_static_config(
        regex=".*", operation_name=TFLOperationName.ALL_SUPPORTED, activation_num_bits=8, weight_num_bits=8
    )
    for name in STAYS_FLOAT:
        recipe.add_quantization_config(
            regex=".*", operation_name=TFLOperationName(name), algorithm_key=AlgorithmName.NO_QUANTIZE
        )
    return recipe


def _rows(samples: str, names: list[str]) -> list[dict[str, Any]]:
    """Samples under the file's names: its own, or `args_0`, `args_1`, … in the order of the data."""
    import numpy as np

    with np.load(samples, allow_pickle=False) as archive:
        own = set(archive.files) == set(names)
        columns = {name if own else f"args_{i}": archive[name] for i, name in enumerate(archive.files)}
    count = range(len(next(iter(columns.values()))))
    return [{name: np.ascontiguousarray(column[row : row + 1]) for name, column in columns.items()} for row in count]


if __name__ == "__main__":
    sys.exit(main())

"""Child process: one step of the fast gradient sign method against a torch classifier.

`python -m outrider_compiler.importers.fgsm '{…, "samples": npz of x:<input>, y, step, "input", "output", "out": npz}'`
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from outrider_compiler.importers import sandbox
from outrider_compiler.importers.torch_export import input_names, output_names


def main() -> int:
    """Write the adversarial inputs; 0, or 3 with a JSON line on stdout."""
    return sandbox.main(work)


def work(task: dict[str, Any]) -> None:
    """Attack the module that the task names; raises `ChildRefusalError`."""
    folder = Path(task["out"]).parent
    sandbox.prepare(folder)
    _attack(sandbox.make_module(task["architecture"], task["weights"], folder), task)


def _attack(module: Any, task: dict[str, str]) -> None:
    import numpy as np
    import torch

    with np.load(task["samples"], allow_pickle=False) as arrays:
        feeds = {name[2:]: torch.from_numpy(arrays[name]) for name in arrays.files if name.startswith("x:")}
        y, step = torch.from_numpy(arrays["y"]), torch.from_numpy(arrays["step"])
    watched = feeds[task["input"]].requires_grad_()
    names = input_names(module, list(feeds))
    result = module(*(feeds.get(name, watched) for name in names))
    outputs = list(result.values()) if isinstance(result, dict) else sandbox.as_list(result)
    probabilities = dict(zip(output_names(module, result), outputs, strict=True))[task["output"]]
    loss = torch.nn.functional.nll_loss(torch.log(probabilities.clamp_min(1e-12)), y)
    (gradient,) = torch.autograd.grad(loss, watched)
    np.savez(task["out"], x=(watched + gradient.sign() * step).detach().numpy())


if __name__ == "__main__":
    sys.exit(main())

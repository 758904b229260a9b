"""The child process that runs foreign code: no network, one thread, one line of JSON as its last word.

The network is refused by an audit hook, which the interpreter cannot take off again; it stops mistakes and downloads in
loaders, and is no jail for native code.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from pathlib import Path
from typing import Any

NETWORK_EVENTS = frozenset(
    {"socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.bind", "socket.sendto"}
)


class ChildRefusalError(Exception):
    """What the parent shall say."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


def cut_network() -> None:
    """From here on every use of the network in this process raises `PermissionError`."""

    def refuse(event: str, _arguments: tuple[Any, ...]) -> None:
        if event in NETWORK_EVENTS:
            raise PermissionError(f"{event}: the compiler's importer has no network")

    sys.addaudithook(refuse)


def refuse(error: ChildRefusalError) -> int:
    """Print the last word; returns the exit status."""
    print(json.dumps({"error": str(error), "hint": error.hint}))
    return 3


def prepare() -> None:
    """Cut the network, keep to one thread, and let `module:callable` be found in the current folder."""
    cut_network()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.path.insert(0, str(Path.cwd()))
    import torch

    torch.set_num_threads(1)


def as_list(result: Any) -> list[Any]:
    """What a module returned, as a list of tensors."""
    return list(result) if isinstance(result, (tuple, list)) else [result]


def make_module(architecture: str, weights: str) -> Any:
    """Build the module in evaluation mode, with its weights; raises `ChildRefusalError`."""
    import torch

    module_name, _, attribute = architecture.partition(":")
    try:
        module = getattr(importlib.import_module(module_name), attribute)()
    except (ImportError, AttributeError, TypeError) as error:
        raise ChildRefusalError(
            f"{architecture}: {error}", "It must be importable here and callable without arguments."
        ) from error
    if not isinstance(module, torch.nn.Module):
        raise ChildRefusalError(f"{architecture} returned {type(module).__name__}", "It must return a torch.nn.Module.")
    if weights:
        load_weights(module, weights)
    return module.eval()


def load_weights(module: Any, weights: str) -> None:
    """Read a state dict without running code from it; raises `ChildRefusalError`."""
    state = _safetensors(weights) if weights.endswith(".safetensors") else _checkpoint(weights)
    try:
        module.load_state_dict(state, strict=True)
    except (RuntimeError, AttributeError, TypeError) as error:
        text = " ".join(str(error).split())[:400]
        raise ChildRefusalError(f"{weights}: {text}", "The state dict belongs to another architecture.") from error


def _safetensors(weights: str) -> Any:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(weights)
    except (SafetensorError, OSError) as error:
        raise ChildRefusalError(f"{weights}: {error}", "The file is damaged or no safetensors file.") from error


def _checkpoint(weights: str) -> Any:
    import pickle
    import zipfile

    import torch

    try:
        return torch.load(weights, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        text = str(error).split("WeightsUnpickler error:")[-1].strip().split(". ")[0][:200]
        hint = (
            "Save `module.state_dict()` alone (best as safetensors); objects that run code when loaded are never read."
        )
        raise ChildRefusalError(f"{weights}: refused to unpickle: {text}", hint) from error
    except (OSError, RuntimeError, EOFError, ValueError, zipfile.BadZipFile) as error:
        raise ChildRefusalError(
            f"{weights}: {str(error)[:300]}", "The file is damaged or no torch checkpoint."
        ) from error

"""Child process: weights from `.safetensors`, `.pt` or `.pth` into a module, as data and never as code.

1. `torch.load` runs with `weights_only=True` and without fallback, while `sandbox.reading` watches.
2. A zip that unpacks to more than `limits.LAYER_BYTES` is refused before anything is read from it.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any, Final

from outrider_compiler.importers.sandbox import ChildRefusalError, ForbiddenError, reading
from outrider_protocol import limits

WEIGHTS_ALONE: Final = (
    "Save `module.state_dict()` alone (best as safetensors); objects that run code when loaded are never read."
)
NO_CHECKPOINT: Final = "The file is damaged or no torch checkpoint."


def into(module: Any, weights: Path, folder: Path) -> None:
    """Put the state dict into the module; raises `ChildRefusalError`."""
    with reading(weights, folder):
        state = _safetensors(weights) if weights.suffix == ".safetensors" else _checkpoint(weights)
    if not isinstance(state, dict):
        raise ChildRefusalError(f"{weights}: holds a {type(state).__name__}, no state dict", WEIGHTS_ALONE)
    try:
        module.load_state_dict(state, strict=True)
    except (RuntimeError, AttributeError, TypeError) as error:
        raise ChildRefusalError(f"{weights}: {error}", "The state dict belongs to another architecture.") from error


def check_zip(path: Path) -> list[str]:
    """Names in a zip that unpacks within the limit; raises `ChildRefusalError`."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise ChildRefusalError(f"{path}: {error}", NO_CHECKPOINT) from error
    total = sum(member.file_size for member in members)
    if total > limits.LAYER_BYTES:
        raise ChildRefusalError(f"{path}: unpacks to {total} bytes, {limits.LAYER_BYTES} are allowed", NO_CHECKPOINT)
    return [member.filename for member in members]


def _safetensors(weights: Path) -> Any:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(weights)
    except (SafetensorError, OSError, ValueError, TypeError, RuntimeError) as error:
        raise ChildRefusalError(f"{weights}: {error}", "The file is damaged or no safetensors file.") from error


def _checkpoint(weights: Path) -> Any:
    import pickle

    import torch

    if zipfile.is_zipfile(weights):
        check_zip(weights)
    try:
        return torch.load(weights, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        text = str(error).split("WeightsUnpickler error:")[-1].strip().split(". ")[0][:200]
        raise ChildRefusalError(f"{weights}: refused to unpickle: {text}", WEIGHTS_ALONE) from error
    except ForbiddenError:
        raise
    except (OSError, RuntimeError, EOFError, LookupError, ValueError, TypeError, AttributeError) as error:
        raise ChildRefusalError(f"{weights}: {error}", NO_CHECKPOINT) from error

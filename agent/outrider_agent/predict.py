"""`outrider-agent predict FILE`: sends one file's inputs through the local API, as an application would.

A `.npz` file holds one array an input; a `.json` file an object of nested lists. Object arrays are refused (no pickle).
"""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from outrider_agent.errors import InputError
from outrider_agent.paths import Paths

if TYPE_CHECKING:
    import numpy as np

FILE_BYTES: Final = 512 * 1024 * 1024


def predict(paths: Paths, file: Path, model: str | None) -> dict[str, Any]:
    """Answer of the running model as a JSON object; raises `InputError` or what the client raises."""
    from outrider_agent.client import Client

    with Client(paths.model_socket(model or only_model(paths))) as client:
        result = client.infer(read_inputs(file))
    outputs = {name: values.tolist() for name, values in result.outputs.items()}
    return {"digest": result.digest, "prediction_ids": result.prediction_ids, "outputs": outputs}


def only_model(paths: Paths) -> str:
    """The one model that is served here; raises `InputError` when there is none or several."""
    names = sorted(path.stem for path in paths.run.glob("*.sock") if path != paths.status_socket)
    if len(names) != 1:
        raise InputError(f"{paths.run} serves {', '.join(names) or 'nothing'}", "Name one with --model.")
    return names[0]


def read_inputs(file: Path) -> dict[str, np.ndarray[Any, np.dtype[Any]]]:
    """The arrays of a file; raises `InputError`."""
    import numpy as np

    try:
        if file.stat().st_size > FILE_BYTES:
            raise InputError(f"{file}: larger than {FILE_BYTES} bytes")
        if file.suffix == ".json":
            document = json.loads(file.read_text(encoding="utf-8"))
            return {name: np.asarray(values, dtype=np.float32) for name, values in document.items()}
        with np.load(file, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except (OSError, ValueError, AttributeError, zipfile.BadZipFile) as error:
        hint = "Give a .npz with one array an input, or a .json object of nested lists."
        raise InputError(f"{file}: {error}", hint) from error

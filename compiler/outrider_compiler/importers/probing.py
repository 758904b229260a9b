"""The parent's side of `probe`: starts it on a file and takes over what it found and wrote."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from outrider_compiler.errors import SourceError, UnsupportedModelError
from outrider_compiler.importers import child
from outrider_compiler.importers.imported import Imported
from outrider_profiles import Profile

MODULE: Final = "outrider_compiler.importers.probe"
BASE_TIMEOUT_S: Final = 30
TIMEOUT_S_PER_GIB: Final = 120
TFLITE: Final = ".tflite"


@dataclass(frozen=True)
class Probed:
    """What a child made of a file. `verdicts` are those of `probe`, by profile; `model` is the file that it wrote."""

    digest: str
    verdicts: dict[str, dict[str, Any]]
    model: Path

    def require(self) -> None:
        """Raise `UnsupportedModelError` for the first profile that refuses the model."""
        for verdict in self.verdicts.values():
            if verdict["applies"] and not verdict["ok"]:
                raise UnsupportedModelError(verdict["reason"], verdict["hint"])

    def imported(self) -> Imported:
        """The model in memory."""
        data = self.model.read_bytes()
        if self.model.suffix == TFLITE:
            return Imported(None, "tflite", self.digest, tflite=data)
        import onnx

        return Imported(onnx.load_model_from_string(data), "onnx", self.digest)


def timeout_s(size_bytes: int) -> float:
    """How long a file of `size_bytes` may take."""
    return BASE_TIMEOUT_S + TIMEOUT_S_PER_GIB * size_bytes / (1 << 30)


def probe(
    path: Path, name: str, profiles: tuple[Profile, ...], folder: Path, meanwhile: Callable[[], None] = child.idle
) -> Probed:
    """Have a child read `path` (called `name` in errors); `folder` takes what it writes. Raises `SourceError`."""
    size = _size(path, name)
    listed, out = folder / "profiles.json", folder / f"probed{path.suffix}"
    listed.write_text(json.dumps([{**asdict(profile), "sources": {}} for profile in profiles]), encoding="utf-8")
    limit = timeout_s(size)
    task = {
        "file": str(path), "name": name, "size_bytes": size, "seconds": limit, "profiles": str(listed), "out": str(out)
    }  # fmt: skip
    answer = child.run(MODULE, task, name, limit, meanwhile)
    return Probed(str(answer["digest"]), dict(answer["profiles"]), out)


def _size(path: Path, name: str) -> int:
    try:
        if not path.is_file():
            raise SourceError(f"{name}: no such file")
        return path.stat().st_size
    except (OSError, ValueError) as error:
        raise SourceError(f"{name}: {error}") from error

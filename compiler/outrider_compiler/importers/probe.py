"""Child process: reads a foreign .onnx or .tflite file, checks it for each profile, loads it and runs it once.

`python -m outrider_compiler.importers.probe '{"file": …, "name": …, "profiles": "profiles.json", "out": …}'`

1. Memory, processor time and core dumps are bounded first: a file that crashes, hangs or grows ends this process alone.
2. What it writes to `out` has been read whole and checked; the parent reads nothing else.
3. The answer is `{"digest", "profiles": {name: {"ok", "applies", "reason", "hint"}}}`; `applies` is false where the
   profile's engine reads another format.
"""

from __future__ import annotations

import hashlib
import json
import logging
import sys
import warnings
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from outrider_compiler import checks, engines, tflite_checks
from outrider_compiler.candidate import Candidate
from outrider_compiler.errors import RefusedError, SourceError, UnsupportedModelError
from outrider_compiler.importers import onnx_file, sandbox, tflite_file
from outrider_compiler.importers.imported import NO_ONNX
from outrider_compiler.normalise import convert, copied, simplify
from outrider_profiles import Load, Profile
from outrider_profiles.reader import Table

if TYPE_CHECKING:
    from onnx import ModelProto

NO_LITERT: Final = "an ONNX file cannot become a LiteRT model: give the torch source of the model, or its .tflite file"
TFLITE: Final = ".tflite"
YES: Final = {"ok": True, "applies": True, "reason": "", "hint": ""}


def main() -> int:
    """Probe; 0 with the answer, or 3 with a JSON line on stdout."""
    warnings.simplefilter("ignore")
    logging.disable(logging.ERROR)
    return sandbox.main(work)


def work(task: dict[str, Any]) -> dict[str, Any]:
    """See the module; raises `SourceError`."""
    path = Path(task["file"])
    sandbox.bound(task["size_bytes"], task["seconds"])
    sandbox.cut_network()
    profiles = [Table(item, "profiles", "").read(Profile) for item in json.loads(Path(task["profiles"]).read_bytes())]
    read = _tflite if path.suffix == TFLITE else _onnx
    try:
        return read(path, profiles, Path(task["out"]))
    except RefusedError as error:
        raise SourceError(_named(str(error), task["file"], task["name"]), error.hint) from error


def _named(message: str, file: str, name: str) -> str:
    """The message with the file under the name by which the engineer knows it."""
    return name + message.removeprefix(file) if message.startswith(file) else f"{name}: {message}"


def _onnx(path: Path, profiles: list[Profile], out: Path) -> dict[str, Any]:
    model, digest = onnx_file.read(path)
    out.write_bytes(model.SerializeToString())
    fitting = [profile for profile in profiles if profile.engine.format == "onnx"]
    admitted = _Admission(model)
    verdicts = {
        profile.name: admitted.verdict(profile) if profile in fitting else _no(NO_LITERT, applies=False)
        for profile in profiles
    }
    if not fitting or any(verdicts[profile.name]["ok"] for profile in fitting):
        _ = admitted.simplified
        _try(engines.load(Candidate("source", "fp32", "onnxruntime", model.SerializeToString()), Load()))
    return {"digest": digest, "profiles": verdicts}


class _Admission:
    """Which profiles run a model; what is the same for several of them is done once."""

    def __init__(self, model: ModelProto) -> None:
        self.model = model
        self._loaded: set[tuple[bytes, Load]] = set()

    @cached_property
    def simplified(self) -> ModelProto:
        """The form that candidates are made from."""
        return simplify(self.model)

    def verdict(self, profile: Profile) -> dict[str, Any]:
        """Check, convert and load; raises `SourceError` where the model cannot even be simplified."""
        try:
            checks.check_domains(self.model, profile)  # first: simplifying knows nothing of foreign operators
            checks.check(self.simplified, profile)
            self._load(convert(copied(self.simplified), profile).SerializeToString(deterministic=True), profile.load)
        except UnsupportedModelError as error:
            return _no(str(error), error.hint)
        return YES

    def _load(self, data: bytes, load: Load) -> None:
        key = hashlib.sha256(data).digest(), load
        if key not in self._loaded:
            engines.load(Candidate("fp32", "fp32", "onnxruntime", data), load)
            self._loaded.add(key)


def _no(reason: str, hint: str = "", *, applies: bool = True) -> dict[str, Any]:
    return {"ok": False, "applies": applies, "reason": reason, "hint": hint}


def _tflite(path: Path, profiles: list[Profile], out: Path) -> dict[str, Any]:
    tflite_file.require_engine()
    data = onnx_file.read_bytes(path)
    described = tflite_file.describe(data, str(path))
    verdicts = {profile.name: _tflite_verdict(described, profile) for profile in profiles}
    applying = [verdict for verdict in verdicts.values() if verdict["applies"]]
    if not applying or any(verdict["ok"] for verdict in applying):
        _try(engines.load(Candidate("source", "fp32", "litert", data), Load()))
    out.write_bytes(data)
    return {"digest": "sha256:" + hashlib.sha256(data).hexdigest(), "profiles": verdicts}


def _tflite_verdict(described: tflite_file.Described, profile: Profile) -> dict[str, Any]:
    if profile.engine.format != "tflite":
        return _no(NO_ONNX, applies=False)
    try:
        tflite_checks.check(described, profile)
    except UnsupportedModelError as error:
        return _no(str(error), error.hint)
    return YES


def _try(runner: engines.Runner) -> None:
    """Answer zeros once: a crash or a hang belongs into this process, an engine's own complaint may be about zeros."""
    import numpy as np

    known = all(spec.dtype in checks.INPUT_TYPES for spec in runner.inputs)
    if not known:
        return
    zeros = {spec.name: np.zeros([max(n, 1) for n in spec.shape], spec.dtype) for spec in runner.inputs}
    try:
        runner.once(zeros)
    except engines.complaints() as error:
        if "alloc" in str(error).lower():
            raise SourceError(f"one inference takes more memory than there may be: {error}") from error


if __name__ == "__main__":
    sys.exit(main())

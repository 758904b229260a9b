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
    fitting = [profile for profile in profiles if profile.engine.format == "onnx"]
    foreign = _foreign_operators(model, fitting)
    verdicts = {profile.name: _no(NO_LITERT, applies=False) for profile in profiles} | foreign
    if len(foreign) < len(fitting) or not fitting:
        admission = _Admission(onnx_file.checked(model, str(path)))
        verdicts |= {item.name: admission.verdict(item) for item in fitting if item.name not in foreign}
        out.write_bytes(admission.model.SerializeToString())
        if not fitting or any(verdict["ok"] for verdict in verdicts.values()):
            admission.answer_once()
    return {"digest": digest, "profiles": verdicts}


def _foreign_operators(model: ModelProto, profiles: list[Profile]) -> dict[str, dict[str, Any]]:
    """Refusals for operators that an engine does not have: before checking and simplifying, which stumble over them."""
    refused: dict[str, dict[str, Any]] = {}
    for profile in profiles:
        try:
            checks.check_domains(model, profile)
        except UnsupportedModelError as error:
            refused[profile.name] = _no(str(error), error.hint)
    return refused


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
            checks.check(self.simplified, profile)
            self._load(convert(copied(self.simplified), profile).SerializeToString(deterministic=True), profile.load)
        except UnsupportedModelError as error:
            return _no(str(error), error.hint)
        return YES

    def answer_once(self) -> None:
        """Load the source as it came, and have it answer."""
        _ = self.simplified
        _try(engines.load(Candidate("source", "fp32", "onnxruntime", self.model.SerializeToString()), Load()))

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
    """Answer ones once (zeros would divide by zero): a crash or a hang belongs into this process."""
    import numpy as np

    if not all(spec.dtype in checks.INPUT_TYPES for spec in runner.inputs):
        return  # the checks have said so
    try:
        feeds = {spec.name: np.ones([max(n, 1) for n in spec.shape], spec.dtype) for spec in runner.inputs}
        runner.once(feeds)
    except engines.complaints() as error:
        raise SourceError(f"its first inference, of ones, fails: {error}", "The message names the node.") from error


if __name__ == "__main__":
    sys.exit(main())

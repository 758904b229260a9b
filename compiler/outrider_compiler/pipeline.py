"""One build from request to release directory: every other module decides or writes, this one orders the steps.

1. Inputs are checked and the profile's refusals come before anything is quantized.
2. Everything is written into a folder beside `out`, which is renamed when it is complete: nothing half-written.
3. With a lock, nothing is measured: the locked candidates are built again and must have the locked digests.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from outrider_compiler.errors import UsageError
from outrider_compiler.progress import Progress, Silent
from outrider_compiler.release import Release
from outrider_compiler.request import BuildRequest
from outrider_profiles import Profile, ProfileError
from outrider_profiles import load as load_profile

if TYPE_CHECKING:
    from outrider_compiler.data import DataSet
    from outrider_compiler.documents import Origin
    from outrider_compiler.lock import Lock
    from outrider_compiler.measured import Measured


@dataclass(frozen=True)
class Inputs:
    """What a build reads before it imports the model."""

    profiles: tuple[Profile, ...]
    calibration: DataSet
    evaluation: DataSet
    origin: Origin
    lock: Lock | None
    measured: dict[str, Measured]


def build(request: BuildRequest, progress: Progress | None = None) -> Release:
    """Build a release; raises `CompilerError` and leaves nothing behind. See `BuildRequest`."""
    request.check()
    progress = progress or Silent()
    progress.say("reading data and profiles")
    inputs = _inputs(request)
    parent = request.out.absolute().parent
    scratch = Path(tempfile.mkdtemp(prefix=f".{request.out.name}.", dir=parent))
    try:
        _build_into(request, inputs, scratch, progress)
        (scratch / "release").rename(request.out)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return Release.open(request.out)


def _build_into(request: BuildRequest, inputs: Inputs, scratch: Path, progress: Progress) -> None:
    from outrider_compiler import importers, quiet, subject
    from outrider_compiler.assembly import Assembly
    from outrider_compiler.candidates.early import Conversion
    from outrider_compiler.preprocess import planning

    quiet.libraries()
    asked = planning.document(request.preprocess, inputs.calibration, inputs.evaluation)
    progress.say(f"importing {request.source}")
    example = planning.example(asked, inputs.calibration)
    source, architecture, profiles = request.source, request.architecture, inputs.profiles
    with Conversion(profiles, scratch) as conversion:
        imported = importers.load(source, architecture, example, scratch, profiles, conversion.begin)
        progress.say("checking the model against every profile")
        checked = subject.prepare(request, imported, profiles, inputs.calibration, inputs.evaluation, asked)
        assembly = Assembly(request, inputs, checked, scratch, progress)
        assembly.build_all(conversion.wait)
    if inputs.lock is None:
        assembly.measure_all()
    else:
        assembly.follow(inputs.lock)
    assembly.write(scratch / "release")


def _inputs(request: BuildRequest) -> Inputs:
    from outrider_compiler import data, lock, measured
    from outrider_compiler.documents import Origin

    profiles = load_profiles(request.profiles)
    calibration, evaluation = data.load(request.calibration), data.load(request.evaluation)
    data.check_disjoint(calibration, evaluation)
    locked = lock.load(request.locked) if request.locked else None
    timings = measured.load(request.measured, tuple(profile.name for profile in profiles))
    return Inputs(profiles, calibration, evaluation, Origin(_stated(request.provenance)), locked, timings)


def load_profiles(names: tuple[str, ...]) -> tuple[Profile, ...]:
    """Profiles by name or path, each once; raises `UsageError`."""
    try:
        loaded = {profile.name: profile for profile in map(load_profile, names)}
    except ProfileError as error:
        raise UsageError(str(error), error.hint) from error
    return tuple(loaded.values())


def _stated(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: {error}") from error
    if not isinstance(value, dict):
        raise UsageError(f"{path}: a JSON object is expected")
    return value

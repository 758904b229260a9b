"""What `check` and `inspect` say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from outrider_compiler import checks, engines
from outrider_compiler.candidate import Candidate
from outrider_compiler.errors import RefusedError
from outrider_compiler.importers import onnx_file
from outrider_compiler.normalise import convert, copied
from outrider_compiler.release import Release
from outrider_profiles import Profile
from outrider_protocol.manifest import Manifest


def check_file(path: Path, profiles: tuple[Profile, ...]) -> dict[str, dict[str, Any]]:
    """Per profile whether it runs the model; raises `SourceError` for a file that is no model at all."""
    model = onnx_file.load(path).model
    return {profile.name: _verdict(model, profile) for profile in profiles}


def _verdict(model: Any, profile: Profile) -> dict[str, Any]:
    try:
        checks.check(model, profile)
        converted = convert(copied(model), profile)
        if profile.engine.name == "onnxruntime":
            engines.load(Candidate("fp32", "fp32", "onnxruntime", converted.SerializeToString()), profile.load)
    except RefusedError as error:
        return {"ok": False, "reason": str(error), "hint": error.hint}
    return {"ok": True, "reason": "", "hint": ""}


def describe(release: Release) -> dict[str, Any]:
    """Model, version, counter and each artifact of a verified release."""
    index = release.index
    return {
        "model": index.model,
        "version": index.release,
        "counter": index.counter,
        "artifacts": {profile: _artifact(release, profile) for profile in release.profiles},
        "referrers": len(index.referrers),
    }


def _artifact(release: Release, profile: str) -> dict[str, Any]:
    config = release.config(profile)
    layers = Manifest.decode(release.manifest_bytes(profile)).device_layers()
    return {
        "digest": release.index.artifacts[profile].digest,
        "engine": config.engine,
        "precision": config.precision,
        "load": vars(config.load),
        "device_bytes": sum(layer.size for layer in layers),
        "files": {layer.title: layer.size for layer in layers},
    }

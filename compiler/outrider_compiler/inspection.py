"""What `check` and `inspect` say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from outrider_compiler import importers
from outrider_compiler.release import Release
from outrider_profiles import Profile
from outrider_protocol.manifest import Manifest


def check_file(path: Path, profiles: tuple[Profile, ...]) -> dict[str, dict[str, Any]]:
    """Per profile whether it runs the model, whose file is read, checked and loaded in a process of its own.

    Raises `SourceError` for a file that is no model at all.
    """
    return {
        name: {key: verdict[key] for key in ("ok", "reason", "hint")}
        for name, verdict in importers.check(path, profiles).items()
    }


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

"""Whether an uploaded release is what its pipeline signed; the same that a device will check later.

1. The delegated metadata passes `signing.verify` (threshold, version, expiry, paths).
2. Every artifact in the index is listed in the metadata with the same digest, length and counter; and vice versa.
3. Every manifest, config and device layer was uploaded and has its digest, length and chunks.
4. Manifest and config say the same model, version, counter and profile; titles are plain file names.
"""

import json
from dataclasses import dataclass
from typing import Any

from tuf.api.metadata import Metadata, Targets

from outrider_fleet.app import blobs
from outrider_fleet.app.fleet import Fleet
from outrider_fleet.errors import ReleaseRefusedError, TamperedError
from outrider_fleet.signing.verify import target_counter, verify_release_metadata
from outrider_protocol import ids, manifest
from outrider_protocol.errors import ProtocolError
from outrider_protocol.manifest import Config, Descriptor, Index, Manifest, Role
from outrider_protocol.statistics import ReferenceStatistics


@dataclass(frozen=True)
class CheckedRelease:
    """A release that may be published: its index, the role's version, one row an artifact."""

    index: Index
    role_version: int
    artifacts: list[dict[str, Any]]


def check(fleet: Fleet, metadata: bytes, index_text: bytes) -> CheckedRelease:
    """Return the release or raise `MetadataRefusedError`, `TamperedError`, `ReleaseRefusedError`, `UnknownError`."""
    try:
        index = Index.decode(index_text)
        return _check(fleet, metadata, index)
    except ProtocolError as error:
        raise ReleaseRefusedError(f"{type(error).__name__}: {error}") from error


def _check(fleet: Fleet, metadata: bytes, index: Index) -> CheckedRelease:
    targets = verify_release_metadata(fleet.home.trust, index.model, metadata)
    prefix = f"{index.model}/{index.release}/"
    listed = {path.removeprefix(prefix) for path in targets if path.startswith(prefix)}
    if listed != set(index.artifacts) or not listed:
        raise TamperedError(f"signed for {sorted(listed)}, the index has {sorted(index.artifacts)}")
    for profile, descriptor in index.artifacts.items():
        target = targets[prefix + profile]
        signed = (f"sha256:{target.hashes['sha256']}", target.length, target_counter(target))
        if signed != (descriptor.digest, descriptor.size, index.counter):
            raise TamperedError(f"{prefix}{profile}: the index and the signed metadata name different manifests")
    rows = [_artifact(fleet, index, profile, descriptor) for profile, descriptor in sorted(index.artifacts.items())]
    return CheckedRelease(index, role_version(metadata), rows)


def role_version(metadata: bytes) -> int:
    """The version of a delegated role whose signatures were verified."""
    return int(Metadata[Targets].from_bytes(metadata).signed.version)


def _artifact(fleet: Fleet, index: Index, profile: str, descriptor: Descriptor) -> dict[str, Any]:
    what = f"{index.model} {index.release} {profile}"
    parsed = Manifest.decode(blobs.read(fleet, descriptor.digest, descriptor.size, f"{what}: manifest"))
    config_bytes = blobs.read(fleet, parsed.config.digest, parsed.config.size, f"{what}: config")
    config = Config.decode(config_bytes)
    named = (config.model, config.version, config.counter, config.profile)
    if named != (index.model, index.release, index.counter, profile):
        raise ReleaseRefusedError(f"{what}: the config says {named}")
    layers = {layer.title: _layer(fleet, layer, what) for layer in parsed.device_layers()}
    model = _only_model(parsed, what)
    return {
        "digest": descriptor.digest,
        "model": index.model,
        "version": index.release,
        "profile": profile,
        "manifest_bytes": descriptor.size,
        "engine": config.engine,
        "precision": config.precision,
        "model_sha256": ids.hex_of(model.digest),
        "model_bytes": model.size,
        "reference_accuracy": _accuracy(parsed, layers),
        "config": json.loads(config_bytes),
        "layers": [_described(parsed.config, "config", "config.json"), *map(_layer_row, parsed.device_layers())],
    }


def _layer(fleet: Fleet, layer: Descriptor, what: str) -> bytes:
    data = blobs.read(fleet, layer.digest, layer.size, f"{what}: {layer.title}")
    if layer.chunks != manifest.chunk_digests(data):
        raise TamperedError(f"{what}: {layer.title}: the chunk digests are not those of its bytes")
    return data


def _only_model(parsed: Manifest, what: str) -> Descriptor:
    models = [layer for layer in parsed.device_layers() if layer.role is Role.MODEL]
    if not models:
        raise ReleaseRefusedError(f"{what}: no model file")
    return models[0]


def _accuracy(parsed: Manifest, layers: dict[str, bytes]) -> float | None:
    for layer in parsed.device_layers():
        if layer.role is Role.STATISTICS:
            return ReferenceStatistics.decode(layers[layer.title]).accuracy
    return None


def _layer_row(layer: Descriptor) -> dict[str, Any]:
    return _described(layer, layer.role.value, layer.title)


def _described(descriptor: Descriptor, role: str, title: str) -> dict[str, Any]:
    return {"digest": descriptor.digest, "size": descriptor.size, "role": role, "title": title, "device": True}

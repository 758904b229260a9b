"""Decides whether an uploaded delegated role may be published; what a device would check, before a device has to.

1. At most `limits.ROLE_BYTES`; targets metadata; enough valid signatures by the keys that targets delegates to.
2. Newer than what is published (the same bytes again are allowed), and not expired.
3. Every target lies in `<model>/<version>/<profile>` and has a SHA-256, a length and an integer counter.
4. A published artifact keeps its bytes and counter.

    targets = verify_release_metadata(home / "trust", "har", uploaded)
"""

import datetime as dt
from pathlib import Path

from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, TargetFile, Targets
from tuf.api.serialization import DeserializationError

from outrider_fleet.errors import MetadataRefusedError, TooLargeError
from outrider_fleet.pki.ca import utc_now
from outrider_fleet.signing.errors import (
    ChangedTargetError,
    ForeignTargetError,
    NotDelegatedError,
    RolledBackMetadataError,
    SignatureThresholdError,
)
from outrider_fleet.signing.repository import TrustRepository
from outrider_protocol import ids, limits
from outrider_protocol.errors import MalformedError


def verify_release_metadata(
    trust_dir: Path, model: str, data: bytes, *, now: dt.datetime | None = None
) -> dict[str, TargetFile]:
    """Return target path → target of a role that may be published as `model`; raises `MetadataRefusedError`."""
    repository, now = TrustRepository(trust_dir), now or utc_now()
    ids.model_name(model)
    top, _ = repository.verified_targets(now)
    metadata = _parse(data)
    verify_delegated(top, model, metadata)
    if metadata.signed.is_expired(now):
        raise MetadataRefusedError(f"{model}: expired {metadata.signed.expires:%Y-%m-%d}")
    for path, target in metadata.signed.targets.items():
        _check_target(model, path, target)
    published = repository.model_metadata(model)
    if published is not None and published != data:
        _check_newer(model, _parse(published).signed, metadata.signed)
    return metadata.signed.targets


def verify_delegated(top: Targets, model: str, metadata: "Metadata[Targets]") -> None:
    """Check the signatures of a delegated role; raises `NotDelegatedError` or `SignatureThresholdError`."""
    roles = top.delegations.roles if top.delegations else None
    if not roles or model not in roles:
        raise NotDelegatedError(f"no pipeline is delegated the model {model!r}")
    try:
        top.verify_delegate(model, metadata.signed_bytes, metadata.signatures)
    except RepositoryError as error:  # too few signatures, or nothing that can be signed
        raise SignatureThresholdError(f"{model}: {error}") from error


def _parse(data: bytes) -> "Metadata[Targets]":
    if len(data) > limits.ROLE_BYTES:
        raise TooLargeError(f"metadata of {len(data)} bytes, at most {limits.ROLE_BYTES} are read")
    try:
        metadata: Metadata[Targets] = Metadata.from_bytes(data)
    except (DeserializationError, RepositoryError) as error:
        raise MetadataRefusedError(f"not TUF metadata: {error}") from error
    if not isinstance(metadata.signed, Targets):
        raise MetadataRefusedError(f"metadata of type {metadata.signed.type!r}, targets expected")
    return metadata


def _check_target(model: str, path: str, target: TargetFile) -> None:
    try:
        named, version, profile = path.split("/")
        expected = ids.target_path(model, version, profile)
    except (ValueError, MalformedError) as error:
        raise ForeignTargetError(f"{path[:200]!r} is not {model}/<version>/<profile>") from error
    if named != model or path != expected:
        raise ForeignTargetError(f"{path!r} lies outside {model}/*/*")
    if len(target.hashes.get("sha256", "")) != 64 or not 1 < target.length <= limits.MANIFEST_BYTES:
        raise ForeignTargetError(f"{path}: a manifest has a SHA-256 and at most {limits.MANIFEST_BYTES} bytes")
    if target_counter(target) < 1:
        raise ForeignTargetError(f"{path}: custom.counter must be an integer above 0")


def target_counter(target: TargetFile) -> int:
    """The release counter of a target; 0 where it has none."""
    custom = target.custom
    counter = custom.get("counter") if isinstance(custom, dict) else None
    return counter if isinstance(counter, int) and not isinstance(counter, bool) else 0


def _check_newer(model: str, published: Targets, offered: Targets) -> None:
    if offered.version <= published.version:
        raise RolledBackMetadataError(f"{model}: offered v{offered.version}, published is v{published.version}")
    for path, target in published.targets.items():
        other = offered.targets.get(path)
        if other is not None and (other.hashes, other.length, other.custom) != (
            target.hashes,
            target.length,
            target.custom,
        ):
            raise ChangedTargetError(f"{path} was published with other content")

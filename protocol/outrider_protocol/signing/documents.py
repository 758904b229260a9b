"""TUF metadata, signed by whatever holds the key."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import TypeVar

from securesystemslib.signer import CryptoSigner, Signer
from tuf.api.metadata import Metadata, Root, Signed, Snapshot, TargetFile, Targets, Timestamp
from tuf.api.serialization import DeserializationError
from tuf.api.serialization.json import JSONSerializer

from outrider_protocol.errors import MalformedError
from outrider_protocol.signing.keys import PrivateKey, tuf_key

Role = TypeVar("Role", Root, Targets, Snapshot, Timestamp)
_COMPACT = JSONSerializer(compact=True)


def sign_role(role: Role, keys: Iterable[PrivateKey | Signer]) -> bytes:
    """Return a TUF role's metadata file, signed by each key; version and expiry are the caller's."""
    metadata: Metadata[Role] = Metadata(role)
    for key in keys:
        metadata.sign(key if isinstance(key, Signer) else CryptoSigner(key, tuf_key(key)), append=True)
    return metadata.to_bytes(_COMPACT)


def add_targets(
    current: bytes | None,
    targets: Iterable[TargetFile],
    expires: datetime,
    keys: Iterable[PrivateKey | Signer],
    *,
    alone: bool = False,
) -> bytes:
    """Sign a new version of a delegated targets role that also lists `targets`; with `alone`, nothing but them.

    Raises `MalformedError` where `current` is no such role.
    """
    role = _targets(current) if current else Targets()
    role.version += 1 if current else 0
    role.expires = expires
    if alone:
        role.targets.clear()
    role.targets.update({target.path: target for target in targets})
    return sign_role(role, keys)


def _targets(current: bytes) -> Targets:
    try:
        role: Signed = Metadata[Targets].from_bytes(current).signed
    except DeserializationError as error:
        raise MalformedError("the current role is no TUF metadata") from error
    if not isinstance(role, Targets):
        raise MalformedError(f"the current role is of type {role.type!r}, not targets")
    return role


def artifact_target(path: str, manifest: bytes, counter: int) -> TargetFile:
    """The target entry of one artifact: its manifest's hash and length, and the release's counter."""
    target = TargetFile.from_data(path, manifest, ["sha256"])
    target.unrecognized_fields["custom"] = {"counter": counter}
    return target

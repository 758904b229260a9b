"""The trust repository on the server's disk: TUF metadata as files, and nothing secret.

1. Root versions are kept for ever (`<n>.root.json`); `root.json` is the newest.
2. Every file is replaced whole and durably.
3. What is read is verified from root downwards before anybody signs on top of it.

    trust/root.json  1.root.json  targets.json  snapshot.json  timestamp.json  <model>.json
    trust/fleet/director.json  fleet/floors.json      (targets of the top-level role)
    trust/online.json                                 (the message `o1/trust/online`, as last signed)
"""

import datetime as dt
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from tuf.api.exceptions import LengthOrHashMismatchError, RepositoryError
from tuf.api.metadata import Metadata, Root, Signed, Snapshot, Targets, Timestamp

from outrider_fleet.pki.files import write_public
from outrider_fleet.signing.errors import TrustBrokenError, TrustMissingError
from outrider_protocol import ids
from outrider_protocol.director import DIRECTOR_TARGET, FLOORS_TARGET, Director, Floors

T = TypeVar("T", Root, Timestamp, Snapshot, Targets)


@dataclass(frozen=True)
class TrustRepository:
    """Reads and replaces the files below `directory`."""

    directory: Path

    def read(self, name: str) -> bytes:
        """The bytes of `<name>` (relative path); raises `TrustMissingError`."""
        try:
            return (self.directory / name).read_bytes()
        except OSError as error:
            raise TrustMissingError(f"{self.directory / name}: {error.strerror}") from error

    def read_optional(self, name: str) -> bytes | None:
        """The bytes of `<name>`, or None where there is no such file."""
        return self.read(name) if (self.directory / name).exists() else None

    def write(self, name: str, data: bytes) -> None:
        """Replace `<name>`."""
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_public(path, data)

    def write_root(self, root: Root, data: bytes) -> None:
        """Add a root version and make it the newest."""
        self.write(f"{root.version}.root.json", data)
        self.write("root.json", data)

    def roots(self) -> dict[int, bytes]:
        """All root versions, by number."""
        found = {int(path.name.split(".")[0]): path.read_bytes() for path in self.directory.glob("*.root.json")}
        return dict(sorted(found.items()))

    def director(self) -> Director:
        """The director file (its hash is checked by `verified_targets`)."""
        return Director.decode(self.read(DIRECTOR_TARGET))

    def floors(self) -> Floors:
        """The floors file."""
        return Floors.decode(self.read(FLOORS_TARGET))

    def model_metadata(self, model: str) -> bytes | None:
        """The published metadata of a delegated role, or None before its first release."""
        return self.read_optional(f"{ids.model_name(model)}.json")

    def root(self) -> Root:
        """The newest root, verified by itself."""
        metadata = parse(Root, self.read("root.json"), "root")
        _verify(metadata.signed, Root.type, metadata)
        return metadata.signed

    def verified_targets(self, now: dt.datetime) -> tuple[Targets, bytes]:
        """Top-level targets, verified by root, with both fleet files matching; raises `TrustBrokenError`."""
        root, data = self.root(), self.read("targets.json")
        metadata = parse(Targets, data, "targets")
        _verify(root, Targets.type, metadata)
        _check_fresh(root, "root", now)
        _check_fresh(metadata.signed, "targets", now)
        for path in (DIRECTOR_TARGET, FLOORS_TARGET):
            self._check_fleet_file(metadata.signed, path)
        return metadata.signed, data

    def online_role(self, kind: type[T]) -> T | None:
        """The present snapshot or timestamp, verified by root; None before the first."""
        data = self.read_optional(f"{kind.type}.json")
        if data is None:
            return None
        metadata = parse(kind, data, kind.type)
        _verify(self.root(), kind.type, metadata)
        return metadata.signed

    def snapshot(self) -> Snapshot | None:
        """The present snapshot."""
        return self.online_role(Snapshot)

    def timestamp(self) -> Timestamp | None:
        """The present timestamp."""
        return self.online_role(Timestamp)

    def _check_fleet_file(self, targets: Targets, path: str) -> None:
        try:
            targets.targets[path].verify_length_and_hashes(self.read(path))
        except (KeyError, LengthOrHashMismatchError) as error:
            raise TrustBrokenError(f"{path} is not the file that targets.json lists") from error


def parse(kind: type[T], data: bytes, what: str) -> "Metadata[T]":
    """Read metadata of one type; raises `TrustBrokenError`."""
    try:
        metadata: Metadata[T] = Metadata.from_bytes(data)
    except RepositoryError as error:
        raise TrustBrokenError(f"{what}: {error}") from error
    if not isinstance(metadata.signed, kind):
        raise TrustBrokenError(f"{what}: metadata of type {metadata.signed.type!r}")
    return metadata


def _verify(root: Root, role: str, metadata: "Metadata[T]") -> None:
    try:
        root.verify_delegate(role, metadata.signed_bytes, metadata.signatures)
    except RepositoryError as error:
        raise TrustBrokenError(f"{role}: {error}") from error


def _check_fresh(signed: Signed, role: str, now: dt.datetime) -> None:
    if signed.is_expired(now):
        raise TrustBrokenError(f"{role} expired {signed.expires:%Y-%m-%d}: sign it anew with its offline keys")

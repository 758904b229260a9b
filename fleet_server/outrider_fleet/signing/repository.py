"""The trust repository on the server's disk: TUF metadata as files, and nothing secret.

1. Root versions are kept for ever (`<n>.root.json`); `root.json` is the newest.
2. Every file is replaced whole and durably; what a ceremony changes takes effect together or not at all.
3. What is read is verified from root downwards before anybody signs on top of it.
4. One writer at a time: ceremonies and the signer process take the lock.

    trust/root.json  1.root.json  targets.json  snapshot.json  timestamp.json  <model>.json
    trust/fleet/director.json  fleet/floors.json  fleet/audit.json      (targets of the top-level role)
    trust/online.json                                                   (the message `o1/trust/online`, as last signed)
    trust/.ceremony                                                     (what a ceremony is about to change)
"""

import datetime as dt
import fcntl
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from tuf.api.exceptions import LengthOrHashMismatchError, RepositoryError
from tuf.api.metadata import Metadata, Root, Signed, Snapshot, TargetFile, Targets, Timestamp

from outrider_fleet.pki.files import sync_directory, write_public
from outrider_fleet.signing.errors import TrustBrokenError, TrustMissingError
from outrider_protocol import ids
from outrider_protocol.audit import AUDIT_TARGET, AuditKeys
from outrider_protocol.director import DIRECTOR_TARGET, FLOORS_TARGET, Director, Floors

T = TypeVar("T", Root, Timestamp, Snapshot, Targets)
FLEET_FILES: Final = (DIRECTOR_TARGET, FLOORS_TARGET)
_CEREMONY: Final = ".ceremony"
_LOCK: Final = ".lock"


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

    def write_root(self, number: int, data: bytes) -> None:
        """Add a root version and make it the newest."""
        self.write(f"{number}.root.json", data)
        self.write("root.json", data)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Be the only writer; finishes first what an interrupted ceremony had decided."""
        self.directory.mkdir(parents=True, exist_ok=True)
        with (self.directory / _LOCK).open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self._finish()
            yield

    def commit(self, files: Mapping[str, bytes]) -> None:
        """Replace several files: after a power cut either all of them are new or none; within `locked`."""
        self.write(_CEREMONY, json.dumps({name: data.decode() for name, data in files.items()}).encode())
        self._finish()

    def _finish(self) -> None:
        decided = self.read_optional(_CEREMONY)
        if decided is None:
            return
        for name, text in json.loads(decided).items():
            self.write(name, text.encode())
        (self.directory / _CEREMONY).unlink()
        sync_directory(self.directory)

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

    def audit_keys(self) -> AuditKeys | None:
        """The keys that sign the audit log's heads; None in a fleet that was made before there were any."""
        data = self.read_optional(AUDIT_TARGET)
        return None if data is None else AuditKeys.decode(data)

    def model_metadata(self, model: str) -> bytes | None:
        """The published metadata of a delegated role, or None before its first release."""
        return self.read_optional(f"{ids.model_name(model)}.json")

    def root(self) -> Root:
        """The newest root, verified by itself."""
        return _root(self.read("root.json"))

    def targets(self) -> tuple[Targets, bytes]:
        """Top-level targets with matching fleet files, verified by root whatever its age; raises `TrustBrokenError`."""
        root, data = self.root(), self.read("targets.json")
        metadata = parse(Targets, data, "targets")
        verify_by(root, Targets.type, metadata)
        for path in self._listed(metadata.signed):
            self._check_fleet_file(metadata.signed, path)
        return metadata.signed, data

    def verified_targets(self, now: dt.datetime) -> tuple[Targets, bytes]:
        """The same, and neither root nor targets has expired."""
        targets, data = self.targets()
        _check_fresh(self.root(), "root", now)
        _check_fresh(targets, "targets", now)
        return targets, data

    def trusted_target(self, path: str, now: dt.datetime) -> TargetFile | None:
        """What the pipeline that signs the model now says of an artifact; None where nobody says anything."""
        model = path.partition("/")[0]
        top, _ = self.verified_targets(now)
        data = self.model_metadata(model)
        role = None if data is None else parse(Targets, data, model)
        if role is None or role.signed.is_expired(now):
            return None
        try:
            top.verify_delegate(model, role.signed_bytes, role.signatures)
        except (RepositoryError, ValueError):  # not delegated, or no longer to this key
            return None
        return role.signed.targets.get(path)

    def follow_from(self, data: bytes) -> Root:
        """The newest root, reached step by step from the root `data`; raises `TrustBrokenError`."""
        root = _root(data)
        if self.read_optional(f"{root.version}.root.json") != data:
            raise TrustBrokenError(f"this root v{root.version} is not one of the repository's")
        for number in range(root.version + 1, self.root().version + 1):
            metadata = parse(Root, self.read(f"{number}.root.json"), f"root v{number}")
            for each in (root, metadata.signed):
                verify_by(each, Root.type, metadata)
            if metadata.signed.version != number:
                raise TrustBrokenError(f"{number}.root.json says version {metadata.signed.version}")
            root = metadata.signed
        if self.read("root.json") != self.read(f"{root.version}.root.json"):
            raise TrustBrokenError(f"root.json is another document than {root.version}.root.json")
        return root

    def online_role(self, kind: type[T]) -> tuple[T, bool] | None:
        """The present snapshot or timestamp, and whether the newest root vouches for it (not so after a rotation)."""
        data = self.read_optional(f"{kind.type}.json")
        if data is None:
            return None
        metadata = parse(kind, data, kind.type)
        newest = self.root()
        for root in (newest, *(_root(data) for _, data in reversed(self.roots().items()))):
            if _is_by(root, kind.type, metadata):
                return metadata.signed, root.version == newest.version
        raise TrustBrokenError(f"{kind.type}: signed by no key of any root")

    def snapshot(self) -> Snapshot | None:
        """The present snapshot."""
        found = self.online_role(Snapshot)
        return found[0] if found else None

    def timestamp(self) -> Timestamp | None:
        """The present timestamp."""
        found = self.online_role(Timestamp)
        return found[0] if found else None

    def _listed(self, targets: Targets) -> tuple[str, ...]:
        return (*FLEET_FILES, AUDIT_TARGET) if AUDIT_TARGET in targets.targets else FLEET_FILES

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


def verify_by(root: Root, role: str, metadata: "Metadata[T]") -> None:
    """Check that enough keys of a top-level role signed; raises `TrustBrokenError`."""
    try:
        root.verify_delegate(role, metadata.signed_bytes, metadata.signatures)
    except RepositoryError as error:
        raise TrustBrokenError(f"{role}: {error}") from error


def _is_by(root: Root, role: str, metadata: "Metadata[T]") -> bool:
    try:
        verify_by(root, role, metadata)
    except TrustBrokenError:
        return False
    return True


def _root(data: bytes) -> Root:
    metadata = parse(Root, data, "root")
    verify_by(metadata.signed, Root.type, metadata)
    return metadata.signed


def _check_fresh(signed: Signed, role: str, now: dt.datetime) -> None:
    if signed.is_expired(now):
        raise TrustBrokenError(f"{role} expired {signed.expires:%Y-%m-%d}: sign it anew with its offline keys")

"""The online roles: snapshot and timestamp, signed anew when something below them changed or they grow old.

1. Nothing is signed on top of targets or delegated roles that do not verify.
2. No role ever leaves snapshot, and none goes back in it to an older version.
3. Both are signed anew in the second half of their life.
4. Written in the order delegated role, snapshot, timestamp, `online.json`: what devices are sent is the last.
"""

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tuf.api.metadata import Snapshot, Targets

from outrider_fleet.pki.files import private_directory
from outrider_fleet.signing import roles
from outrider_fleet.signing.errors import TrustBrokenError
from outrider_fleet.signing.journal import Entry
from outrider_fleet.signing.repository import TrustRepository, parse
from outrider_fleet.signing.verify import verify_delegated, verify_release_metadata
from outrider_protocol import ids, signing
from outrider_protocol.director import DIRECTOR_TARGET, FLOORS_TARGET
from outrider_protocol.messages import TrustOnline

_NAMES: Final = ("snapshot", "timestamp", "director")
Files = dict[str, tuple[int, bytes]]


@dataclass(frozen=True)
class OnlineKeys:
    """The private keys that the signer process holds."""

    snapshot: Ed25519PrivateKey
    timestamp: Ed25519PrivateKey
    director: Ed25519PrivateKey

    @classmethod
    def create(cls, directory: Path) -> "OnlineKeys":
        """Make and store new keys."""
        private_directory(directory)
        keys = {name: signing.generate() for name in _NAMES}
        for name, key in keys.items():
            signing.save_private(key, directory / f"{name}.pem")
        return cls(**keys)

    @classmethod
    def load(cls, directory: Path) -> "OnlineKeys":
        """Read the keys; raises `KeyFileError`."""
        return cls(**{name: signing.load_private(directory / f"{name}.pem") for name in _NAMES})


class OnlineRoles:
    """Keeps snapshot, timestamp and `online.json` in step with what they stand on."""

    def __init__(
        self,
        repository: TrustRepository,
        keys: OnlineKeys,
        record: Callable[[list[Entry]], None] = lambda _entries: None,
    ) -> None:
        self.repository, self._keys, self._record = repository, keys, record

    def publish(self, model: str, data: bytes, now: dt.datetime) -> TrustOnline:
        """Publish a delegated role that verifies; raises `MetadataRefusedError`, then nothing was changed."""
        verify_release_metadata(self.repository.directory, model, data, now=now)
        if self.repository.model_metadata(model) != data:
            self.repository.write(f"{ids.model_name(model)}.json", data)
        return self.refresh(now)

    def refresh(self, now: dt.datetime) -> TrustOnline:
        """Sign what is due; returns what devices are to be sent. Raises `TrustBrokenError`."""
        targets, data = self.repository.verified_targets(now)
        files = {Targets.type: (targets.version, data), **self._delegated(targets)}
        snapshot, snapshot_data = self._snapshot(files, now)
        timestamp_data = self._timestamp(snapshot, snapshot_data, now)
        online = TrustOnline(
            root_version=self.repository.root().version,
            timestamp=timestamp_data.decode(),
            snapshot=snapshot_data.decode(),
            targets=data.decode(),
            files={path: self.repository.read(path).decode() for path in (DIRECTOR_TARGET, FLOORS_TARGET)},
        )
        if self.repository.read_optional("online.json") != online.encode():
            self.repository.write("online.json", online.encode())
        return online

    def _delegated(self, targets: Targets) -> Files:
        found: Files = {}
        for model in (targets.delegations.roles if targets.delegations else None) or {}:
            data = self.repository.model_metadata(model)
            if data is not None:
                metadata = parse(Targets, data, model)
                verify_delegated(targets, model, metadata)
                found[model] = (metadata.signed.version, data)
        return found

    def _snapshot(self, files: Files, now: dt.datetime) -> tuple[Snapshot, bytes]:
        current = self.repository.snapshot()
        wanted = roles.next_snapshot(current, files, now)
        if current is not None:
            _check_no_rollback(current, wanted)
            if current.meta == wanted.meta and not roles.is_due(current.expires, now):
                return current, self.repository.read("snapshot.json")
        data = signing.sign_role(wanted, [self._keys.snapshot])
        self._write("snapshot", wanted.version, data, now)
        return wanted, data

    def _timestamp(self, snapshot: Snapshot, snapshot_data: bytes, now: dt.datetime) -> bytes:
        current = self.repository.timestamp()
        wanted = roles.next_timestamp(current, snapshot, snapshot_data, now)
        same = current is not None and current.snapshot_meta == wanted.snapshot_meta
        if current is not None and same and not roles.is_due(current.expires, now):
            return self.repository.read("timestamp.json")
        data = signing.sign_role(wanted, [self._keys.timestamp])
        self._write("timestamp", wanted.version, data, now)
        return data

    def _write(self, role: str, version: int, data: bytes, now: dt.datetime) -> None:
        self._record(
            [
                {
                    "at_ms": int(now.timestamp() * 1000),
                    "kind": role,
                    "version": version,
                    "sha256": ids.digest_of(data)[7:],
                }
            ]
        )
        self.repository.write(f"{role}.json", data)


def _check_no_rollback(current: Snapshot, wanted: Snapshot) -> None:
    for name, meta in current.meta.items():
        if name not in wanted.meta or wanted.meta[name].version < meta.version:
            raise TrustBrokenError(f"{name} was v{meta.version} and now is older or gone")

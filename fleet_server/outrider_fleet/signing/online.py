"""The online roles: snapshot and timestamp, signed anew when something below them changed or they grow old.

1. Nothing is signed on top of targets or delegated roles that do not verify.
2. No role ever leaves snapshot, and none goes back in it to an older version: a pipeline that was revoked leaves its
   last role pinned, which no device believes any more.
3. Both are signed anew in the second half of their life, and as soon as their key was rotated.
4. Written in the order delegated role, snapshot, timestamp, `online.json`: what devices are sent is the last.
"""

import datetime as dt
from collections.abc import Callable

from tuf.api.exceptions import LengthOrHashMismatchError
from tuf.api.metadata import Snapshot, Targets, Timestamp

from outrider_fleet.signing import roles
from outrider_fleet.signing.errors import TrustBrokenError
from outrider_fleet.signing.journal import Entry
from outrider_fleet.signing.online_keys import OnlineKeys
from outrider_fleet.signing.repository import FLEET_FILES, TrustRepository, parse
from outrider_fleet.signing.verify import verify_delegated, verify_release_metadata
from outrider_protocol import ids, signing
from outrider_protocol.messages import TrustOnline

Files = dict[str, tuple[int, bytes]]


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
        present = self.repository.online_role(Snapshot)
        files = {Targets.type: (targets.version, data), **self._models(targets, present[0] if present else None)}
        snapshot, snapshot_data = self._snapshot(present, files, now)
        timestamp_data = self._timestamp(snapshot, snapshot_data, now)
        online = TrustOnline(
            root_version=self.repository.root().version,
            timestamp=timestamp_data.decode(),
            snapshot=snapshot_data.decode(),
            targets=data.decode(),
            files={path: self.repository.read(path).decode() for path in FLEET_FILES},
        )
        if self.repository.read_optional("online.json") != online.encode():
            self.repository.write("online.json", online.encode())
        return online

    def _models(self, targets: Targets, present: Snapshot | None) -> Files:
        found: Files = {}
        pinned = [name.removesuffix(".json") for name in (present.meta if present else {}) if name != "targets.json"]
        for model in sorted({*roles.delegated_models(targets), *pinned}):
            data = self.repository.model_metadata(model)
            if data is not None:
                metadata = parse(Targets, data, model)
                if not _is_pinned(present, model, data):
                    verify_delegated(targets, model, metadata)
                found[model] = (metadata.signed.version, data)
        return found

    def _snapshot(
        self, present: tuple[Snapshot, bool] | None, files: Files, now: dt.datetime
    ) -> tuple[Snapshot, bytes]:
        current, vouched = present or (None, False)
        wanted = roles.next_snapshot(current, files, now)
        if current is not None:
            _check_no_rollback(current, wanted)
            if vouched and current.meta == wanted.meta and not roles.is_due(current.expires, now):
                return current, self.repository.read("snapshot.json")
        key = self._keys.for_role(Snapshot.type, self.repository.root())
        data = signing.sign_role(wanted, [key])
        self._write("snapshot", wanted.version, data, now)
        return wanted, data

    def _timestamp(self, snapshot: Snapshot, snapshot_data: bytes, now: dt.datetime) -> bytes:
        current, vouched = self.repository.online_role(Timestamp) or (None, False)
        wanted = roles.next_timestamp(current, snapshot, snapshot_data, now)
        same = current is not None and current.snapshot_meta == wanted.snapshot_meta
        if current is not None and same and vouched and not roles.is_due(current.expires, now):
            return self.repository.read("timestamp.json")
        key = self._keys.for_role(Timestamp.type, self.repository.root())
        data = signing.sign_role(wanted, [key])
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


def _is_pinned(present: Snapshot | None, model: str, data: bytes) -> bool:
    """Whether the present snapshot vouches for these very bytes: they were verified when it was signed."""
    meta = present.meta.get(f"{model}.json") if present else None
    if meta is None:
        return False
    try:
        meta.verify_length_and_hashes(data)
    except LengthOrHashMismatchError:
        return False
    return True


def _check_no_rollback(current: Snapshot, wanted: Snapshot) -> None:
    for name, meta in current.meta.items():
        if name not in wanted.meta or wanted.meta[name].version < meta.version:
            raise TrustBrokenError(f"{name} was v{meta.version} and now is older or gone")

"""The content of each top-level TUF role, decided without I/O (https://theupdateframework.github.io/specification).

1. Root: three keys, any two of them; two years. Targets: one key; one year. Snapshot, timestamp: seven days.
2. Targets lists the two fleet files and delegates `<model>/*/*` to the model's pipeline, terminating.
3. Snapshot pins version, length and hash of targets and of every delegated role; timestamp pins snapshot.
4. A new document has the old one's version plus one.
"""

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from securesystemslib.signer import SSlibKey
from tuf.api.metadata import DelegatedRole, Delegations, MetaFile, Root, Snapshot, TargetFile, Targets, Timestamp

from outrider_protocol.director import DIRECTOR_TARGET, FLOORS_TARGET

ROOT_LIFE: Final = dt.timedelta(days=2 * 365)
TARGETS_LIFE: Final = dt.timedelta(days=365)
ONLINE_LIFE: Final = dt.timedelta(days=7)
ROOT_THRESHOLD: Final = 2


@dataclass(frozen=True)
class TopKeys:
    """Public keys of the top-level roles."""

    root: Sequence[SSlibKey]
    targets: SSlibKey
    snapshot: SSlibKey
    timestamp: SSlibKey


def first_root(keys: TopKeys, now: dt.datetime) -> Root:
    """Version 1 of root."""
    root = Root(version=1, expires=_until(now, ROOT_LIFE), consistent_snapshot=False)
    for key in keys.root:
        root.add_key(key, Root.type)
    for key, role in ((keys.targets, Targets.type), (keys.snapshot, Snapshot.type), (keys.timestamp, Timestamp.type)):
        root.add_key(key, role)
    root.roles[Root.type].threshold = ROOT_THRESHOLD
    return root


def first_targets(director: bytes, floors: bytes, now: dt.datetime) -> Targets:
    """Version 1 of targets: the fleet files, nothing delegated."""
    return Targets(
        version=1,
        expires=_until(now, TARGETS_LIFE),
        targets=_fleet_files(director, floors),
        delegations=Delegations(keys={}, roles={}),
    )


def with_floors(targets: Targets, director: bytes, floors: bytes, now: dt.datetime) -> Targets:
    """The next version of targets, with these fleet files."""
    targets.targets.update(_fleet_files(director, floors))
    return _next(targets, now)


def with_delegation(targets: Targets, model: str, key: SSlibKey, now: dt.datetime) -> Targets:
    """The next version of targets, in which `key` alone signs `<model>/*/*`."""
    present = targets.delegations
    delegated = dict((present.roles if present else None) or {})
    former = delegated.pop(model, None)
    for keyid in list(former.keyids) if former else []:
        targets.revoke_key(keyid, model)
    delegated[model] = DelegatedRole(model, [], 1, terminating=True, paths=[f"{model}/*/*"])
    targets.delegations = Delegations(keys=dict(present.keys) if present else {}, roles=delegated)
    targets.add_key(key, model)
    return _next(targets, now)


def next_snapshot(current: Snapshot | None, files: Mapping[str, tuple[int, bytes]], now: dt.datetime) -> Snapshot:
    """Pin `files` (role name → (version, bytes))."""
    meta = {f"{name}.json": MetaFile.from_data(version, data, ["sha256"]) for name, (version, data) in files.items()}
    version = current.version + 1 if current else 1
    return Snapshot(version=version, expires=_until(now, ONLINE_LIFE), meta=meta)


def next_timestamp(current: Timestamp | None, snapshot: Snapshot, data: bytes, now: dt.datetime) -> Timestamp:
    """Pin the snapshot whose bytes are `data`."""
    version = current.version + 1 if current else 1
    pinned = MetaFile.from_data(snapshot.version, data, ["sha256"])
    return Timestamp(version=version, expires=_until(now, ONLINE_LIFE), snapshot_meta=pinned)


def is_due(expires: dt.datetime, now: dt.datetime) -> bool:
    """Whether less than half of an online role's life is left.

    >>> now = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    >>> is_due(now + dt.timedelta(days=3), now), is_due(now + dt.timedelta(days=4), now)
    (True, False)
    """
    return expires - now < ONLINE_LIFE / 2


def _next(targets: Targets, now: dt.datetime) -> Targets:
    targets.version += 1
    targets.expires = _until(now, TARGETS_LIFE)
    return targets


def _fleet_files(director: bytes, floors: bytes) -> dict[str, TargetFile]:
    files = {DIRECTOR_TARGET: director, FLOORS_TARGET: floors}
    return {path: TargetFile.from_data(path, data, ["sha256"]) for path, data in files.items()}


def _until(now: dt.datetime, life: dt.timedelta) -> dt.datetime:
    return (now + life).replace(microsecond=0)

"""The content of each top-level TUF role, decided without I/O (https://theupdateframework.github.io/specification).

1. Root: three keys, any two of them; two years. Targets: one key; one year. Snapshot, timestamp: seven days.
2. Targets lists the fleet files and delegates `<model>/*/*` to the model's pipelines, any of them, terminating.
3. Snapshot pins version, length and hash of targets and of every delegated role; timestamp pins snapshot.
4. A new document has the old one's version plus one, and its whole life before it.
5. Root never loses so many keys that its threshold cannot be reached.
"""

import datetime as dt
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from securesystemslib.signer import Key
from tuf.api.metadata import DelegatedRole, Delegations, MetaFile, Root, Snapshot, TargetFile, Targets, Timestamp

from outrider_fleet.signing.errors import KeyUnknownError, RootThresholdError

ROOT_LIFE: Final = dt.timedelta(days=2 * 365)
TARGETS_LIFE: Final = dt.timedelta(days=365)
ONLINE_LIFE: Final = dt.timedelta(days=7)
ROOT_THRESHOLD: Final = 2
ROLES: Final = (Root.type, Targets.type, Snapshot.type, Timestamp.type)


@dataclass(frozen=True)
class TopKeys:
    """Public keys of the top-level roles."""

    root: Sequence[Key]
    targets: Key
    snapshot: Key
    timestamp: Key


def first_root(keys: TopKeys, now: dt.datetime) -> Root:
    """Version 1 of root."""
    root = Root(version=1, expires=_until(now, ROOT_LIFE), consistent_snapshot=False)
    for key in keys.root:
        root.add_key(key, Root.type)
    for key, role in ((keys.targets, Targets.type), (keys.snapshot, Snapshot.type), (keys.timestamp, Timestamp.type)):
        root.add_key(key, role)
    root.roles[Root.type].threshold = ROOT_THRESHOLD
    return root


def next_root(root: Root, role: str, out: Collection[str], into: Sequence[Key], now: dt.datetime) -> Root:
    """The next version of root, in which `role` has lost the key ids `out` and won the keys `into`.

    Raises `KeyUnknownError`, or `RootThresholdError` where too few keys would be left.
    """
    for keyid in out:
        if keyid not in root.roles[role].keyids:
            raise KeyUnknownError(f"{keyid} is no key of {role}")
        root.revoke_key(keyid, role)
    for key in into:
        root.add_key(key, role)
    if len(root.roles[role].keyids) < root.roles[role].threshold:
        raise RootThresholdError(f"{role} would have {len(root.roles[role].keyids)} keys: bring a new one")
    root.version += 1
    root.expires = _until(now, ROOT_LIFE)
    return root


def first_targets(files: Mapping[str, bytes], now: dt.datetime) -> Targets:
    """Version 1 of targets: the fleet files, nothing delegated."""
    return Targets(
        version=1,
        expires=_until(now, TARGETS_LIFE),
        targets=_fleet_files(files),
        delegations=Delegations(keys={}, roles={}),
    )


def with_files(targets: Targets, files: Mapping[str, bytes], now: dt.datetime) -> Targets:
    """The next version of targets, with these fleet files."""
    targets.targets.update(_fleet_files(files))
    return _next(targets, now)


def with_delegation(targets: Targets, model: str, keys: Sequence[Key], now: dt.datetime) -> Targets:
    """The next version of targets, in which any of `keys`, and no other, signs `<model>/*/*`."""
    kept = _without(targets, model)
    kept[model] = DelegatedRole(model, [], 1, terminating=True, paths=[f"{model}/*/*"])
    targets.delegations = Delegations(keys=delegations(targets)[0], roles=kept)
    for key in keys:
        targets.add_key(key, model)
    return _next(targets, now)


def without_delegation(targets: Targets, model: str, out: Collection[str], now: dt.datetime) -> Targets:
    """The next version of targets, in which the key ids `out` (all where none is named) sign `model` no more."""
    kept = [keyid for keyid in delegated_keys(targets, model) if out and keyid not in out]
    for keyid in out:
        if keyid not in delegated_keys(targets, model):
            raise KeyUnknownError(f"{keyid} does not sign {model}")
    keys, _ = delegations(targets)
    if kept:
        return with_delegation(targets, model, [keys[keyid] for keyid in kept], now)
    roles = _without(targets, model)
    targets.delegations = Delegations(keys=delegations(targets)[0], roles=roles)
    return _next(targets, now)


def delegations(targets: Targets) -> tuple[dict[str, Key], dict[str, DelegatedRole]]:
    """Key id → key, and model → the role that signs it."""
    present = targets.delegations
    return (dict(present.keys), dict(present.roles or {})) if present else ({}, {})


def delegated_keys(targets: Targets, model: str) -> list[str]:
    """The ids of the keys that sign a model; empty where nobody does."""
    _, found = delegations(targets)
    return list(found[model].keyids) if model in found else []


def delegated_models(targets: Targets) -> list[str]:
    """Every model that somebody may sign."""
    return sorted(delegations(targets)[1])


def _without(targets: Targets, model: str) -> dict[str, DelegatedRole]:
    for keyid in delegated_keys(targets, model):
        targets.revoke_key(keyid, model)
    _, roles = delegations(targets)
    roles.pop(model, None)
    return roles


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


def _fleet_files(files: Mapping[str, bytes]) -> dict[str, TargetFile]:
    return {path: TargetFile.from_data(path, data, ["sha256"]) for path, data in files.items()}


def _until(now: dt.datetime, life: dt.timedelta) -> dt.datetime:
    return (now + life).replace(microsecond=0)

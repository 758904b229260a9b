"""Rotating keys: a new one takes over, the former counts no more.

1. A new root is signed by enough of the former root's keys and by enough of its own, so that every device follows.
2. An online key's successor is made where the signer reads it, before root or targets names it; the signer takes it as
   soon as they do. Its public half may be carried to the place where the offline keys are.
3. A new director is a new epoch: sequences begin anew, and a poisoned time floor may be taken back.
4. Former audit keys stay listed: what they signed still verifies.
"""

import contextlib
from collections.abc import Collection, Sequence
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from securesystemslib.signer import Key, SSlibKey
from tuf.api.metadata import Metadata, Root, Snapshot, Targets, Timestamp

from outrider_fleet.pki.ca import Clock, utc_now
from outrider_fleet.signing import roles
from outrider_fleet.signing.ceremony import Files, change_targets, sign_targets, whole_id
from outrider_fleet.signing.errors import RootThresholdError, TrustBrokenError
from outrider_fleet.signing.offline import Offline
from outrider_fleet.signing.online_keys import OnlineKeys
from outrider_fleet.signing.repository import TrustRepository, verify_by
from outrider_protocol import signing
from outrider_protocol.audit import AUDIT_TARGET, AuditKeys
from outrider_protocol.director import DIRECTOR_TARGET, Director
from outrider_protocol.signing import KeyFileError, Signer


def rotate_root(
    home: Path, offline: Offline, out: Collection[str] = (), new: Sequence[str] = (), *, clock: Clock = utc_now
) -> Root:
    """Root without the keys whose ids begin so, with new keys at the places `new`; without either, root anew.

    Raises `RootThresholdError` or `KeyUnknownError`; then a new key file that was made is still there.
    """
    repository = TrustRepository(home / "trust")
    present = repository.root()
    chosen = [whole_id(part, present.roles[Root.type].keyids) for part in out]
    signers = offline.root_signers()
    _check_signers(present, signers)
    made = [offline.make(place) for place in new]
    with repository.locked():
        root = roles.next_root(repository.root(), Root.type, chosen, [key.public_key for key in made], clock())
        repository.commit(_root_files(root, _sign_root(repository.root(), root, [*signers, *made])))
    return root


def rotate_targets(home: Path, offline: Offline, new: str, *, clock: Clock = utc_now) -> Root:
    """Targets signed by a new key at the place `new`, which root lists instead of the former."""
    repository = TrustRepository(home / "trust")
    signers = offline.root_signers()
    _check_signers(repository.root(), signers)
    made = offline.make(new)
    with repository.locked():
        root = _with_role(repository.root(), Targets.type, made.public_key, clock)
        data = _sign_root(repository.root(), root, signers)
        targets = roles.with_files(repository.targets()[0], {}, clock())
        repository.commit({**_root_files(root, data), "targets.json": sign_targets(root, targets, made)})
    return root


def rotate_online(
    home: Path, offline: Offline, role: str, public: SSlibKey | None = None, *, clock: Clock = utc_now
) -> Root:
    """Snapshot or timestamp by a new key; `public` is the half of one that `prepare` made elsewhere."""
    repository = TrustRepository(home / "trust")
    signers = offline.root_signers()
    _check_signers(repository.root(), signers)
    key = public or _prepared(home, role)
    with repository.locked():
        root = _with_role(repository.root(), role, key, clock)
        repository.commit(_root_files(root, _sign_root(repository.root(), root, signers)))
    return root


def rotate_director(
    home: Path,
    offline: Offline,
    public: SSlibKey | None = None,
    *,
    reset_time_floor: bool = False,
    clock: Clock = utc_now,
) -> Director:
    """Orders by a new key, in a new epoch."""

    def change(targets: Targets, repository: TrustRepository) -> tuple[Targets, Files]:
        former = repository.director()
        director = Director(
            former.fleet, former.epoch + 1, (_raw(public or _prepared(home, "director")),), reset_time_floor
        )
        files = {DIRECTOR_TARGET: director.encode()}
        return roles.with_files(targets, files, clock()), files

    change_targets(home, offline, change)
    return TrustRepository(home / "trust").director()


def rotate_audit(home: Path, offline: Offline, public: SSlibKey | None = None, *, clock: Clock = utc_now) -> AuditKeys:
    """Heads of the audit log by a new key; the first one of a fleet that had none."""

    def change(targets: Targets, repository: TrustRepository) -> tuple[Targets, Files]:
        former = repository.audit_keys() or AuditKeys(repository.director().fleet, ())
        keys = AuditKeys(former.fleet, (*former.keys, _raw(public or _prepared(home, "audit"))))
        files = {AUDIT_TARGET: keys.encode()}
        return roles.with_files(targets, files, clock()), files

    change_targets(home, offline, change)
    return AuditKeys.decode(TrustRepository(home / "trust").read(AUDIT_TARGET))


def prepare(home: Path, name: str) -> Ed25519PrivateKey:
    """Make the successor of an online key; it is used once trust names it. An earlier one in charge moves up first."""
    keys, repository = OnlineKeys(home / "keys"), TrustRepository(home / "trust")
    with contextlib.suppress(TrustBrokenError):
        if name in (Snapshot.type, Timestamp.type):
            keys.for_role(name, repository.root())
        elif name == "director":
            keys.for_orders(repository.director())
        elif (listed := repository.audit_keys()) is not None:
            keys.for_heads(listed)
    return keys.prepare(name)


def _prepared(home: Path, name: str) -> SSlibKey:
    return signing.tuf_key(prepare(home, name))


def _with_role(root: Root, role: str, key: Key, clock: Clock) -> Root:
    return roles.next_root(root, role, list(root.roles[role].keyids), [key], clock())


def _check_signers(root: Root, signers: Sequence[Signer]) -> None:
    """Before anything is made: enough of the former root's keys are at hand."""
    role, held = root.roles[Root.type], {signer.public_key.keyid for signer in signers}
    if len(held & set(role.keyids)) < role.threshold:
        raise RootThresholdError(f"{len(held & set(role.keyids))} of root's keys are here, {role.threshold} are needed")


def _sign_root(former: Root, root: Root, signers: Sequence[Signer]) -> bytes:
    wanted = {*former.roles[Root.type].keyids, *root.roles[Root.type].keyids}
    chosen = {signer.public_key.keyid: signer for signer in signers if signer.public_key.keyid in wanted}
    data = signing.sign_role(root, chosen.values())
    try:
        for each in (former, root):
            verify_by(each, Root.type, Metadata[Root].from_bytes(data))
    except TrustBrokenError as error:
        raise RootThresholdError(str(error)) from error
    return data


def _root_files(root: Root, data: bytes) -> Files:
    return {f"{root.version}.root.json": data, "root.json": data}


def _raw(key: SSlibKey) -> str:
    if key.keytype != "ed25519":
        raise KeyFileError(f"a key of kind {key.keytype}: the director and the audit log sign with Ed25519")
    return str(key.keyval["public"])

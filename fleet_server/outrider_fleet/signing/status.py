"""How trust stands: who may sign what, who did, until when, and what is due. Reads public files alone.

1. A signature counts where its key is in charge and it verifies; both are looked at anew.
2. What is due says which command does it.
"""

import datetime as dt
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from tuf.api.metadata import DelegatedRole, Metadata, Role, Root, Snapshot, Targets, Timestamp

from outrider_fleet.signing import roles
from outrider_fleet.signing.repository import TrustRepository, parse
from outrider_protocol import dsse

SOON: Final[Mapping[str, dt.timedelta]] = {
    "root": dt.timedelta(days=90),
    "targets": dt.timedelta(days=60),
    "model": dt.timedelta(days=30),
    "online": dt.timedelta(days=3),
}
_KINDS: Final = {"root": Root, "targets": Targets, "snapshot": Snapshot, "timestamp": Timestamp}


@dataclass(frozen=True)
class RoleStatus:
    """One role: `keyids` may sign, `signed_by` did. A model that waits for its first release has version 0."""

    role: str
    version: int
    expires: str
    threshold: int
    keyids: list[str]
    signed_by: list[str]
    days_left: float
    keys: list[str]

    @property
    def holds(self) -> bool:
        """Whether enough keys in charge have signed."""
        return len(self.signed_by) >= self.threshold


@dataclass(frozen=True)
class Due:
    """What is to be done about a role, by which command."""

    role: str
    why: str
    command: str


def report(home: Path, now: dt.datetime) -> dict[str, Any]:
    """Everything as one JSON value; raises `TrustMissingError` or `TrustBrokenError`."""
    repository = TrustRepository(home / "trust")
    root, (targets, _) = repository.root(), repository.targets()
    top = [_top(repository, root, name, now) for name in roles.ROLES]
    models = [_model(repository, targets, model, now) for model in roles.delegated_models(targets)]
    director, audit = repository.director(), repository.audit_keys()
    return {
        "fleet": director.fleet,
        "roles": [{**asdict(role), "holds": role.holds} for role in (*top, *models)],
        "director": {
            "epoch": director.epoch,
            "keyids": sorted(director.public_keys()),
            "reset_time_floor": director.reset_time_floor,
        },
        "audit": {"keyids": [dsse.key_id(bytes.fromhex(key)) for key in audit.keys] if audit else []},
        "floors": repository.floors().min_counter,
        "due": [asdict(item) for item in _due(top, models, audited=audit is not None)],
    }


def _top(repository: TrustRepository, root: Root, name: str, now: dt.datetime) -> RoleStatus:
    data = repository.read_optional(f"{name}.json")
    return _status(name, root.roles[name], root.keys, None if data is None else parse(_KINDS[name], data, name), now)


def _model(repository: TrustRepository, targets: Targets, model: str, now: dt.datetime) -> RoleStatus:
    keys, found = roles.delegations(targets)
    data = repository.model_metadata(model)
    return _status(model, found[model], keys, None if data is None else parse(Targets, data, model), now)


def _status(
    name: str, role: Role | DelegatedRole, keys: Mapping[str, Any], found: "Metadata[Any] | None", now: dt.datetime
) -> RoleStatus:
    expires = found.signed.expires if found else now
    return RoleStatus(
        role=name,
        version=found.signed.version if found else 0,
        expires=expires.strftime("%Y-%m-%dT%H:%M:%SZ") if found else "",
        threshold=role.threshold,
        keyids=sorted(role.keyids),
        signed_by=sorted(_signed_by(role, keys, found)) if found else [],
        days_left=round((expires - now) / dt.timedelta(days=1), 1),
        keys=[f"{keys[keyid].scheme} {keyid[:16]}" for keyid in sorted(role.keyids)],
    )


def _signed_by(role: Role | DelegatedRole, keys: Mapping[str, Any], found: "Metadata[Any]") -> Iterator[str]:
    signed = found.signed_bytes
    for keyid in role.keyids:
        if keyid in found.signatures and _verifies(keys[keyid], found.signatures[keyid], signed):
            yield keyid


def _verifies(key: Any, signature: Any, signed: bytes) -> bool:
    from securesystemslib.exceptions import UnverifiedSignatureError, VerificationError

    try:
        key.verify_signature(signature, signed)
    except (UnverifiedSignatureError, VerificationError):
        return False
    return True


def _due(top: list[RoleStatus], models: list[RoleStatus], *, audited: bool) -> Iterator[Due]:
    for role in top:
        name = role.role
        online = name in ("snapshot", "timestamp")
        if not role.holds:
            yield Due(name, "too few valid signatures", "outrider-fleet up" if online else "restore `trust`")
        elif role.days_left * dt.timedelta(days=1) < SOON["online" if online else name]:
            command = "outrider-fleet up" if online else f"outrider-fleet trust renew {name}"
            yield Due(name, f"expires {role.expires}", command)
        if name == "root" and len(role.keyids) < roles.ROOT_THRESHOLD + 1:
            yield Due(name, f"{len(role.keyids)} keys: one more lost ends it", "trust rotate root --new-key PLACE")
    for role in models:
        if role.version and not role.holds:
            yield Due(role.role, "its role is signed by a key that was taken away", "outrider-compiler sign, publish")
        elif role.version and role.days_left * dt.timedelta(days=1) < SOON["model"]:
            yield Due(role.role, f"expires {role.expires}", "outrider-compiler sign, publish")
    if not audited:
        yield Due("audit", "no key signs the audit log", "outrider-fleet trust rotate audit")

"""What `trust rotate`, `renew` and `prepare` do with their options."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from securesystemslib.signer import SSlibKey
from tuf.api.metadata import Root

from outrider_fleet.cli.keys import secrets
from outrider_fleet.cli.refusals import told
from outrider_fleet.pki.ca import utc_now
from outrider_fleet.pki.files import write_public
from outrider_fleet.signing import ceremony, rotation, status
from outrider_fleet.signing.offline import Offline
from outrider_protocol import dsse, signing

_TAKES = {
    "root": {"out", "new"},
    "targets": {"new"},
    "snapshot": {"public"},
    "timestamp": {"public"},
    "director": {"public", "reset_time_floor"},
    "audit": {"public"},
}
_OPTIONS = {"out": "--revoke", "new": "--new-key", "public": "--public", "reset_time_floor": "--reset-time-floor"}


def rotate(home: Path, role: str, keys: Offline, given: dict[str, Any]) -> dict[str, Any]:
    """Rotate the keys of `role`; returns what is in charge now. Raises a usage error for options of another role."""
    for name, option in _OPTIONS.items():
        if given[name] and name not in _TAKES[role]:
            raise click.UsageError(f"{option} says nothing about {role}")
    if role in ("director", "audit"):
        return told(lambda: _rotate_listed(home, role, keys, given))
    root = told(lambda: _rotate_in_root(home, role, keys, given))
    return {"role": role, "root_version": root.version, "keyids": sorted(root.roles[role].keyids)}


def _rotate_in_root(home: Path, role: str, keys: Offline, given: dict[str, Any]) -> Root:
    if role == "root":
        if not given["out"] and not given["new"]:
            raise click.UsageError("--revoke KEYID, --new-key PLACE or both; `trust renew root` keeps the keys")
        return rotation.rotate_root(home, keys, given["out"], given["new"])
    if role == "targets":
        if len(given["new"]) != 1:
            raise click.UsageError("--new-key PLACE: where the new targets key goes")
        return rotation.rotate_targets(home, keys, given["new"][0])
    return rotation.rotate_online(home, keys, role, _public(given))


def _rotate_listed(home: Path, role: str, keys: Offline, given: dict[str, Any]) -> dict[str, Any]:
    if role == "audit":
        listed = rotation.rotate_audit(home, keys, _public(given)).keys
        return {"role": role, "keyids": [dsse.key_id(bytes.fromhex(key)) for key in listed]}
    director = rotation.rotate_director(home, keys, _public(given), reset_time_floor=given["reset_time_floor"])
    return {"role": role, "epoch": director.epoch, "keyids": sorted(director.public_keys())}


def _public(given: dict[str, Any]) -> SSlibKey | None:
    return signing.public_from(given["public"], secrets()) if given["public"] else None


def renew(home: Path, role: str, keys: Offline) -> dict[str, Any]:
    """Sign root or targets anew; returns how it stands then."""
    if role == "root":
        told(lambda: rotation.rotate_root(home, keys))
    else:
        told(lambda: ceremony.renew_targets(home, keys))
    return next(dict(row) for row in told(lambda: status.report(home, utc_now()))["roles"] if row["role"] == role)


def prepare(home: Path, role: str, file: Path) -> dict[str, Any]:
    """Make the successor of an online key and write its public half."""
    key = told(lambda: rotation.prepare(home, role))
    write_public(file, signing.public_pem(key))
    return {"role": role, "keyid": signing.tuf_key(key).keyid, "public": str(file)}

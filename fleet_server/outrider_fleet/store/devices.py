"""Devices, their keys, tokens and groups."""

from typing import Any

from sqlalchemy import Connection, Select, and_, func, select

from outrider_fleet.store import sql
from outrider_fleet.store.sql import Row
from outrider_fleet.store.tables import device_keys, devices, drift_status, executions, group_members, groups, tokens

ALL = "all"
CONNECTING = ("enrolled", "decommissioning")  # states of devices that may connect


def get(connection: Connection, device: str) -> Row | None:
    """A device's row."""
    return sql.find(connection, devices, device=device)


def listed(connection: Connection, *, after: str | None = None, limit: int = sql.PAGE) -> list[Row]:
    """Devices by id."""
    return sql.page(connection, select(devices), devices.c.device, after=after, limit=limit)


def enrolled(connection: Connection, device: str) -> bool:
    """Whether a device may be ordered releases."""
    statement = select(devices.c.state).where(devices.c.device == device)
    return bool(sql.scalar(connection, statement) == "enrolled")


def connects(connection: Connection, device: str) -> bool:
    """Whether a device may connect: it is enrolled, or being decommissioned."""
    return sql.scalar(connection, select(devices.c.state).where(devices.c.device == device)) in CONNECTING


def update(connection: Connection, device: str, values: dict[str, Any]) -> None:
    """Change columns of a device."""
    sql.change(connection, devices, devices.c.device == device, values)


def current_key(connection: Connection, device: str) -> str | None:
    """Hex SHA-256 of the public key that the device enrolled with last; None where it is revoked."""
    row = newest_key(connection, device)
    return None if row is None or row["revoked_ms"] is not None else str(row["key_sha256"])


def newest_key(connection: Connection, device: str) -> Row | None:
    """The row of a device's latest certificate, revoked or not."""
    newest = select(device_keys).where(device_keys.c.device == device).order_by(device_keys.c.issued_ms.desc())
    return sql.one(connection, newest.limit(1))


def key_row(connection: Connection, device: str, key_sha256: str, now_ms: int) -> Row:
    """The beginning of the next certificate's row: issued now, but later than the one before."""
    last_ms = newest_key_ms(connection, device)
    issued_ms = now_ms if last_ms is None else max(now_ms, last_ms + 1)
    return {"device": device, "key_sha256": key_sha256, "issued_ms": issued_ms}


def revoke_keys(connection: Connection, device: str, now_ms: int) -> None:
    """Mark every key of a device as revoked."""
    unrevoked = and_(device_keys.c.device == device, device_keys.c.revoked_ms.is_(None))
    sql.change(connection, device_keys, unrevoked, {"revoked_ms": now_ms})


def revoked_keys(connection: Connection, now_ms: int) -> list[Row]:
    """Rows of certificates that were revoked before their end."""
    live = and_(device_keys.c.revoked_ms.is_not(None), device_keys.c.expires_ms > now_ms)
    return sql.rows(connection, select(device_keys).where(live).order_by(device_keys.c.issued_ms))


def add_key(connection: Connection, row: Row) -> None:
    """Record a certificate."""
    sql.insert(connection, device_keys, row)


def token(connection: Connection, token_sha256: str) -> Row | None:
    """A token's row by its hash."""
    return sql.find(connection, tokens, token_sha256=token_sha256)


def use_token(connection: Connection, token_sha256: str, by: str, now_ms: int) -> bool:
    """Use a single-use token; False where somebody was quicker."""
    unused = and_(tokens.c.token_sha256 == token_sha256, tokens.c.used_ms.is_(None))
    return sql.change(connection, tokens, unused, {"used_ms": now_ms, "used_by": by}) == 1


def group(connection: Connection, name: str) -> Row | None:
    """A group's row; `all` always exists."""
    if name == ALL:
        return {"name": ALL, "kind": "dynamic", "query": {}, "created_ms": 0}
    return sql.find(connection, groups, name=name)


def members(connection: Connection, row: Row) -> list[Row]:
    """The enrolled devices of a group, each with `drifted` and `evidence` (or None) per its own model."""
    return sql.rows(connection, _with_drift(_member_filter(row)).order_by(devices.c.device))


def _member_filter(row: Row) -> Select[Any]:
    chosen = select(devices).where(devices.c.state == "enrolled")
    if row["kind"] == "static":
        ids = select(group_members.c.device).where(group_members.c.name == row["name"])
        return chosen.where(devices.c.device.in_(ids))
    query = row["query"] or {}
    if "profile" in query:
        chosen = chosen.where(devices.c.profile == query["profile"])
    if "prefix" in query:
        chosen = chosen.where(devices.c.device.startswith(query["prefix"], autoescape=True))
    return chosen


def _with_drift(chosen: Select[Any]) -> Select[Any]:
    joined = chosen.outerjoin(drift_status, drift_status.c.device == devices.c.device)
    return joined.add_columns(
        drift_status.c.drifted, drift_status.c.evidence, drift_status.c.model.label("drift_model")
    )


def list_groups(connection: Connection) -> list[Row]:
    """All groups with the number of static members."""
    listed = sql.rows(connection, select(groups).order_by(groups.c.name))
    names = [ALL, *(row["name"] for row in listed)]
    found = [group(connection, name) for name in names]
    return [{**row, "devices": [m["device"] for m in distinct(members(connection, row))]} for row in found if row]


def distinct(found: list[Row]) -> list[Row]:
    """One row a device (a device may have drift rows of several models)."""
    return list({row["device"]: row for row in found}.values())


def newest_key_ms(connection: Connection, device: str) -> int | None:
    """When a device's latest certificate was issued."""
    newest = sql.scalar(connection, select(func.max(device_keys.c.issued_ms)).where(device_keys.c.device == device))
    return None if newest is None else int(newest)


def profile(connection: Connection, device: str) -> str:
    """A device's hardware profile; empty where it is unknown."""
    return str(sql.scalar(connection, select(devices.c.profile).where(devices.c.device == device)) or "")


def signs_of_rollout(connection: Connection, rollout: str) -> dict[str, tuple[bool, float]]:
    """Device → (connected, evidence of drift from the rollout's model), for everybody in a rollout."""
    about = and_(drift_status.c.device == executions.c.device, drift_status.c.model == executions.c.model)
    joined = select(devices.c.device, devices.c.online, drift_status.c.evidence).select_from(
        executions.join(devices, devices.c.device == executions.c.device).outerjoin(drift_status, about)
    )
    found = sql.rows(connection, joined.where(executions.c.rollout == rollout))
    return {row["device"]: (bool(row["online"]), row["evidence"] or 0.0) for row in found}


def most_attested(connection: Connection, model: str) -> str | None:
    """The artifact of a model that most devices attest."""
    count = func.count()
    chosen = select(devices.c.attest_digest, count).where(
        devices.c.model == model, devices.c.attest_digest.is_not(None), devices.c.state == "enrolled"
    )
    digest = sql.scalar(connection, chosen.group_by(devices.c.attest_digest).order_by(count.desc()).limit(1))
    return None if digest is None else str(digest)


def all_tokens(connection: Connection) -> list[Row]:
    """Every token's row, newest first."""
    return sql.rows(connection, select(tokens).order_by(tokens.c.created_ms.desc(), tokens.c.token_sha256))


def revoke_token(connection: Connection, token_sha256: str, now_ms: int) -> None:
    """A token counts no more; an earlier revocation keeps its time."""
    valid = (tokens.c.token_sha256 == token_sha256) & tokens.c.revoked_ms.is_(None)
    sql.change(connection, tokens, valid, {"revoked_ms": now_ms})

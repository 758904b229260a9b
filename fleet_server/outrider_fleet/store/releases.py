"""Releases, their artifacts and blobs."""

from typing import Any

from sqlalchemy import Connection, and_, func, select

from outrider_fleet.store import sql
from outrider_fleet.store.sql import Row
from outrider_fleet.store.tables import artifacts, blobs, releases, rollouts


def get(connection: Connection, model: str, version: str) -> Row | None:
    """A release's row."""
    return sql.find(connection, releases, model=model, version=version)


def newest_counter(connection: Connection, model: str) -> int:
    """The highest counter of a model, 0 without a release."""
    return int(sql.scalar(connection, select(func.max(releases.c.counter)).where(releases.c.model == model)) or 0)


def newest(connection: Connection, model: str) -> Row | None:
    """The release with the highest counter."""
    statement = select(releases).where(releases.c.model == model).order_by(releases.c.counter.desc())
    return sql.one(connection, statement.limit(1))


def listed(connection: Connection, *, after: int | None = None, limit: int = sql.PAGE) -> list[Row]:
    """Releases, newest first, with their artifacts (without metadata)."""
    columns = [column for column in releases.c if column.name not in ("role_metadata", "index_json")]
    found = sql.page(connection, select(*columns), releases.c.created_ms, after=after, limit=limit, newest_first=True)
    return [{**row, "artifacts": artifacts_of(connection, row["model"], row["version"])} for row in found]


def artifacts_of(connection: Connection, model: str, version: str) -> list[Row]:
    """The artifacts of a release, by hardware profile."""
    chosen = select(artifacts).where(artifacts.c.model == model, artifacts.c.version == version)
    return sql.rows(connection, chosen.order_by(artifacts.c.profile))


def artifact(connection: Connection, digest: str) -> Row | None:
    """An artifact by its manifest's digest."""
    return sql.find(connection, artifacts, digest=digest)


def any_artifact(connection: Connection) -> Row | None:
    """Some artifact of the newest release."""
    joined = select(artifacts).join(
        releases, and_(releases.c.model == artifacts.c.model, releases.c.version == artifacts.c.version)
    )
    return sql.one(connection, joined.order_by(releases.c.created_ms.desc()).limit(1))


def artifact_for(connection: Connection, model: str, version: str, profile: str) -> Row | None:
    """The artifact of a release for a hardware profile."""
    return sql.find(connection, artifacts, model=model, version=version, profile=profile)


def blob(connection: Connection, digest: str) -> Row | None:
    """A blob's row."""
    return sql.find(connection, blobs, digest=digest)


def device_blobs(row: dict[str, Any]) -> dict[str, int]:
    """Digest → size of everything a device fetches for an artifact."""
    layers = {layer["digest"]: layer["size"] for layer in row["layers"] if layer["device"]}
    return {row["digest"]: row["manifest_bytes"], **layers}


def parameter_ranges(artifact: Row) -> dict[str, tuple[float, float, float]]:
    """The parameters that an artifact declares: name → (least, most, default)."""
    declared = artifact["config"].get("parameters", {})
    return {name: (item["min"], item["max"], item["default"]) for name, item in declared.items()}


def unpublished(connection: Connection) -> list[Row]:
    """Blobs that devices need and that the broker has not got yet."""
    waiting = {row["digest"]: row for row in sql.rows(connection, select(blobs).where(blobs.c.published_ms.is_(None)))}
    if not waiting:
        return []
    needed = [digest for row in sql.rows(connection, select(artifacts)) for digest in device_blobs(row)]
    return [waiting[digest] for digest in dict.fromkeys(needed) if digest in waiting]


def published(connection: Connection) -> list[Row]:
    """Blobs that the broker was given."""
    return sql.rows(connection, select(blobs).where(blobs.c.published_ms.is_not(None)))


def mark_published(connection: Connection, digest: str, now_ms: int | None) -> None:
    """Remember that the broker holds every chunk (or, with None, that it does not)."""
    sql.change(connection, blobs, blobs.c.digest == digest, {"published_ms": now_ms})


def versions(connection: Connection, model: str) -> set[str]:
    """Every version label of a model."""
    return {
        str(row["version"]) for row in sql.rows(connection, select(releases.c.version).where(releases.c.model == model))
    }


def blobs_of_running_rollouts(connection: Connection) -> dict[str, int]:
    """Digest → size of what devices may be fetching now."""
    joined = select(artifacts).join(
        rollouts, and_(rollouts.c.model == artifacts.c.model, rollouts.c.version == artifacts.c.version)
    )
    found = sql.rows(connection, joined.where(rollouts.c.state == "running"))
    return {digest: size for row in found for digest, size in device_blobs(row).items()}

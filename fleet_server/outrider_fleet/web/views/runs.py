"""Training runs and the dataset snapshots that they learn from."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from outrider_fleet.web.views.devices import Link
from outrider_fleet.web.views.words import (
    Badge,
    Fact,
    Moment,
    badge,
    facts,
    lineage_href,
    moment,
    plain,
    rollout_href,
    short,
)

Row = Mapping[str, Any]
_SOURCES_SHOWN = 8


@dataclass(frozen=True)
class RunView:
    """One run: who asked for it, why, on what, and what came of it."""

    id: str
    lineage: str
    model: str
    state: Badge
    requested_by: str
    why: str
    snapshot: Link | None
    base: str
    version: str
    claimed_by: str
    progress: str
    percent: float | None
    figures: tuple[Fact, ...]
    rollout: Link | None
    created: Moment | None


@dataclass(frozen=True)
class SnapshotView:
    """One snapshot: how many samples, of which recordings."""

    digest: str
    lineage: str
    model: str
    n: int
    sources: str
    created: Moment | None
    created_by: str


def run_view(row: Row, now_ms: int) -> RunView:
    """One run."""
    progress = row["progress"] if isinstance(row["progress"], Mapping) else {}
    rollout = row["rollout"]
    return RunView(
        id=plain(row["id"], 64),
        lineage=lineage_href("run", row["id"]),
        model=plain(row["model"], 64),
        state=badge(row["state"]),
        requested_by=plain(row["requested_by"], 80),
        why=_why(row["reason"]),
        snapshot=Link(short(row["snapshot"]), lineage_href("snapshot", row["snapshot"])) if row["snapshot"] else None,
        base=plain(row["base_version"], 64),
        version=plain(row["version"], 64),
        claimed_by=plain(row["claimed_by"] or "", 64),
        progress=plain(progress.get("text", ""), 160),
        percent=_percent(progress.get("ratio")),
        figures=facts(_figures(row["result"]), 8),
        rollout=Link(plain(rollout, 64), rollout_href(rollout)) if rollout else None,
        created=moment(row["created_ms"], now_ms),
    )


def _why(reason: Any) -> str:
    return plain(reason["why"]) if isinstance(reason, Mapping) and "why" in reason else plain(reason or "")


def _percent(ratio: Any) -> float | None:
    known = isinstance(ratio, int | float) and not isinstance(ratio, bool)
    return round(100 * min(1.0, max(0.0, ratio)), 1) if known else None


def _figures(result: Any) -> Any:
    nested = isinstance(result, Mapping) and isinstance(result.get("figures"), Mapping)
    return result["figures"] if nested else result


def snapshot_view(row: Row, now_ms: int) -> SnapshotView:
    """One snapshot."""
    sources = row["sources"] if isinstance(row["sources"], list) else []
    shown = ", ".join(plain(source, 60) for source in sources[:_SOURCES_SHOWN])
    more = f" and {len(sources) - _SOURCES_SHOWN} more" if len(sources) > _SOURCES_SHOWN else ""
    return SnapshotView(
        digest=short(row["digest"]),
        lineage=lineage_href("snapshot", row["digest"]),
        model=plain(row["model"], 64),
        n=row["n"],
        sources=f"{shown}{more}",
        created=moment(row["created_ms"], now_ms),
        created_by=plain(row["created_by"], 64),
    )

"""Releases: per hardware profile what was chosen, how large it is, and how many devices attest it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from outrider_fleet.web.views.devices import Link
from outrider_fleet.web.views.words import Badge, Moment, badge, lineage_href, moment, plain, short, size

Row = Mapping[str, Any]


@dataclass(frozen=True)
class ArtifactView:
    """One artifact; `share` is its size relative to the release's largest, in per cent."""

    profile: str
    engine: str
    precision: str
    size: str
    share: float
    accuracy: str
    digest: str
    digest_full: str
    running: int


@dataclass(frozen=True)
class ReleaseView:
    """One release with its artifacts by profile."""

    model: str
    version: str
    counter: int
    state: Badge
    created: Moment | None
    created_by: str
    run: Link | None
    lineage: str
    running: int
    artifacts: tuple[ArtifactView, ...]


def release_views(
    releases: Sequence[Row], artifacts: Sequence[Row], running: Sequence[Row], now_ms: int
) -> list[ReleaseView]:
    """Releases as given, each with its artifacts; `running` counts the devices that attest a digest."""
    attested = {row["digest"]: row["n"] for row in running}
    return [
        _release_view(
            row,
            [a for a in artifacts if (a["model"], a["version"]) == (row["model"], row["version"])],
            attested,
            now_ms,
        )
        for row in releases
    ]


def _release_view(row: Row, artifacts: list[Row], attested: Mapping[str, int], now_ms: int) -> ReleaseView:
    largest = max((a["model_bytes"] for a in artifacts), default=1) or 1
    return ReleaseView(
        model=plain(row["model"], 64),
        version=plain(row["version"], 64),
        counter=row["counter"],
        state=badge(row["state"]),
        created=moment(row["created_ms"], now_ms),
        created_by=plain(row["created_by"], 64),
        run=Link(plain(row["run"], 64), lineage_href("run", row["run"])) if row["run"] else None,
        lineage=lineage_href("release", f"{row['model']}/{row['version']}"),
        running=sum(attested.get(a["digest"], 0) for a in artifacts),
        artifacts=tuple(_artifact_view(a, largest, attested) for a in artifacts),
    )


def _artifact_view(row: Row, largest: int, attested: Mapping[str, int]) -> ArtifactView:
    accuracy = row["reference_accuracy"]
    return ArtifactView(
        profile=plain(row["profile"], 64),
        engine=plain(row["engine"], 40),
        precision=plain(row["precision"], 40),
        size=size(row["model_bytes"]),
        share=round(100 * row["model_bytes"] / largest, 1),
        accuracy="–" if accuracy is None else f"{accuracy:.3f}",
        digest=short(row["digest"]),
        digest_full=plain(row["digest"], 80),
        running=attested.get(row["digest"], 0),
    )

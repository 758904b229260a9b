"""Drift of a model: how many devices stand in alarm, what accuracy is estimated, and how both went over time."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from outrider_fleet.web.views import charts
from outrider_fleet.web.views.charts import Chart
from outrider_fleet.web.views.devices import Link
from outrider_fleet.web.views.words import Badge, Moment, badge, decimal, device_href, moment, percent, plain, short

Row = Mapping[str, Any]
_OPINION = ("watching", "alarm")  # those that the drift policy counts


@dataclass(frozen=True)
class DriftEventView:
    """One drift event of a device."""

    device: Link
    model: str
    digest: str
    phase: Badge
    begins: bool
    score: str
    estimated: str
    baseline: str
    top: str
    at: Moment | None


@dataclass(frozen=True)
class ModelDriftView:
    """One model's drift over the fleet."""

    model: str
    alarmed: int
    watched: int
    share: str
    estimated: str
    reference: str
    autonomy: str
    phases: tuple[tuple[Badge, int], ...]
    bar: tuple[charts.Segment, ...]
    alarms: Chart
    accuracy: tuple[charts.Dot, ...]
    accuracy_label: str
    events: tuple[DriftEventView, ...]


@dataclass(frozen=True)
class MaintenanceView:
    """A lone deviating device that somebody shall look at."""

    device: Link
    model: str
    text: str
    created: Moment | None


def model_views(
    counts: Sequence[Row],
    reference: Mapping[str, float | None],
    autonomy: Mapping[str, str],
    history: Mapping[str, tuple[Sequence[Row], Sequence[Row]]],
    now_ms: int,
) -> list[ModelDriftView]:
    """Every model that devices watch; `history` holds a model's drift events (newest first) and cleared devices."""
    models = list(dict.fromkeys(row["model"] for row in counts))
    return [
        _model_view(
            m, [row for row in counts if row["model"] == m], reference, autonomy, history.get(m, ((), ())), now_ms
        )
        for m in models
    ]


def _model_view(
    model: str,
    counts: list[Row],
    reference: Mapping[str, float | None],
    autonomy: Mapping[str, str],
    history: tuple[Sequence[Row], Sequence[Row]],
    now_ms: int,
) -> ModelDriftView:
    alarmed = sum(row["n"] for row in counts if row["phase"] == "alarm")
    watched = sum(row["n"] for row in counts if row["phase"] in _OPINION)
    phases = _phases(counts)
    events, cleared = history
    devices = sum(row["n"] for row in counts)
    told = [row for row in events if not _begins(row)]
    estimates = [row for row in reversed(events) if row["estimated_accuracy"] is not None]
    return ModelDriftView(
        model=plain(model, 64),
        alarmed=alarmed,
        watched=watched,
        share=percent(alarmed / watched if watched else None),
        estimated=decimal(_mean_estimate([row for row in counts if row["phase"] == "alarm"])),
        reference=decimal(reference.get(model)),
        autonomy=plain(autonomy.get(model, "propose"), 20),
        phases=phases,
        bar=charts.bar([(n, phase.tone) for phase, n in phases], sum(n for _, n in phases)),
        alarms=alarm_chart(events, cleared, devices, now_ms),
        accuracy=_estimate_dots(estimates, events, now_ms),
        accuracy_label=_estimate_label(estimates),
        events=tuple(event_view(row, now_ms) for row in told[:8]),
    )


def _phases(counts: Iterable[Row]) -> tuple[tuple[Badge, int], ...]:
    order = {"alarm": 0, "rebaselining": 1, "watching": 2}
    totals: dict[str, int] = {}
    for row in sorted(counts, key=lambda row: order.get(row["phase"], 3)):
        totals[row["phase"]] = totals.get(row["phase"], 0) + row["n"]
    return tuple((badge(phase), n) for phase, n in totals.items())


def _mean_estimate(counts: Iterable[Row]) -> float | None:
    rows = [row for row in counts if row["estimates"]]
    n = sum(row["estimates"] for row in rows)
    return sum(row["estimated_sum"] for row in rows) / n if n else None


def alarm_chart(events: Sequence[Row], cleared: Iterable[Row], devices: int, now_ms: int) -> Chart:
    """Drifted devices over time: an event of phase `alarm` adds its device, a later clearing takes it away."""
    alarms = [(row["at_ms"], row["device"], row["phase"] == "alarm") for row in events]
    changes = sorted([*alarms, *((row["cleared_ms"], row["device"], False) for row in cleared)])
    standing: set[str] = set()
    points = []
    for at_ms, device, alarmed in changes:
        standing = standing | {device} if alarmed else standing - {device}
        points.append((float(at_ms), float(len(standing))))
    top = max([float(devices), *(value for _, value in points)])
    return charts.steps(points, until=now_ms, top=top, label=_alarm_label(points, devices))


def _alarm_label(points: Sequence[tuple[float, float]], devices: int) -> str:
    if not points:
        return "no drift event yet"
    most = max(value for _, value in points)
    return f"devices not cleared since their alarm: now {points[-1][1]:.0f}, at most {most:.0f}, of {devices}"


def _estimate_dots(estimates: Sequence[Row], events: Sequence[Row], now_ms: int) -> tuple[charts.Dot, ...]:
    if not estimates:
        return ()
    since = min(row["at_ms"] for row in events)
    points = [(row["at_ms"], row["estimated_accuracy"], badge(row["phase"]).tone) for row in estimates]
    return charts.dots(points, since=since, until=max(now_ms, *(at for at, _, _ in points)), top=1.0)


def _estimate_label(estimates: Sequence[Row]) -> str:
    if not estimates:
        return "no estimate of accuracy yet"
    values = [row["estimated_accuracy"] for row in estimates]
    return f"estimated accuracy at {len(values)} events: {min(values):.2f} to {max(values):.2f}"


def event_view(row: Row, now_ms: int) -> DriftEventView:
    """One event."""
    return DriftEventView(
        device=Link(plain(row["device"], 80), device_href(row["device"])),
        model=plain(row["model"], 64),
        digest=short(row["digest"]),
        phase=badge(row["phase"]),
        begins=_begins(row),
        score=f"{row['score']:.4g}",
        estimated=decimal(row["estimated_accuracy"]),
        baseline=f"window {row['window_index']}, baseline of {row['baseline_n']}",
        top=_top(row["top"]),
        at=moment(row["at_ms"], now_ms),
    )


def _begins(row: Row) -> bool:
    """A new release has begun its baseline: no evidence yet."""
    return bool(row["phase"] == "rebaselining" and row["window_index"] == 0)


def _top(top: Any) -> str:
    """The variables that moved most, as words; whatever form the device gave them."""
    listed = top if isinstance(top, list) else [top] if top else []
    return ", ".join(_named(item) for item in listed[:4])


def _named(item: Any) -> str:
    if isinstance(item, Mapping):
        return plain(next((item[k] for k in ("name", "variable", "score") if k in item), item), 60)
    return plain(item[0] if isinstance(item, list) and item else item, 60)


def maintenance_view(row: Row, now_ms: int) -> MaintenanceView:
    """One maintenance event."""
    link = Link(plain(row["device"], 80), device_href(row["device"]))
    return MaintenanceView(link, plain(row["model"], 64), plain(row["text"]), moment(row["created_ms"], now_ms))

"""Devices: what each runs, attests and says of its inputs."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from outrider_fleet.web.views import charts
from outrider_fleet.web.views.charts import Chart
from outrider_fleet.web.views.words import (
    Badge,
    Fact,
    Moment,
    badge,
    decimal,
    device_href,
    facts,
    lineage_href,
    moment,
    plain,
    rollout_href,
    short,
)

Row = Mapping[str, Any]
_CLEARED = {"labelled_check": "labelled check", "group_test": "group test"}


@dataclass(frozen=True)
class Link:
    """Text and where it leads."""

    text: str
    href: str


@dataclass(frozen=True)
class DriftNote:
    """A device's drift: its phase, since when, and who cleared it."""

    phase: Badge
    since: Moment | None
    cleared: str
    cleared_at: Moment | None
    estimated: str


@dataclass(frozen=True)
class DeviceView:
    """One device, as a row and at the head of its page."""

    device: str
    href: str
    profile: str
    online: Badge
    seen: Moment | None
    release: Link | None
    digest: str
    digest_full: str
    attested: Badge
    answered: int | None
    execution: Badge | None
    rollout: Link | None
    drift: DriftNote | None


@dataclass(frozen=True)
class ExecutionView:
    """One device's part in one rollout."""

    device: Link
    rollout: Link | None
    order: str
    release: str
    profile: str
    purpose: str
    state: Badge
    phase: str
    shadow: str
    latency: str
    attested: bool
    problem: str
    updated: Moment | None


@dataclass(frozen=True)
class ReportView:
    """One report of a device on an execution."""

    order: str
    state: Badge
    detail: tuple[Fact, ...]
    at: Moment | None
    applied: bool


@dataclass(frozen=True)
class StreamView:
    """Up to where one stream of telemetry is committed."""

    stream: str
    outbox_id: str
    committed: int
    updated: Moment | None


def device_views(
    devices: Sequence[Row], drift: Iterable[Row], executions: Iterable[Row], now_ms: int
) -> list[DeviceView]:
    """Devices with their latest execution and the drift of the model that they run."""
    notes = {(row["device"], row["model"]): row for row in drift}
    latest = {row["device"]: row for row in executions}
    return [device_view(row, _note_of(row, notes), latest.get(row["device"]), now_ms) for row in devices]


def _note_of(device: Row, notes: Mapping[tuple[str, str], Row]) -> Row | None:
    own = {model: row for (name, model), row in notes.items() if name == device["device"]}
    return own.get(device["model"]) or next(iter(own.values()), None)


def device_view(device: Row, drift: Row | None, execution: Row | None, now_ms: int) -> DeviceView:
    """One device; `drift` and `execution` are its rows, where there are any."""
    release = f"{plain(device['model'], 64)} {plain(device['version'] or '', 64)}" if device["model"] else None
    rollout = execution["rollout"] if execution else None
    return DeviceView(
        device=plain(device["device"], 80),
        href=device_href(device["device"]),
        profile=plain(device["profile"], 64),
        online=_presence(device),
        seen=moment(device["seen_ms"], now_ms),
        release=Link(release, lineage_href("release", f"{device['model']}/{device['version']}")) if release else None,
        digest=short(device["digest"]),
        digest_full=plain(device["digest"] or "", 80),
        attested=_attested(device),
        answered=device["attest_answered"],
        execution=badge(execution["state"]) if execution else None,
        rollout=Link(plain(rollout, 64), rollout_href(rollout)) if rollout else None,
        drift=drift_note(drift, now_ms) if drift else None,
    )


def _presence(device: Row) -> Badge:
    if device["state"] != "enrolled":
        return badge(device["state"])
    return Badge("online", "good") if device["online"] else Badge("offline", "quiet")


def _attested(device: Row) -> Badge:
    if device["attest_digest"] is None:
        return Badge("not attested", "quiet")
    same = device["attest_digest"] == device["digest"]
    return Badge("attested", "good") if same else Badge("attests another digest", "bad")


def drift_note(drift: Row, now_ms: int) -> DriftNote:
    """The drift of one device and model; a clearing of an earlier alarm is shown until the next one."""
    phase = badge(drift["phase"])
    if drift["drifted"] and phase.tone != "bad":
        phase = Badge(phase.text, "warn")
    by = drift["cleared_by"]
    return DriftNote(
        phase,
        moment(drift["since_ms"], now_ms),
        f"cleared by {_CLEARED.get(by, plain(by, 40))}" if by else "",
        moment(drift["cleared_ms"], now_ms) if by else None,
        decimal(drift["estimated_accuracy"]),
    )


def execution_view(row: Row, phases: Sequence[str], now_ms: int) -> ExecutionView:
    """One execution; `phases` are the names of the rollout's phases, empty where they are not known."""
    phase, rollout = row["phase"], row["rollout"]
    named = phase is not None and 0 <= phase < len(phases)
    return ExecutionView(
        device=Link(plain(row["device"], 80), device_href(row["device"])),
        rollout=Link(plain(rollout, 64), rollout_href(rollout)) if rollout else None,
        order=f"{row['epoch']}.{row['seq']}" if row["epoch"] is not None else "",
        release=f"{plain(row['model'], 64)} {plain(row['version'], 64)}",
        profile=plain(row["profile"], 64),
        purpose=plain(row["purpose"], 20),
        state=badge(row["state"]),
        phase=phases[phase] if named else "",
        shadow=f"{row['shadow_disagree']} of {row['shadow_n']} disagree" if row["shadow_n"] else "",
        latency=f"{row['latency_us']:.0f} µs" if row["latency_us"] is not None else "",
        attested=row["attest_digest"] is not None and row["attest_digest"] == row["digest"],
        problem=": ".join(plain(part) for part in (row["error"], row["hint"]) if part),
        updated=moment(row["updated_ms"], now_ms),
    )


def report_view(row: Row, now_ms: int) -> ReportView:
    """One report."""
    order = f"{row['epoch']}.{row['seq']}"
    return ReportView(
        order, badge(row["state"]), facts(row["detail"], 8), moment(row["at_ms"], now_ms), bool(row["applied"])
    )


def stream_view(row: Row, now_ms: int) -> StreamView:
    """One stream."""
    return StreamView(
        plain(row["stream"], 20), plain(row["outbox_id"], 20), row["committed_seq"], moment(row["updated_ms"], now_ms)
    )


def device_facts(row: Row, now_ms: int) -> tuple[Fact, ...]:
    """What the device said of itself when it was enrolled, and since."""
    enrolled = moment(row["enrolled_ms"], now_ms)
    own = {
        "enrolled": enrolled.words if enrolled else "",
        "agent": row["agent_version"] or "–",
        "session": row["session"],
        "outbox": row["outbox_id"] or "–",
        "order floor": f"epoch {row['floor_epoch']}, seq {row['floor_seq']}",
        "phase reported": row["phase"],
    }
    return (*facts(own), *facts(row["facts"], 16))


def confidence_chart(newest_first: Sequence[Row]) -> Chart | None:
    """Confidence of the latest predictions, oldest on the left; none below two predictions."""
    values = [max(0.0, min(1.0, row["confidence"])) for row in reversed(newest_first)]
    if len(values) < 2:
        return None
    mean = sum(values) / len(values)
    return charts.line(values, top=1.0, label=f"confidence of the last {len(values)} predictions, mean {mean:.2f}")

"""View models and chart geometry: pure, so tables of cases."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider_fleet.web import assets
from outrider_fleet.web.views import charts, lineage, words
from outrider_fleet.web.views.drift import alarm_chart, model_views
from outrider_fleet.web.views.rollouts import rollout_view
from outrider_protocol.execution import State
from tests.fleet.web.conftest import NOW_MS, ago, rollout_row


def progress(phase: int | None, state: str, n: int, *, exposed: bool = True) -> dict[str, Any]:
    """A row of `queries.progress`."""
    return {"phase": phase, "state": state, "n": n, "exposed": n if exposed else 0}


def test_phases_add_up() -> None:
    """WEB-PAG-7: a canary of two with one failure, then three of the other six."""
    counted = [
        progress(0, "succeeded", 1),
        progress(0, "rolled_back", 1),
        progress(1, "succeeded", 1),
        progress(1, "already_installed", 1),
        progress(1, "probation", 1),
        progress(None, "queued", 3, exposed=False),
    ]
    view = rollout_view({**rollout_row("ro-1"), "ended_ms": None}, counted, NOW_MS)
    canary, rest = view.phases
    assert (canary.room, canary.exposed, canary.succeeded, canary.failed) == (2, 2, 1, 1)
    assert (rest.room, rest.exposed, rest.succeeded, rest.other, rest.working) == (6, 3, 1, 1, 1)
    assert [piece.tone for piece in rest.bar] == ["good", "quiet", "busy"]
    assert sum(piece.width for piece in rest.bar) == pytest.approx(50, abs=0.1)
    assert (view.exposed, view.total, canary.current, rest.current) == (5, 8, False, True)


@given(st.lists(st.tuples(st.sampled_from([s.value for s in State]), st.integers(0, 50)), max_size=12))
def test_whatever_the_states_a_phase_adds_up(states: list[tuple[str, int]]) -> None:
    """WEB-PAG-7: exposed = succeeded + failed + under way + ended otherwise, and the bar never overflows."""
    counted = [progress(0, state, n) for state, n in states]
    phase = rollout_view({**rollout_row("ro-1"), "ended_ms": None}, counted, NOW_MS).phases[0]
    assert phase.exposed == phase.succeeded + phase.failed + phase.working + phase.other
    assert all(piece.x + piece.width <= 100.1 for piece in phase.bar)


def drift_count(phase: str, n: int, drifted: int = 0, **values: Any) -> dict[str, Any]:
    """A row of `queries.drift_counts`."""
    return {"model": "har", "phase": phase, "drifted": drifted, "n": n, "estimates": 0, "estimated_sum": None, **values}


def test_share_is_that_of_the_policy() -> None:
    """WEB-PAG-9: rebaselining and baseline devices have no opinion yet."""
    counts = [
        drift_count("watching", 5),
        drift_count("alarm", 3, 1, estimates=2, estimated_sum=0.9),
        drift_count("rebaselining", 2, 1),
        drift_count("baseline", 4),
    ]
    (view,) = model_views(counts, {"har": 0.85}, {}, {}, NOW_MS)
    assert (view.alarmed, view.watched, view.share) == (3, 8, "38 %")
    assert (view.estimated, view.reference, view.autonomy) == ("0.45", "0.85", "propose")
    assert [phase.text for phase, _ in view.phases][:2] == ["alarm", "rebaselining"]


def test_a_chart_of_alarms_goes_up_and_down() -> None:
    """WEB-PAG-9: two alarm, one is cleared; a repeated alarm counts once."""
    events = [
        {"at_ms": ago(5), "device": "a", "phase": "alarm"},
        {"at_ms": ago(6), "device": "b", "phase": "alarm"},
        {"at_ms": ago(9), "device": "a", "phase": "alarm"},
    ]
    chart = alarm_chart(events, [{"cleared_ms": ago(2), "device": "b"}], 8, NOW_MS)
    assert "now 1, at most 2, of 8" in chart.label


def drift_event(device: str, phase: str, window: int) -> dict[str, Any]:
    """A row of `queries.drift_events`."""
    at_ms = ago(9 if phase == "alarm" else 3)
    said = {"device": device, "model": "har", "digest": "sha256:00", "phase": phase, "window_index": window}
    return {**said, "score": 2113.4, "baseline_n": 115, "estimated_accuracy": 0.4, "top": [], "at_ms": at_ms}


def test_beginnings_of_a_baseline_do_not_crowd_out_alarms() -> None:
    """WEB-PAG-9: after a release every device begins anew; the model's list keeps the alarms before it."""
    begun = [drift_event(f"dev-{n}", "rebaselining", 0) for n in range(20)]
    history = {"har": ([*begun, drift_event("dev-1", "alarm", 141)], [])}
    (view,) = model_views([drift_count("rebaselining", 20)], {}, {}, history, NOW_MS)
    assert [(event.device.text, event.begins) for event in view.events] == [("dev-1", False)]
    assert view.alarms.label.endswith("now 0, at most 1, of 20")


@given(st.lists(st.tuples(st.integers(-(2**40), 2**60), st.floats(0, 1e6)), max_size=30), st.floats(0, 1e6))
def test_charts_stay_in_their_box(points: list[tuple[int, float]], top: float) -> None:
    """WEB-PAG-9: whatever the data, no coordinate leaves the box."""
    ordered = sorted(points)
    for path in (
        charts.steps(ordered, until=0, top=top, label="").path,
        charts.line([value for _, value in ordered], top=top, label="").path,
    ):
        numbers = [float(number) for number in re.findall(r"-?[\d.]+(?:e[+-]?\d+)?", path)]
        assert all(0 <= number <= charts.WIDTH for number in numbers)


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(), lambda c: st.lists(c) | st.dictionaries(st.text(), c)
    )
)
def test_any_value_becomes_short_printable_text(value: Any) -> None:
    """WEB-SAF-1, WEB-SAF-4: any JSON value can be said, in at most 400 printable characters."""
    said = words.plain(value)
    assert len(said) <= words.LONGEST
    assert said.isprintable()
    assert all(fact.value.isprintable() for fact in words.facts(value))


@given(st.integers(-(2**62), 2**62), st.integers(0, 2**45))
def test_any_time_can_be_said(at_ms: int, now_ms: int) -> None:
    """WEB-SAF-4: clocks of devices may be far off."""
    said = words.moment(at_ms, now_ms)
    assert said is not None
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", said.iso)


def test_lineage_ends_where_it_meets_itself() -> None:
    """WEB-PAG-10: a loop is shown once around."""
    after = {"a": ["b", "c"], "b": ["a", "c"], "c": []}
    root = lineage.tree("run", "a", lambda _, name: [{"kind": "run", "id": other} for other in after[name]])
    again, leaf = root.branches[0].branches
    assert (again.seen, again.branches, leaf.name) == (True, [], "c")
    assert not leaf.seen  # there is nothing of it to be seen elsewhere


def test_lineage_is_bounded() -> None:
    """WEB-PAG-10: a wide and a deep tree are cut, and say so."""
    wide = lineage.tree("run", "r", lambda _, name: [{"kind": "run", "id": f"{name}.{n}"} for n in range(300)])
    assert len(wide.branches) == lineage.MOST - 1
    assert wide.cut
    node = lineage.tree("run", "r", lambda _, name: [{"kind": "run", "id": name + "x"}])
    depth = 0
    while node.branches:
        node, depth = node.branches[0], depth + 1
    assert depth == lineage.DEEPEST
    assert node.cut


def luminance(colour: str) -> float:
    """Relative luminance of `#rrggbb` (WCAG 2.2)."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", [0, 1])
def test_text_stands_out(scheme: int) -> None:
    """WEB-ACC-2: every pair of text and ground that the sheet uses, light (0) and dark (1)."""
    found = assets.asset("outrider.css")
    assert found is not None
    sheet = re.findall(r":root \{(.*?)\}", found.body.decode(), re.DOTALL)
    colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", sheet[scheme]))
    tones = ("good", "bad", "warn", "busy", "quiet")
    pairs = [(text, ground) for text in ("text", "dim", "link") for ground in ("card", "ground", "soft")]
    pairs += [(tone, f"{tone}-soft") for tone in tones] + [(tone, "card") for tone in tones]
    for text, ground in pairs:
        dark, light = sorted((luminance(colours[text]), luminance(colours[ground])))
        assert (light + 0.05) / (dark + 0.05) >= 4.5, (text, ground)

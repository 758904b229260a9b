"""The limits that a report lists are those that the choice applied."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from outrider_compiler import choose
from outrider_compiler.figures import Figures
from outrider_compiler.release import Release
from outrider_compiler.report import content
from outrider_compiler.report.limits import limits
from outrider_compiler.request import Gate
from outrider_profiles import Profile
from tests.compiler.report.reports import boards, candidates, gates


@settings(max_examples=300)
@given(candidates("classification", ["a"]) | candidates("regression", []), gates, boards)
def test_a_candidate_is_refused_where_a_limit_does_not_hold(figures: list[Figures], gate: Gate, board: Profile) -> None:
    """CMP-RPT-3: whatever was measured, a limit is broken exactly where the choice refused."""
    values = [item.json() for item in figures]
    refusals = choose.all_refusals(figures, gate, board)
    for item in values:
        broken = [limit.limit for limit in limits(item, values, vars(gate), content.board(board)) if not limit.holds]
        assert bool(broken) == bool(refusals[item["name"]]), (broken, refusals[item["name"]])


def test_every_limit_of_the_gate_is_listed(release: Release) -> None:
    """CMP-RPT-3: a chosen int8 candidate was held against the whole gate, and what ships holds every limit."""
    for profile in release.report()["profiles"].values():
        listed = {item["limit"]: item for item in profile["limits"]}
        gate = {"agreement_min", "sqnr_min_db", "primary_drop_max", "balanced_drop_ratio_max", "no_skill"}
        assert gate <= set(listed)
        assert ("latency_ratio_max" in listed) == (profile["chosen"] != "fp32")
        assert all(item["holds"] for item in listed.values())


@given(st.sampled_from(["size_bytes", "memory_bytes", "latency_us"]), st.integers(1, 10**9))
def test_a_budget_is_listed_where_there_is_one(name: str, most: int) -> None:
    """CMP-RPT-3: budgets of the profile stand beside the gate's limits, those that do not exist do not."""
    budgets = {"size_bytes": 0, "memory_bytes": 0, "latency_us": 0, name: most}
    board = {"integers_alone": False, "budgets": budgets}
    found = limits(_ITEM, [_ITEM], vars(Gate()), board)
    assert [limit.limit for limit in found if limit.limit.startswith("budget")] == [f"budget {name}"]


_FIGURE = {"value": 0.9, "low": 0.8, "high": 0.95, "n": 10, "no_skill": 0.5}
_ITEM = {
    "name": "fp32", "precision": "fp32", "agreement": 1.0, "sqnr_db": {}, "primary": "accuracy", "drop": 0.0,
    "drop_upper": 0.0, "balanced_accuracy": None, "skilled": "auc", "metrics": {"auc": _FIGURE}, "slices": [],
    "size_bytes": 5, "memory_bytes": 5, "latency_us": 5.0, "proxy": "", "latency_ratio": 1.0,
}  # fmt: skip

"""The limits that a report lists are those that the choice applied."""

from __future__ import annotations

import re

import pytest
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

# How each refusal of the choice begins or reads, and the limit that it speaks of.
REFUSALS = {
    "integers_alone": r"computes in integers alone",
    "shares_weights": r"computes in float from smaller weights",
    "sqnr_min_db": r"^signal-to-quantization-noise of ",
    "agreement_min": r"^agreement with the source",
    "primary_drop_max": r"^(accuracy|rmse) loses ",
    "balanced_drop_ratio_max": r"^balanced accuracy .* after .* lost$",
    "no_skill": r"is not shown to be above .* which no skill",
    "slice_drop_max": r"^slice .* allowed in any slice$",
    "budget size_bytes": r"^\d+ bytes, the profile's budget",
    "budget memory_bytes": r"^\d+ bytes of memory, the profile's budget",
    "budget latency_us": r"^\d+ µs, the profile's budget|^the profile's budget of \d+ µs cannot be judged",
    "latency_ratio_max": r"^slower than fp32",
    "proxy": r"^only a proxy speaks for it",
}


def limits_missed(refusals: list[str]) -> set[str]:
    """The limits that refusals speak of; each speaks of one."""
    found = [{name for name, form in REFUSALS.items() if re.search(form, text, re.DOTALL)} for text in refusals]
    assert all(len(names) == 1 for names in found), refusals
    return {name for names in found for name in names}


@settings(max_examples=400)
@given(candidates("classification", ["a"]) | candidates("regression", []), gates, boards)
def test_a_limit_is_broken_exactly_where_the_choice_refused(figures: list[Figures], gate: Gate, board: Profile) -> None:
    """CMP-RPT-3: whatever was measured, the limits that do not hold are those that the refusals speak of."""
    values = [item.json() for item in figures]
    refusals = choose.all_refusals(figures, gate, board)
    for item in values:
        listed = limits(item, values, vars(gate), content.board(board))
        assert {limit.limit for limit in listed if not limit.holds} == limits_missed(refusals[item["name"]])


@pytest.mark.parametrize(
    ("n", "drop", "proxy", "size", "broken"),
    [
        (12, 0.15, "", 900, set()),
        (14, 0.15, "", 900, {"slice_drop_max"}),
        (14, 0.02, "", 900, set()),
        (10, 0.0, "another machine", 750, set()),
        (10, 0.0, "another machine", 751, {"proxy"}),
    ],
)
def test_edges(n: int, drop: float, proxy: str, size: int, broken: set[str]) -> None:
    """CMP-RPT-3: a lone sample refuses no slice, and three quarters of fp32's size speak for a proxy."""
    part = {"slice": "site=a", "n": n, "judged": True, "drop": drop, "drop_upper": 1.0}
    base = {**_ITEM, "size_bytes": 1000}
    item = {**base, "name": "int8", "slices": [part], "proxy": proxy, "size_bytes": size, "latency_ratio": 0.5}
    board = {
        "integers_alone": False,
        "shares_weights": False,
        "budgets": {"size_bytes": 0, "memory_bytes": 0, "latency_us": 0},
    }
    assert {limit.limit for limit in limits(item, [base, item], vars(Gate()), board) if not limit.holds} == broken


def test_a_tie_names_the_first_output() -> None:
    """CMP-RPT-7: of equal outputs the first by name, in whatever order they are listed."""
    board = {
        "integers_alone": False,
        "shares_weights": False,
        "budgets": {"size_bytes": 0, "memory_bytes": 0, "latency_us": 0},
    }
    for names in ("ab", "ba"):
        item = {**_ITEM, "sqnr_db": dict.fromkeys(names, 200.0)}
        assert "exact (a)" in [limit.measured for limit in limits(item, [item], vars(Gate()), board)]


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
    board = {"integers_alone": False, "shares_weights": False, "budgets": budgets}
    found = limits(_ITEM, [_ITEM], vars(Gate()), board)
    assert [limit.limit for limit in found if limit.limit.startswith("budget")] == [f"budget {name}"]


_FIGURE = {"value": 0.9, "low": 0.8, "high": 0.95, "n": 10, "no_skill": 0.5}
_ITEM = {
    "name": "fp32", "precision": "fp32", "agreement": 1.0, "sqnr_db": {}, "primary": "accuracy", "drop": 0.0,
    "drop_upper": 0.0, "balanced_accuracy": None, "skilled": "auc", "metrics": {"auc": _FIGURE}, "slices": [],
    "size_bytes": 5, "memory_bytes": 5, "latency_us": 5.0, "proxy": "", "latency_ratio": 1.0,
}  # fmt: skip

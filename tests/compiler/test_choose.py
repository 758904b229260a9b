"""The choice: pure, table-driven, and for any figures never slower, worse or larger for nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider_compiler.choose import choose, refusals_of
from outrider_compiler.figures import Figures, Quality, Timing
from outrider_compiler.request import Gate
from outrider_profiles import Budgets, Int8, Load, Profile, load

METRICS = {
    "accuracy": {"value": 0.8, "low": 0.77, "high": 0.83, "n": 1000, "no_skill": 0.3},
    "balanced_accuracy": {"value": 0.79, "low": 0.76, "high": 0.82, "n": 1000, "no_skill": 0.25},
}
BASE = Figures(
    name="fp32", precision="fp32", size_bytes=100_000, sha256="00", quantized_share=0.0,
    timing=Timing(1.0, 80.0, 50.0, 49.0, 52.0, 1.0),
    quality=Quality("accuracy", "balanced_accuracy", METRICS, 0.0, 0.0, 0.0, 1.0, {"probabilities": 200.0}),
)  # fmt: skip


def changed(item: Figures, **changes: Any) -> Figures:
    """A row with other values, whichever part of it they belong to."""
    timing = {name: changes.pop(name) for name in list(changes) if name in vars(item.timing)}
    quality = {name: changes.pop(name) for name in list(changes) if name in vars(item.quality)}
    if "balanced_accuracy" in changes:
        value = changes.pop("balanced_accuracy")
        quality["metrics"] = {**METRICS, "balanced_accuracy": {**METRICS["balanced_accuracy"], "value": value}}
    parts = {"timing": replace(item.timing, **timing), "quality": replace(item.quality, **quality)}
    return replace(item, **parts, **changes)


INT8 = changed(
    BASE, name="int8_static", precision="int8_static", size_bytes=33_000, latency_us=38.0, latency_ratio=0.76,
    quantized_share=1.0, agreement=0.99, sqnr_db={"probabilities": 30.0, "embedding": 33.0}, drop=0.001,
    drop_upper=0.004,
)  # fmt: skip
GATE, FREE = Gate(), replace(load("x86-64"), budgets=Budgets())


def within(**budgets: int) -> Profile:
    """A profile with budgets."""
    return replace(FREE, budgets=Budgets(**budgets))


def test_a_better_candidate_is_taken_with_its_numbers() -> None:
    """CMP-CHO-1: smaller, faster and as good: chosen, and the reason has the figures."""
    choice = choose([BASE, INT8], GATE, FREE)
    assert choice is not None
    assert choice.chosen == "int8_static"
    assert "0.33 times the size and 0.76 times the latency" in choice.reason


def test_where_two_cost_the_same_the_closer_one_is_taken() -> None:
    """CMP-CHO-9: a saving that timings do not tell apart never buys noise; a real one does."""
    both = {"latency_p10_us": 37.0, "latency_p90_us": 40.0}
    first = changed(INT8, **both)
    better = {"sqnr_db": {"probabilities": 43.0, "embedding": 44.0}}
    closer = changed(first, name="int8_dynamic", latency_ratio=0.79, **better)
    choice = choose([BASE, first, closer], GATE, FREE)
    assert choice is not None
    assert choice.chosen == "int8_dynamic"
    assert set(choice.front) == {"fp32", "int8_static", "int8_dynamic"}
    for slower in ({"latency_ratio": 0.81}, {"latency_p10_us": 40.1, "latency_p90_us": 41.0}):
        choice = choose([BASE, first, changed(closer, **slower)], GATE, FREE)
        assert choice is not None
        assert choice.chosen == "int8_static"


SLICE = {"slice": "site=b", "n": 100, "judged": True, "drop": 0.03, "source": 0.8, "value": 0.77}
UNSKILLED = {"value": 0.26, "low": 0.24, "high": 0.28, "n": 1000, "no_skill": 0.25}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"sqnr_db": {"probabilities": 30.0, "embedding": 19.9}}, "embedding 19.9 dB, at least 20 dB"),
        ({"agreement": 0.979}, "agreement with the source model 0.979, at least 0.98"),
        ({"drop": 0.006, "drop_upper": 0.011}, "accuracy loses 0.60 points (95 % upper bound 1.10), at most 0.5"),
        ({"slices": (SLICE,)}, "slice site=b (n 100): accuracy loses 3.00 points, at most 2 are allowed in any slice"),
        ({"balanced_accuracy": 0.75}, "balanced accuracy 0.7500 after 0.7900"),
        ({"latency_ratio": 1.2, "latency_us": 60.0}, "slower than fp32: 1.20 times its latency (60.0 µs, fp32 50.0 µs"),
        ({"proxy": "measured on x86_64", "size_bytes": 80_000}, "only a proxy speaks for it"),
    ],
)
def test_each_limit_refuses_alone(change: dict[str, object], said: str) -> None:
    """CMP-GAT-3: missing one limit is enough, and the refusal says which, with both numbers."""
    worse = changed(INT8, **change)
    found = refusals_of(worse, BASE, GATE, FREE)
    assert len(found) == 1
    assert said in found[0]
    choice = choose([BASE, worse], GATE, FREE)
    assert choice is not None
    assert choice.chosen == "fp32"
    assert said in choice.reason


def test_budgets_bind_fp32_too() -> None:
    """CMP-GAT-4: nothing within the budget is no choice at all."""
    assert choose([BASE], GATE, within(size_bytes=50_000)) is None
    choice = choose([BASE, INT8], GATE, within(size_bytes=50_000))
    assert choice is not None
    assert choice.chosen == "int8_static"


def test_a_proxy_with_a_smaller_file_may_be_chosen() -> None:
    """CMP-CHO-2: a proxy never decides alone: a measured saving in size must stand beside it."""
    choice = choose([BASE, changed(INT8, proxy="measured on x86_64")], GATE, FREE)
    assert choice is not None
    assert choice.chosen == "int8_static"
    assert "latency is a proxy" in choice.reason


figures = st.builds(
    changed,
    st.just(INT8),
    name=st.sampled_from(["a", "b", "c", "d"]),
    size_bytes=st.integers(1, 200_000),
    latency_ratio=st.floats(0.1, 3),
    agreement=st.floats(0.9, 1),
    drop=st.floats(-0.02, 0.02),
    sqnr_db=st.fixed_dictionaries({"probabilities": st.floats(0, 60)}),
    proxy=st.sampled_from(["", "measured elsewhere"]),
)


@given(st.lists(figures, max_size=4, unique_by=lambda item: item.name))
def test_never_slower_worse_or_unexplained(others: list[Figures]) -> None:
    """CMP-CHO-4: whatever was measured, the choice passes the gate, lies on the front and has a reason."""
    choice = choose([BASE, *others], GATE, FREE)
    assert choice is not None
    chosen = next(item for item in [BASE, *others] if item.name == choice.chosen)
    assert chosen.timing.latency_ratio <= 1.0
    assert chosen.quality.drop <= 0.005 + 1e-6
    assert chosen.size_bytes * chosen.timing.latency_ratio <= BASE.size_bytes
    assert choice.chosen in choice.front
    assert not choice.refusals[choice.chosen]
    assert choice.reason


def test_a_single_sample_never_condemns_a_slice() -> None:
    """CMP-SLI-2: one sample more lost in a small slice is no evidence; two are."""
    one = {**SLICE, "n": 30, "drop": 1 / 30}
    assert not refusals_of(changed(INT8, slices=(one,)), BASE, GATE, FREE)
    assert refusals_of(changed(INT8, slices=({**one, "drop": 2 / 30},)), BASE, GATE, FREE)


def test_a_model_without_skill_is_no_release() -> None:
    """CMP-GAT-5: balanced accuracy that is not shown to beat no skill refuses fp32 too, however high accuracy is."""
    high = {**METRICS["accuracy"], "value": 0.97, "no_skill": 0.96}
    blind = changed(BASE, metrics={"accuracy": high, "balanced_accuracy": UNSKILLED})
    assert choose([blind], GATE, FREE) is None


def test_a_latency_budget_is_not_met_by_a_proxy() -> None:
    """CMP-CHO-5: what only the board can judge fails here, and says what to do; `for_bench` builds are let through."""
    proxy = changed(INT8, proxy="measured on x86_64, the profile is aarch64")
    said = refusals_of(proxy, BASE, GATE, within(latency_us=40))
    assert len(said) == 1
    assert "cannot be judged here" in said[0]
    assert "outrider-compiler bench" in said[0]
    assert not refusals_of(proxy, BASE, replace(GATE, unmeasured_latency=True), within(latency_us=40))
    assert not refusals_of(INT8, BASE, GATE, within(latency_us=40))
    assert refusals_of(INT8, BASE, GATE, within(latency_us=30)) == ["38 µs, the profile's budget is 30 µs"]


def test_memory_has_a_budget() -> None:
    """CMP-GAT-4: resident memory beyond the profile's budget is refused with both numbers."""
    said = refusals_of(changed(INT8, memory_bytes=9000), BASE, GATE, within(memory_bytes=8000))
    assert said == ["9000 bytes of memory, the profile's budget is 8000"]


def test_a_board_of_integers_runs_no_float() -> None:
    """CMP-CHO-6: there fp32 is only what the others are compared with; slower than it says nothing."""
    board = replace(FREE, int8=Int8("s8", "s8", full=True))
    assert choose([BASE], GATE, board) is None
    choice = choose([BASE, changed(INT8, latency_ratio=2.0)], GATE, board)
    assert choice is not None
    assert choice.chosen == "int8_static"
    assert "computes in integers alone" in choice.refusals["fp32"][0]


def test_smaller_weights_are_no_gain_where_they_are_shared() -> None:
    """CMP-CHO-8: a form that computes in float from smaller weights is refused where workers map them."""
    stored = changed(INT8, name="int8_weight", quantized_share=0.0, latency_ratio=1.0)
    assert "in the memory of each worker" in refusals_of(stored, BASE, GATE, FREE)[0]
    copied = replace(FREE, load=Load("default"))
    choice = choose([BASE, stored], GATE, copied)
    assert choice is not None
    assert choice.chosen == "int8_weight"

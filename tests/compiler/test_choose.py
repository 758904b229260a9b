"""The choice: pure, table-driven, and for any figures never slower, worse or larger for nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider_compiler.choose import choose, refusals_of
from outrider_compiler.measure import Figures
from outrider_compiler.request import Gate
from outrider_profiles import Budgets

BASE = Figures(
    name="fp32", precision="fp32", size_bytes=100_000, load_ms=1.0, latency_us=50.0, latency_p10_us=49.0,
    latency_p90_us=52.0, latency_ratio=1.0, accuracy=0.8, balanced_accuracy=0.79, agreement=1.0,
    sqnr_db={"probabilities": 200.0}, quantized_share=0.0, n=1000,
)  # fmt: skip
INT8 = replace(
    BASE, name="int8_static", precision="int8_static", size_bytes=33_000, latency_us=38.0, latency_ratio=0.76,
    agreement=0.99, sqnr_db={"probabilities": 30.0, "embedding": 33.0}, accuracy=0.799,
)  # fmt: skip
GATE, FREE = Gate(), Budgets()


def test_a_better_candidate_is_taken_with_its_numbers() -> None:
    """CMP-CHO-1: smaller, faster and as good: chosen, and the reason has the figures."""
    choice = choose([BASE, INT8], GATE, FREE)
    assert choice is not None
    assert choice.chosen == "int8_static"
    assert "0.33 times the size and 0.76 times the latency" in choice.reason


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"sqnr_db": {"probabilities": 30.0, "embedding": 19.9}}, "embedding 19.9 dB, at least 20 dB"),
        ({"agreement": 0.979}, "agreement with the source model 0.979, at least 0.98"),
        ({"accuracy": 0.794}, "accuracy falls by 0.60 points, at most 0.5"),
        ({"balanced_accuracy": 0.75}, "balanced accuracy 0.7500 after 0.7900"),
        ({"latency_ratio": 1.2, "latency_us": 60.0}, "slower than fp32: 1.20 times its latency (60.0 µs, fp32 50.0 µs"),
        ({"proxy": "measured on x86_64", "size_bytes": 80_000}, "only a proxy speaks for it"),
    ],
)
def test_each_limit_refuses_alone(change: dict[str, object], said: str) -> None:
    """CMP-GAT-3: missing one limit is enough, and the refusal says which, with both numbers."""
    worse = replace(INT8, **change)  # type: ignore[arg-type]  # one field of the row
    found = refusals_of(worse, BASE, GATE, FREE)
    assert len(found) == 1
    assert said in found[0]
    choice = choose([BASE, worse], GATE, FREE)
    assert choice is not None
    assert choice.chosen == "fp32"
    assert said in choice.reason


def test_budgets_bind_fp32_too() -> None:
    """CMP-GAT-4: nothing within the budget is no choice at all."""
    assert choose([BASE], GATE, Budgets(size_bytes=50_000)) is None
    choice = choose([BASE, INT8], GATE, Budgets(size_bytes=50_000))
    assert choice is not None
    assert choice.chosen == "int8_static"


def test_a_proxy_with_a_smaller_file_may_be_chosen() -> None:
    """CMP-CHO-2: a proxy never decides alone: a measured saving in size must stand beside it."""
    choice = choose([BASE, replace(INT8, proxy="measured on x86_64")], GATE, FREE)
    assert choice is not None
    assert choice.chosen == "int8_static"
    assert "latency is a proxy" in choice.reason


figures = st.builds(
    replace,
    st.just(INT8),
    name=st.sampled_from(["a", "b", "c", "d"]),
    size_bytes=st.integers(1, 200_000),
    latency_ratio=st.floats(0.1, 3),
    agreement=st.floats(0.9, 1),
    accuracy=st.floats(0.7, 0.9),
    sqnr_db=st.fixed_dictionaries({"probabilities": st.floats(0, 60)}),
    proxy=st.sampled_from(["", "measured elsewhere"]),
)


@given(st.lists(figures, max_size=4, unique_by=lambda item: item.name))
def test_never_slower_worse_or_unexplained(others: list[Figures]) -> None:
    """CMP-CHO-4: whatever was measured, the choice passes the gate, lies on the front and has a reason."""
    choice = choose([BASE, *others], GATE, FREE)
    assert choice is not None
    chosen = next(item for item in [BASE, *others] if item.name == choice.chosen)
    assert chosen.latency_ratio <= 1.0
    assert BASE.accuracy - chosen.accuracy <= 0.005 + 1e-6
    assert chosen.size_bytes * chosen.latency_ratio <= BASE.size_bytes
    assert choice.chosen in choice.front
    assert not choice.refusals[choice.chosen]
    assert choice.reason

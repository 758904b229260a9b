"""What the deciding output means, for every task."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider_protocol.decision import TASKS, Decision
from outrider_protocol.errors import MalformedError, UnsupportedError
from outrider_protocol.fields import Fields
from outrider_protocol.manifest import Config, Provider
from tests.protocol import samples

numbers = st.floats(-1e6, 1e6, width=32)


@given(st.sampled_from(TASKS), numbers, st.floats(1e-3, 1e3), st.lists(numbers, min_size=1, max_size=20))
def test_probabilities_are_probabilities(task: str, threshold: float, scale: float, values: list[float]) -> None:
    """PRO-DEC-1: for any output, rows lie in 0..1 and sum to 1, and an anomaly's class is the verdict."""
    decision = Decision(task, threshold, scale)
    output = np.array(values, np.float32)[:, None]
    if task == "classification":
        output = np.repeat([[0.25, 0.75]], len(values), axis=0)
    rows, verdicts = decision.probabilities(output), decision.verdicts(output)
    assert rows.shape == (len(values), {"classification": 2, "regression": 1, "anomaly": 2}[task])
    assert ((rows >= 0) & (rows <= 1)).all()
    assert rows.sum(axis=1) == pytest.approx(1.0)
    if task != "regression":
        near = np.abs(output[:, 0] - threshold) < 1e-3 * scale
        assert ((rows.argmax(axis=1) == verdicts) | near).all()


@given(numbers, st.floats(0.01, 10))
def test_equal_values_never_differ(value: float, scale: float) -> None:
    """PRO-DEC-2: verdicts of a regression are steps of the scale: equal values agree, those a step apart do not."""
    decision = Decision("regression", scale=scale)
    same, far = decision.verdicts(np.array([value, value])), decision.verdicts(np.array([value, value + 1.5 * scale]))
    assert same[0] == same[1]
    assert far[0] != far[1]
    assert decision.verdicts(np.array([np.nan, np.inf, -np.inf])).dtype == np.int64


@pytest.mark.parametrize(
    "harm", [{"task": "guess"}, {"scale": 0.0}, {"scale": -1.0}, {"threshold": "high"}, {"scale": None}]
)
def test_damaged_decisions_are_refused(harm: dict[str, object]) -> None:
    """PRO-DEC-3: an unknown task, a scale that is not positive and what is no number are refused."""
    value = {**Decision("anomaly", 0.5, 2.0).json(), **harm}
    with pytest.raises(MalformedError):
        Decision.read(Fields(value, "decision"))


def test_who_does_not_know_the_task_refuses_the_artifact() -> None:
    """PRO-DEC-4: the field is critical where there are no classes: values are never taken for probabilities."""
    config = replace(
        samples.CONFIG, decision=Decision("regression", scale=0.2), providers=(Provider("QNN", {"a": "1"}),)
    )
    assert Config.decode(config.encode()) == config
    value = json.loads(config.encode())
    assert value["crit"] == ["decision"]
    with pytest.raises(UnsupportedError, match="the critical field 'decision'"):
        Fields(value, "config").versioned(frozenset(Config.__dataclass_fields__) - {"decision"} | {"v"})
    assert "crit" not in json.loads(samples.CONFIG.encode())
    plain = {name: item for name, item in json.loads(samples.CONFIG.encode()).items() if name != "providers"}
    assert Config.decode(json.dumps(plain).encode()) == samples.CONFIG

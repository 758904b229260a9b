"""Phases of drift and the state that outlives a worker: docs/spec/drift.md."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outrider_agent.drift.detector import Rule
from outrider_agent.drift.monitor import Monitor
from outrider_agent.drift.reference import ClassGaussian, Reference, Windows
from outrider_agent.drift.state import DriftState, StateFiles
from outrider_agent.durable import Durable
from outrider_protocol.errors import ProtocolError

DIGEST, OTHER = "sha256:" + "a" * 64, "sha256:" + "b" * 64
GAUSSIAN = ClassGaussian(np.zeros((2, 4)), np.eye(4))
REFERENCE = Reference(("confidence", "channels"), (GAUSSIAN,), 0.7)
RULE = Rule(arl_windows=500, baseline_windows=50)


def windows(n: int, seed: int = 0, shift: float = 0.0) -> Windows:
    rng = np.random.default_rng(seed)
    sure = rng.uniform(0.6, 0.99, n)
    first = rng.random(n) < 0.5
    probabilities = np.where(first[:, None], np.column_stack([sure, 1 - sure]), np.column_stack([1 - sure, sure]))
    return Windows(rng.normal(size=(n, 10, 2)) + shift, probabilities, None)


def monitor(phase: str = "baseline") -> Monitor:
    return Monitor(REFERENCE, RULE, DriftState("har", DIGEST, phase))


def test_the_baseline_is_never_judged() -> None:
    """AGT-DRF-8: however strange its windows are, the first ones only teach."""
    watching = monitor()
    assert watching.observe(windows(49, shift=9.0)).report is None
    assert watching.phase == "baseline"
    watching.observe(windows(1))
    assert watching.phase == "watching"
    assert len(watching.state.klass) == 50


def test_one_alarm_is_one_report() -> None:
    """AGT-DRF-10, AGT-DRF-16: it says where, how long the baseline was, what moved, and an estimate."""
    watching = monitor()
    watching.observe(windows(150))
    assert watching.phase == "watching"
    report = watching.observe(windows(60, 1, shift=1.5)).report
    assert report is not None
    assert (report.phase, report.baseline_n, report.top[0]) == ("alarm", 50, "channels")
    assert 150 <= report.window_index < 210
    assert report.estimated_accuracy is not None
    assert 0.0 <= report.estimated_accuracy <= 1.0
    assert watching.observe(windows(60, 2, shift=1.5)).report is None
    assert watching.phase == "alarm"


def test_clearing() -> None:
    """AGT-DRF-9: an alarm that is cleared begins a new baseline; `rebaselining` becomes what it is."""
    watching = monitor()
    watching.observe(windows(50))
    assert not watching.cleared()
    watching.observe(windows(100, 1, shift=2.0))
    assert watching.cleared()
    assert (watching.phase, watching.state.windows) == ("baseline", 0)
    watching.observe(windows(50, 1, shift=2.0))
    assert watching.observe(windows(100, 2, shift=2.0)).report is None
    assert watching.phase == "watching"
    for n, phase in ((20, "baseline"), (60, "watching")):
        after_release = monitor("rebaselining")
        after_release.observe(windows(n))
        assert after_release.phase == "rebaselining"
        assert after_release.cleared()
        assert after_release.phase == phase


def test_rebaselining_can_alarm() -> None:
    """AGT-DRF-9: waiting for its check, a device still notices."""
    after_release = monitor("rebaselining")
    after_release.observe(windows(60))
    assert after_release.observe(windows(80, 1, shift=2.0)).report is not None
    assert after_release.phase == "alarm"


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, 70), min_size=1, max_size=4), st.integers(0, 3))
def test_a_restart_changes_nothing(tmp_path_factory: pytest.TempPathFactory, sizes: list[int], at: int) -> None:
    """AGT-DRF-11, AGT-DRF-7: written down and read again anywhere, the monitor goes on as if never stopped."""
    files = StateFiles(tmp_path_factory.mktemp("d") / "drift", Durable())
    straight, restarted = monitor(), monitor()
    for turn, size in enumerate(sizes):
        batch = windows(size, turn, shift=1.0 * (turn > 1))
        straight.observe(batch)
        restarted.observe(batch)
        if turn == at:
            files.save(restarted.kept())
            restarted = Monitor(REFERENCE, RULE, files.restore("har", DIGEST).state)
    assert restarted.phase == straight.phase
    assert restarted.kept() == straight.kept()


def test_a_damaged_file_is_set_aside(tmp_path: Path) -> None:
    """AGT-DRF-12: every byte is covered; the file stays beside, the phase says `rebaselining`."""
    files = StateFiles(tmp_path, Durable())
    watching = monitor()
    watching.observe(windows(60))
    files.save(watching.kept())
    (path,) = tmp_path.iterdir()
    good = path.read_bytes()
    for place in range(0, len(good), 97):
        harmed = good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :]
        with pytest.raises(ProtocolError):
            DriftState.decode(harmed)
    path.write_bytes(good[:-5])
    restored = files.restore("har", DIGEST)
    assert restored.damaged
    assert (restored.state.phase, restored.state.windows) == ("rebaselining", 0)
    assert [p.suffix for p in tmp_path.iterdir()] == [".corrupt"]


def test_a_former_release_is_remembered(tmp_path: Path) -> None:
    """AGT-DRF-9: another artifact's file of the same model means `rebaselining`; of another model it means nothing."""
    files = StateFiles(tmp_path / "drift", Durable())
    assert files.restore("har", DIGEST).state.phase == "baseline"
    files.save(DriftState("other", OTHER, "watching"))
    assert files.restore("har", DIGEST).state.phase == "baseline"
    files.save(DriftState("har", OTHER, "watching"))
    assert files.restore("har", DIGEST).state.phase == "rebaselining"

"""Figures: quality, latency, and whether a machine may speak for a profile."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider_compiler import latency, quality
from outrider_compiler.host import Host, proxy_reason, this_host
from outrider_compiler.metrics import Classification
from outrider_compiler.metrics.figure import wilson
from outrider_profiles import load


@given(st.floats(0.1, 80))
def test_sqnr_is_the_ratio_of_powers(decibels: float) -> None:
    """CMP-FIG-1: noise that is d dB below the signal measures d dB."""
    signal = np.sin(np.arange(1000))
    noise = np.cos(np.arange(1000) * 3.0)
    noise *= np.sqrt((signal**2).sum() / (noise**2).sum()) * 10 ** (-decibels / 20)
    assert quality.sqnr_db(signal, signal + noise) == pytest.approx(decibels, abs=1e-6)


def test_sqnr_at_its_ends() -> None:
    """CMP-FIG-1: equal is the largest figure, not a number the smallest; both are finite."""
    assert quality.sqnr_db(np.ones(3), np.ones(3)) == quality.DB_MAX
    assert quality.sqnr_db(np.ones(3), np.array([1, np.nan, 1])) == -quality.DB_MAX


def test_balanced_accuracy_ignores_the_majority() -> None:
    """CMP-FIG-2: always saying the commonest class is accurate and not balanced."""
    y = np.array([0] * 9 + [1])
    always = np.tile([[0.9, 0.1]], (10, 1))
    found = Classification(("a", "b")).figures(always, y)
    assert found["accuracy"].value == found["accuracy"].no_skill == 0.9
    assert found["balanced_accuracy"].value == found["balanced_accuracy"].no_skill == 0.5


def test_intervals_hold_the_share() -> None:
    """CMP-FIG-2: a 95 % interval lies around the share, within 0..1."""
    for share in (0.0, 0.5, 1.0):
        low, high = wilson(share, 50)
        assert 0 <= low <= share <= high <= 1


class Machine:
    """A clock that runs add to: twice as slow in every second round."""

    def __init__(self) -> None:
        self.now, self.calls = 0.0, 0

    def run(self, seconds: float) -> latency.Run:
        """A run that takes its time."""

        def once() -> None:
            self.calls += 1
            self.now += seconds * (1 + (self.calls // 400) % 2)

        return once


def test_interleaving_cancels_a_slow_machine() -> None:
    """CMP-LAT-1: a machine whose speed changes leaves the ratio alone."""
    machine = Machine()
    runs = {"fp32": machine.run(100e-6), "fast": machine.run(50e-6), "slow": machine.run(150e-6)}
    timed = latency.interleaved(runs, "fp32", clock=lambda: machine.now)
    assert timed["fp32"].ratio == 1.0
    assert timed["fast"].ratio == pytest.approx(0.5, rel=0.1)
    assert timed["slow"].ratio == pytest.approx(1.5, rel=0.1)
    assert timed["fast"].p10_us <= timed["fast"].median_us <= timed["fast"].p90_us


def test_a_slow_model_is_not_timed_for_ever() -> None:
    """CMP-LAT-2: seconds a run, and the measurement still ends within its rounds."""
    machine = Machine()
    timed = latency.interleaved({"fp32": machine.run(2.0)}, "fp32", clock=lambda: machine.now)
    assert timed["fp32"].rounds == latency.ROUNDS_MIN


VNNI = frozenset({"avx2", "avx512_vnni"})
ENGINES = {"onnxruntime": "1.32.0", "litert": "2.3.0"}


def machine(architecture: str, features: frozenset[str]) -> Host:
    """A machine with both engines."""
    return Host(architecture, features, ENGINES)


@pytest.mark.parametrize(
    ("profile", "host", "precision", "said"),
    [
        ("x86-64-vnni", machine("x86_64", VNNI), "int8_static", ""),
        ("x86-64-vnni", machine("x86_64", frozenset({"avx2"})), "fp32", "without avx512_vnni or avx_vnni"),
        ("x86-64", machine("x86_64", VNNI), "fp32", ""),
        ("x86-64", machine("x86_64", VNNI), "int8_static", "measured with avx512_vnni"),
        ("x86-64", machine("x86_64", frozenset({"avx2"})), "int8_static", ""),
        ("raspberry-pi-5", machine("x86_64", VNNI), "fp32", "measured on x86_64, the profile is aarch64"),
        ("raspberry-pi-5", machine("aarch64", frozenset({"asimddp"})), "int8_static", ""),
        ("x86-64", Host("x86_64", VNNI), "fp32", "without onnxruntime, which the board runs"),
        ("x86-64", Host("x86_64", VNNI, {"onnxruntime": "1.20.1"}), "fp32", "with onnxruntime 1.20.1, the board runs"),
        (
            "jetson-orin-nano",
            Host("aarch64", frozenset({"asimddp"}), {"onnxruntime": "1.23.2"}),
            "fp32",
            "without TensorrtExecutionProvider, which the board tries first",
        ),
    ],
)
def test_a_proxy_is_called_one(profile: str, host: Host, precision: str, said: str) -> None:
    """CMP-LAT-3: another architecture, engine or provider, a missing promised feature, or an unpromised helping one."""
    reason = proxy_reason(host, load(profile), precision)
    assert said in reason
    assert bool(reason) == bool(said)


def test_this_machine_is_known(tmp_path: Path) -> None:
    """CMP-LAT-3: features are read from cpuinfo; a machine without one has none."""
    (tmp_path / "cpuinfo").write_text("processor: 0\nFeatures\t: fp asimddp\n", encoding="utf-8")
    assert this_host(tmp_path / "cpuinfo").features == {"fp", "asimddp"}
    assert this_host(tmp_path / "none").features == frozenset()

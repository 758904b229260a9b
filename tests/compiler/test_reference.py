"""Reference statistics and golden vectors of a real release, and the device's own arithmetic over them."""

from __future__ import annotations

import numpy as np
import pytest

from outrider_agent.drift import scores as on_device
from outrider_compiler import data, reference
from outrider_compiler.candidate import Candidate
from outrider_compiler.engines import load
from outrider_compiler.release import Release
from outrider_profiles import load as load_profile
from outrider_protocol import limits, tensors
from outrider_protocol.manifest import Manifest, Role
from outrider_protocol.statistics import ReferenceStatistics
from tests.compiler.conftest import CHANNELS, CLASSES, EMBEDDING, Kit


def layer(release: Release, profile: str, role: Role) -> bytes:
    """A device file of an artifact."""
    layers = Manifest.decode(release.manifest_bytes(profile)).device_layers()
    return release.blob(next(item for item in layers if item.role is role).digest)


@pytest.fixture(params=["x86-64", "x86-64-vnni"])
def profile(request: pytest.FixtureRequest) -> str:
    """Each artifact of the release."""
    return str(request.param)


@pytest.fixture
def statistics(release: Release, profile: str) -> ReferenceStatistics:
    """The statistics layer of an artifact."""
    return ReferenceStatistics.decode(layer(release, profile, Role.STATISTICS))


@pytest.fixture
def answers(release: Release, profile: str, kit: Kit) -> dict[str, np.ndarray]:
    """What the shipped model says to the calibration set, with the set itself as `x`."""
    shipped = Candidate("shipped", "", "onnxruntime", layer(release, profile, Role.MODEL))
    x = data.load(kit.calibration).feeds["x"]
    return {"x": x, **load(shipped, load_profile(profile).load).run({"x": x})}


def test_statistics_are_those_of_the_shipped_model(
    statistics: ReferenceStatistics, answers: dict[str, np.ndarray]
) -> None:
    """CMP-STA-1: counts, means and precisions are of the quantized model's own answers, as the device computes them."""
    klass = answers["probabilities"].argmax(1)
    assert statistics.class_counts == tuple(np.bincount(klass, minlength=CLASSES))
    for name, values in (("embedding", answers["embedding"]), ("channels", on_device.channel_statistics(answers["x"]))):
        means, precision = on_device.class_statistics(values, klass, CLASSES)
        gaussian = getattr(statistics, name)
        np.testing.assert_allclose(np.array(gaussian.class_means), means, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(
            np.array(gaussian.precision), precision, rtol=1e-3, atol=1e-4 * np.abs(precision).max()
        )


def test_bins_are_quantiles(statistics: ReferenceStatistics, answers: dict[str, np.ndarray]) -> None:
    """CMP-STA-2: 32 bins of about equal counts for every channel statistic and score, by the device's own rule."""
    named = {item.name: item for item in statistics.bins}
    channels = {f"channel.{c}.{what}" for c in range(CHANNELS) for what in ("mean", "std")}
    assert set(named) == channels | {"score.confidence", "score.embedding", "score.channels"}
    assert {len(item.counts) for item in statistics.bins} == {reference.BINS}
    assert {sum(item.counts) for item in statistics.bins} == {statistics.n}
    values = on_device.channel_statistics(answers["x"])[:, 0]
    counted = np.bincount(
        np.searchsorted(named["channel.0.mean"].edges, values, side="right"), minlength=reference.BINS
    )
    assert tuple(counted) == named["channel.0.mean"].counts
    assert max(counted) <= 2 * len(values) / reference.BINS


def test_scores_are_sorted_quantiles(statistics: ReferenceStatistics, release: Release, profile: str) -> None:
    """CMP-STA-3: quantiles by predicted class, and the accuracy that the gate measured for this artifact."""
    for by_class in statistics.scores.values():
        assert all(list(row) == sorted(row) and len(row) in (0, reference.QUANTILES) for row in by_class)
    report = release.report()["profiles"][profile]
    assert statistics.accuracy == next(c["accuracy"] for c in report["candidates"] if c["verdict"] == "chosen")


def test_golden_vectors_hold_on_the_shipped_model(release: Release, profile: str) -> None:
    """CMP-STA-4: golden inputs give the golden outputs within the stated tolerances, all outputs named."""
    named, meta = tensors.decode(layer(release, profile, Role.GOLDEN), limits.GOLDEN_BYTES)
    assert set(named) == {"input:x", "output:probabilities", "output:embedding"}
    arrays = {key: np.frombuffer(t.data, f"<{t.dtype}").reshape(t.shape) for key, t in named.items()}
    shipped = Candidate("shipped", "", "onnxruntime", layer(release, profile, Role.MODEL))
    got = load(shipped, load_profile(profile).load).run({"x": arrays["input:x"]})
    for name, value in got.items():
        np.testing.assert_allclose(value, arrays[f"output:{name}"], rtol=meta["rtol"], atol=meta["atol"])
    assert arrays["output:embedding"].shape == (reference.GOLDEN_ROWS, EMBEDDING)


def test_constant_channels_are_named() -> None:
    """CMP-STA-5: a channel that never changes is found, so that the report can warn."""
    x = np.random.default_rng(0).normal(size=(5, 7, 3))
    x[:, :, 1] = 4.0
    assert reference.constant_channels(x) == [1]


def test_a_class_never_predicted_has_no_mean() -> None:
    """CMP-STA-6: without a sample there is no mean and no quantile, and the rest is finite."""
    rng = np.random.default_rng(0)
    probabilities = np.tile([[0.7, 0.2, 0.1]], (40, 1))
    made = reference.statistics(
        reference.Answered(rng.normal(size=(40, 9, 2)), probabilities, None), ("a", "b", "c"), 0.5
    )
    assert made.embedding is None
    assert made.channels is not None
    assert [len(mean) for mean in made.channels.class_means] == [4, 0, 0]
    assert ReferenceStatistics.decode(made.encode()) == made


def test_a_value_on_an_edge_belongs_above_it() -> None:
    """CMP-STA-2: edge i is the first value of bin i + 1, as on the device: a constant fills the last bin."""
    made = reference.statistics(
        reference.Answered(np.full((8, 5, 1), 2.0), np.tile([[0.75, 0.25]], (8, 1)), None), ("a", "b"), 1.0
    )
    mean = next(item for item in made.bins if item.name == "channel.0.mean")
    assert mean.counts == (0,) * (reference.BINS - 1) + (8,)

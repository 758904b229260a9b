"""Scores: docs/spec/drift.md."""

from __future__ import annotations

import numpy as np

from outrider_agent.drift.reference import STRANGEST, ClassGaussian, Reference, Windows, atc_threshold
from outrider_agent.drift.scores import channel_statistics, class_statistics, energy, mahalanobis, unconfidence
from outrider_protocol.statistics import Gaussian, ReferenceStatistics


def test_channel_statistics_are_over_every_middle_axis() -> None:
    """AGT-DRF-1: means, then standard deviations, by the last axis."""
    x = np.random.default_rng(0).normal(size=(5, 3, 4, 2))
    got = channel_statistics(x)
    np.testing.assert_allclose(got, np.concatenate([x.mean((1, 2)), x.std((1, 2))], 1))
    assert channel_statistics(np.zeros((3, 2))).tolist() == [[0.0] * 4] * 3


def test_scores_grow_with_strangeness() -> None:
    """AGT-DRF-1: farther, less confident and flatter are stranger."""
    rng = np.random.default_rng(1)
    values, klass = rng.normal(size=(200, 3)), rng.integers(0, 2, 200)
    means, precision = class_statistics(values, klass, 3)
    assert precision.shape == (3, 3)
    np.testing.assert_allclose(means[2], values.mean(0))
    far = np.array([[0.0, 0, 0], [1, 1, 1], [5, 5, 5]])
    distances = mahalanobis(far, np.zeros(3, np.int64), means, precision)
    assert (np.diff(distances) > 0).all()
    assert np.diff(unconfidence(np.array([[0.9, 0.1], [0.6, 0.4]])))[0] > 0
    assert np.diff(energy(np.array([[9.0, 0.0], [1.0, 0.0]])))[0] > 0


def test_a_constant_channel_has_a_precision() -> None:
    """AGT-DRF-1: the ridge keeps it finite."""
    _, precision = class_statistics(np.column_stack([np.arange(10.0), np.ones(10)]), np.zeros(10, np.int64), 1)
    assert np.isfinite(precision).all()
    assert np.isfinite(class_statistics(np.ones((1, 2)), np.zeros(1, np.int64), 1)[1]).all()


def statistics(**changed: object) -> ReferenceStatistics:
    gaussian = Gaussian(((1.0, 0.0), (3.0, 0.0), ()), ((1.0, 0.0), (0.0, 1.0)))
    quantiles = tuple(np.linspace(0.0, 1.0, 101))
    plain = ReferenceStatistics(
        ("a", "b", "c"), 4, (3, 1, 0), (), None, gaussian, {"confidence": (quantiles, quantiles, ())}, 0.8
    )
    return ReferenceStatistics(**{**vars(plain), **changed})  # type: ignore[arg-type]


def test_an_unseen_class_is_compared_with_all_samples() -> None:
    """AGT-DRF-1: its mean is the mean over all calibration samples."""
    channels = statistics().channels
    assert channels is not None
    assert ClassGaussian.of(channels, (3, 1, 0)).means[2].tolist() == [1.5, 0.0]


def test_not_a_number_is_the_strangest() -> None:
    """AGT-DRF-1: a model that answers NaN cannot look normal."""
    reference = Reference.of(statistics(), has_embedding=False)
    assert reference.names == ("confidence", "channels")
    got = reference.scores(Windows(np.full((1, 2, 1), np.nan), np.full((1, 3), np.nan), None))
    assert got.tolist() == [[STRANGEST, STRANGEST]]


def test_the_estimate_of_accuracy() -> None:
    """AGT-DRF-16: ATC's threshold reproduces the reference accuracy; without one it is the mean confidence."""
    threshold = atc_threshold(statistics())
    assert threshold is not None
    assert abs(threshold - 0.2) < 0.02
    reference = Reference.of(statistics(), has_embedding=False)
    assert reference.estimated_accuracy(np.array([0.1, 0.9, 0.9, 0.05])) == 0.5
    plain = Reference.of(statistics(accuracy=None), has_embedding=False)
    assert plain.estimated_accuracy(np.array([0.2, 0.4])) == 0.3
    assert plain.estimated_accuracy(np.array([np.nan])) is None

"""Scores: docs/spec/drift.md."""

from __future__ import annotations

import numpy as np

from outrider_agent.drift.centres import NOT_A_NUMBER, PRIOR_WINDOWS, others_centres, own_centres
from outrider_agent.drift.detector import Baseline, uniform_at
from outrider_agent.drift.reference import ClassGaussian, Reference, Windows, atc_threshold
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
    windows = Windows(np.full((1, 2, 1), np.nan), np.full((1, 3), np.nan), None)
    got = reference.fleet_scores(reference.features(windows), windows.klass)
    assert np.isfinite(got).all()
    assert (got >= NOT_A_NUMBER).all()


def test_own_centres_are_the_baselines_own() -> None:
    """AGT-DRF-17: the reference mean counts as ten windows, and alone where there is none; NaN moves nothing."""
    rng = np.random.default_rng(4)
    values, klass, means = rng.normal(size=(30, 3)) + 5, np.repeat([0, 1], 15), np.zeros((3, 3))
    values[3] = NOT_A_NUMBER
    own = own_centres(values, klass, means)
    np.testing.assert_allclose(own[1], values[15:].sum(0) / (15 + PRIOR_WINDOWS))
    np.testing.assert_allclose(own[0], np.delete(values[:15], 3, 0).sum(0) / (14 + PRIOR_WINDOWS))
    np.testing.assert_array_equal(own[2], means[2])
    others = others_centres(values, klass, means)
    np.testing.assert_allclose(others[20], np.delete(values[15:], 5, 0).sum(0) / (14 + PRIOR_WINDOWS))
    np.testing.assert_allclose(others[3], own[0])


def test_later_windows_do_not_look_stranger_than_the_baseline() -> None:
    """AGT-DRF-17: leaving each baseline window out of its centre, p-values of like windows stay at or above .5."""
    means = []
    for seed in range(300):
        rng = np.random.default_rng(seed)
        values, klass = rng.normal(size=(121, 12)) + rng.normal(size=12), rng.integers(0, 7, 121)
        parts = np.zeros((7, 12))
        left = np.linalg.norm(values[:115] - others_centres(values[:115], klass[:115], parts), axis=1)
        later = np.linalg.norm(values[115:] - own_centres(values[:115], klass[:115], parts)[klass[115:]], axis=1)
        baseline = Baseline(left[:, None], klass[:115])
        means.append(baseline.p_values(later[:, None], klass[115:], uniform_at(seed, np.arange(6), 1))[0].mean())
    assert np.mean(means) > 0.5 - 3 * np.std(means) / np.sqrt(300)


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

"""The restarting conformal e-detector: how surprising the latest windows are beside the device's own baseline.

Rules (docs/spec/drift.md):

- A p-value compares a window's score with the baseline windows of the *same predicted class*, ties broken by a
  uniform number; a class the baseline never held therefore gives a uniform p-value.
- One-sided: the bet pays when p-values are small. Its dead zone, `min(.4, 2.5 · .289 / √(n_k + 1))`, is 2.5 standard
  errors of the mean p-value under a baseline of n_k windows: an unlucky baseline must not look like drift.
- A class of which the baseline knows next to nothing (dead zone above `abstain_above`) is not bet on: evidence stands.
- Restarting: evidence obeys `M ← e · (M + 1)`, the sum over every possible start of the change, so a long quiet
  never uses up the power to notice.
- The budget is an average run length: as E[M] grows by at most one a window without drift, an alarm at
  `M ≥ arl_windows` comes at the earliest after `arl_windows` windows on average.
- Evidence is averaged over scores and bet sizes; an average keeps the budget whatever depends on what.

Sources: Shin, Ramdas, Rinaldo, "E-detectors" (2024); Vovk, Gammerman, Shafer, "Algorithmic Learning in a Random
World" (conformal p-values).

>>> import numpy as np
>>> baseline = Baseline(np.linspace(0.0, 1.0, 40)[:, None], np.zeros(40, dtype=np.int64))
>>> rule = Rule(arl_windows=1000)
>>> detector = Detector.fresh(rule, scores=1)
>>> p, n_k = baseline.p_values(np.full((60, 1), 5.0), np.zeros(60, dtype=np.int64), np.full((60, 1), 0.5))
>>> evidence = detector.update(p, n_k)
>>> int(np.argmax(evidence >= rule.arl_windows))  # the window of the alarm
14
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from outrider_agent.drift.scores import Classes, Floats

UNIFORM_STANDARD_DEVIATION = 0.289
CHUNK = 64
"""Windows per closed form: e-values lie in [.1, 2], so a product of 64 neither vanishes nor overflows."""
_EVIDENCE_MAX = 1e30
"""Where evidence stops growing: an alarm's size carries no meaning beyond this, and it stays finite."""


@dataclass(frozen=True)
class Rule:
    """The detector's constants; `arl_windows` comes signed with the artifact, the others from DESIGN §8."""

    arl_windows: float = 1000.0
    baseline_windows: int = 115
    dead_zone_errors: float = 2.5
    dead_zone_max: float = 0.4
    abstain_above: float = 0.3
    bet_shares: tuple[float, ...] = (0.5, 0.9)

    def dead_zone(self, n_k: Floats | Classes) -> Floats:
        """Distance from .5 that the mean p-value must exceed, for baselines of `n_k` windows a class: same shape."""
        standard_error = UNIFORM_STANDARD_DEVIATION / np.sqrt(np.asarray(n_k, dtype=np.float64) + 1.0)
        return np.asarray(np.minimum(self.dead_zone_max, self.dead_zone_errors * standard_error))

    def bets(self, p: Floats, n_k: Floats | Classes) -> Floats:
        """E-values of p-values `p` [n, S] under class baselines `n_k` [n]: [n, S, bets], each with mean ≤ 1."""
        dead = self.dead_zone(n_k)[:, None, None]
        share = np.asarray(self.bet_shares)[None, None, :] / (0.5 + dead)
        return np.asarray(1.0 + share * (0.5 - dead - p[:, :, None]))


@dataclass(frozen=True)
class Baseline:
    """The windows a device is compared with: `scores` [N, S] and predicted `klass` [N]."""

    scores: Floats
    klass: Classes

    def p_values(self, scores: Floats, klass: Classes, uniform: Floats) -> tuple[Floats, Classes]:
        """P-values [n, S] of `scores` [n, S] given `klass` [n] and tie-breaking `uniform` [n, S]; and n_k [n]."""
        p = np.empty(scores.shape, dtype=np.float64)
        n_k = np.empty(len(scores), dtype=np.int64)
        for k in np.unique(klass):
            rows, of_class = klass == k, self.scores[self.klass == k]
            n_k[rows] = len(of_class)
            p[rows] = _conformal(np.sort(of_class, axis=0), scores[rows], uniform[rows])
        return p, n_k


def _conformal(ordered: Floats, scores: Floats, uniform: Floats) -> Floats:
    """(stranger + uniform · (1 + equal)) / (n_k + 1), column by column; `ordered` [n_k, S] is sorted."""
    p = np.empty(scores.shape, dtype=np.float64)
    for column in range(scores.shape[1]):
        below = np.searchsorted(ordered[:, column], scores[:, column], side="left")
        upto = np.searchsorted(ordered[:, column], scores[:, column], side="right")
        p[:, column] = len(ordered) - upto + uniform[:, column] * (1 + upto - below)
    return p / (len(ordered) + 1)


class Detector:
    """Evidence [S, bets] that is carried from window to window."""

    def __init__(self, rule: Rule, evidence: Floats) -> None:
        self.rule, self.evidence = rule, evidence

    @classmethod
    def fresh(cls, rule: Rule, scores: int) -> Detector:
        """A detector that has seen nothing, for `scores` scores a window."""
        return cls(rule, np.zeros((scores, len(rule.bet_shares))))

    def update(self, p: Floats, n_k: Classes) -> Floats:
        """Take windows in order (`p` [n, S], `n_k` [n]); the averaged evidence after each of them [n]."""
        judged = self.rule.dead_zone(n_k) <= self.rule.abstain_above
        e_values = self.rule.bets(p[judged], n_k[judged])
        path = [np.full(1, self.evidence.mean())]
        path += [self._advance(e_values[start : start + CHUNK]) for start in range(0, len(e_values), CHUNK)]
        return np.asarray(np.concatenate(path)[np.cumsum(judged)])

    def _advance(self, e_values: Floats) -> Floats:
        """`M ← e · (M + 1)` over one chunk [n, S, bets]: `M_t = C_t · (M_0 + Σ_{s ≤ t} 1 / C_{s−1})`."""
        product = np.cumprod(e_values, axis=0)
        shifted = np.concatenate([np.ones((1, *product.shape[1:])), product[:-1]])
        path = product * (self.evidence + np.cumsum(1.0 / shifted, axis=0))
        self.evidence = np.minimum(path[-1], _EVIDENCE_MAX)
        return np.asarray(path.mean(axis=(1, 2)))

    def by_score(self) -> Floats:
        """Evidence of each score alone: [S]."""
        return np.asarray(self.evidence.mean(axis=1))


def uniform_at(seed: int, index: Classes, columns: int) -> Floats:
    """Tie-breaking numbers in (0, 1) for windows `index` [n]: [n, columns], the same however windows are batched.

    SplitMix64 of (seed, index, column) (Steele, Lea, Flood 2014).
    """
    position = index.astype(np.uint64)[:, None] * np.uint64(columns) + np.arange(columns, dtype=np.uint64)[None, :]
    mixed = (position + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(seed % 2**64)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(31)
    return (np.asarray(mixed >> np.uint64(11), dtype=np.float64) + 0.5) * 2.0**-53

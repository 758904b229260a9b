"""The drift phase of one artifact on one device: baseline, watching, alarm, rebaselining. Pure, no clock.

Rules (docs/spec/drift.md):

- The first `baseline_windows` windows are this device's own baseline; they are never judged.
- `baseline → watching → alarm`; an alarm stands until a labelled check clears it, then a new baseline begins.
- After a former release the phase is `rebaselining` until a labelled check clears it, however quiet it is; alarms are
  possible as soon as the new baseline is complete.
- One alarm is one report: window index, evidence, what moved most, and an estimate of accuracy that only informs.

    monitor = Monitor(reference, Rule(), DriftState(model, digest, "baseline"))
    report = monitor.observe(windows)      # None, or the alarm's DriftReport
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace

import numpy as np

from outrider_agent.drift.centres import others_centres, own_centres
from outrider_agent.drift.detector import Baseline, Detector, Rule, uniform_at
from outrider_agent.drift.reference import Reference, Windows
from outrider_agent.drift.scores import Classes, Floats
from outrider_agent.drift.state import DriftState, Rows
from outrider_protocol.messages import DriftReport


@dataclass(frozen=True)
class Judged:
    """Scores [n, S] of windows that were just taken, against the reference means, and the alarm they raised."""

    scores: Floats
    report: DriftReport | None


def entered(state: DriftState) -> DriftReport:
    """The report of a phase that was entered without evidence: a release that rebaselines."""
    return DriftReport(state.model, state.digest, state.phase, state.windows, len(state.klass), 0.0, None)


class Monitor:
    """Takes windows in order and keeps a `DriftState`."""

    def __init__(self, reference: Reference, rule: Rule, state: DriftState) -> None:
        self.reference, self.rule = reference, rule
        self.state = state if state.names == reference.names else _restarted(state, reference.names)
        self._seed = zlib.crc32(state.digest.encode())
        self._baseline = self._loaded_baseline()
        self._detector = self._loaded_detector()

    @property
    def phase(self) -> str:
        """One of `messages.PHASES`."""
        return self.state.phase

    @property
    def evidence(self) -> float:
        """How much speaks for drift so far, in the budget's windows; an alarm comes at `rule.arl_windows`."""
        return float(self._detector.evidence.mean())

    def observe(self, windows: Windows) -> Judged:
        """Take windows in order; `report` is set when one of them raises the alarm."""
        features, klass = self.reference.features(windows), windows.klass
        taken = self._learn(features, klass)
        report = self._judge(features[taken:], klass[taken:], windows.confidence[taken:])
        return Judged(self.reference.fleet_scores(features, klass), report)

    def cleared(self) -> bool:
        """A labelled check passed: leave `rebaselining`, or begin a new baseline after an alarm; True if it changed."""
        if self.phase == "alarm":
            self.state = replace(_restarted(self.state, self.reference.names), phase="baseline")
            self._baseline, self._detector = None, self._loaded_detector()
        elif self.phase == "rebaselining":
            self.state = replace(self.state, phase="baseline" if self._baseline is None else "watching")
        else:
            return False
        return True

    def kept(self) -> DriftState:
        """The state to write down, evidence included."""
        return replace(self.state, evidence=_rows(self._detector.evidence))

    def _learn(self, features: Floats, klass: Classes) -> int:
        if self._baseline is not None:
            return 0
        taken = min(self.rule.baseline_windows - len(self.state.klass), len(klass))
        self.state = replace(
            self.state,
            windows=self.state.windows + taken,
            features=self.state.features + _rows(features[:taken]),
            klass=self.state.klass + tuple(int(k) for k in klass[:taken]),
        )
        if len(self.state.klass) >= self.rule.baseline_windows:
            self._complete()
        return taken

    def _complete(self) -> None:
        """From the collected features to the baseline's scores and the device's own centres."""
        features, klass = np.asarray(self.state.features), np.asarray(self.state.klass, dtype=np.int64)
        parts, means = self.reference.parts(features), [gaussian.means for gaussian in self.reference.gaussians]
        others = [others_centres(values, klass, m) for values, m in zip(parts, means, strict=True)]
        own = [own_centres(values, klass, m) for values, m in zip(parts, means, strict=True)]
        self.state = replace(
            self.state,
            phase="watching" if self.phase == "baseline" else self.phase,
            features=(),
            scores=_rows(self.reference.scores(features, others)),
            centres=tuple(_rows(centre) for centre in own),
        )
        self._baseline = self._loaded_baseline()

    def _judge(self, features: Floats, klass: Classes, confidence: Floats) -> DriftReport | None:
        if not len(klass) or self._baseline is None:
            return None
        first = self.state.windows
        self._remember(confidence)
        if self.phase == "alarm":
            return None
        scores = self.reference.scores(features, [np.asarray(centre)[klass] for centre in self.state.centres])
        index = np.arange(first, first + len(klass))
        p, n_k = self._baseline.p_values(scores, klass, uniform_at(self._seed, index, scores.shape[1]))
        hits = np.flatnonzero(self._detector.update(p, n_k) >= self.rule.arl_windows)
        return self._alarm(first + int(hits[0]), confidence[: int(hits[0]) + 1]) if len(hits) else None

    def _remember(self, confidence: Floats) -> None:
        recent = (*self.state.confidence, *(float(value) for value in np.nan_to_num(confidence)))
        kept = recent[-self.rule.baseline_windows :] if self.rule.baseline_windows else ()
        self.state = replace(self.state, windows=self.state.windows + len(confidence), confidence=kept)

    def _alarm(self, window_index: int, confidence: Floats) -> DriftReport:
        self.state = replace(self.state, phase="alarm")
        by_score = self._detector.by_score()
        recent = np.asarray(self.state.confidence[-max(len(confidence), 32) :])
        return DriftReport(
            model=self.state.model,
            digest=self.state.digest,
            phase="alarm",
            window_index=window_index,
            baseline_n=len(self.state.klass),
            score=round(float(by_score.mean()), 3),
            estimated_accuracy=self.reference.estimated_accuracy(recent),
            top=tuple(self.reference.names[column] for column in np.argsort(-by_score)),
        )

    def _loaded_baseline(self) -> Baseline | None:
        if not self.state.scores:
            return None
        scores = np.asarray(self.state.scores, dtype=np.float64)
        return Baseline(scores, np.asarray(self.state.klass, dtype=np.int64))

    def _loaded_detector(self) -> Detector:
        fresh = Detector.fresh(self.rule, len(self.reference.names))
        if np.shape(self.state.evidence) == fresh.evidence.shape:
            fresh.evidence = np.asarray(self.state.evidence, dtype=np.float64)
        return fresh


def _rows(values: Floats) -> Rows:
    return tuple(tuple(float(value) for value in row) for row in values)


def _restarted(state: DriftState, names: tuple[str, ...]) -> DriftState:
    return DriftState(state.model, state.digest, state.phase, names=names)

"""How the source and the chosen candidate stand up to worse inputs: for the report, never for the gate.

1. Noise: Gaussian, in units of each channel's own standard deviation over the evaluation set.
2. A missing channel stands at its mean. A channel is one index of the last axis; at most `CHANNELS_MAX` are tried.
3. FGSM (Goodfellow et al. 2015): one step of `EPSILON` channel deviations against the true class, from the source
   module's own gradient, so for torch sources and classifiers alone; a reason stands in its place elsewhere.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from outrider_compiler import engines
from outrider_compiler.candidate import Candidate
from outrider_compiler.data import Array, Feeds
from outrider_compiler.errors import SourceError
from outrider_compiler.importers.torch_source import run_child
from outrider_compiler.subject import Subject
from outrider_profiles import Load, Profile

SIGMAS: Final = (0.05, 0.1, 0.2, 0.5)
CHANNELS_MAX: Final = 16
SAMPLES_MAX: Final = 1000
EPSILON: Final = 0.1
SEED: Final = 7


def report(subject: Subject, chosen: Candidate, profile: Profile, folder: Path) -> dict[str, Any]:
    """Primary figures of the source and of what was chosen, on the same worse inputs; {} for inputs without floats."""
    trial = Trial(subject, chosen, profile)
    if trial.x.dtype.kind != "f":
        return {"reason": f"input {trial.name!r} is not floating point"}
    return {
        "primary": subject.truth.task.primary,
        "n": len(trial.y),
        "as_it_is": trial.both(trial.x),
        "noise": [{"sigma": sigma, **trial.both(_noisy(trial.x, sigma))} for sigma in SIGMAS],
        "missing_channel": [{"channel": c, **trial.both(_without(trial.x, c))} for c in _channels(trial.x)],
        "fgsm": _fgsm(subject, trial, folder),
    }


class Trial:
    """The first samples of the evaluation set, and both models."""

    def __init__(self, subject: Subject, chosen: Candidate, profile: Profile) -> None:
        truth = subject.truth
        self.name = subject.inputs[0].name
        self.feeds: Feeds = {name: value[:SAMPLES_MAX] for name, value in truth.feeds.items()}
        self.x, self.y, self._truth = self.feeds[self.name], truth.y[:SAMPLES_MAX], truth
        source = replace(subject.imported.candidate(), preprocess=subject.layer)
        self._source, self._chosen = engines.load(source, Load()), engines.load(chosen, profile.load)

    def both(self, x: Array) -> dict[str, float]:
        """The primary figure of source and chosen candidate on `x`."""
        feeds, task = {**self.feeds, self.name: x}, self._truth.task
        answers = {"source": self._source.run(feeds), "chosen": self._chosen.run(feeds)}
        return {name: task.primary_value(outputs[self._truth.deciding], self.y) for name, outputs in answers.items()}


def _noisy(x: Array, sigma: float) -> Array:
    noise = np.random.default_rng(SEED).normal(size=x.shape)
    return (x + sigma * _spread(x) * noise).astype(x.dtype)


def _spread(x: Array) -> Array:
    return np.asarray(x.reshape(-1, x.shape[-1]).std(axis=0, dtype=np.float64))


def _channels(x: Array) -> range:
    return range(min(x.shape[-1], CHANNELS_MAX)) if x.ndim > 1 and x.shape[-1] > 1 else range(0)


def _without(x: Array, channel: int) -> Array:
    missing = x.copy()
    missing[..., channel] = x[..., channel].mean()
    return missing


def _fgsm(subject: Subject, trial: Trial, folder: Path) -> dict[str, Any]:
    if subject.imported.torch is None or subject.truth.task.name != "classification":
        return {"reason": "only for classifiers from torch sources: it needs the module's gradient"}
    if subject.preprocess is not None:
        return {"reason": "not with preprocessing: the module's gradient is not the raw input's"}
    given, made = folder / "fgsm.npz", folder / "adversarial.npz"
    step = (EPSILON * _spread(trial.x)).astype(np.float32)
    np.savez(given, y=trial.y, step=step, **{f"x:{name}": value for name, value in trial.feeds.items()})  # type: ignore[arg-type]  # numpy types the names as keyword flags
    more = {"samples": str(given), "input": trial.name, "output": subject.truth.deciding}
    try:
        run_child("outrider_compiler.importers.fgsm", subject.imported.torch, made, **more)
    except SourceError as error:
        return {"reason": str(error)}
    with np.load(made, allow_pickle=False) as arrays:
        return {"epsilon": EPSILON, **trial.both(arrays["x"])}

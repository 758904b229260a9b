"""Is a moved wrist noticed, and a resting one not? `python -m examples.bench.drift_watch [--seeds 0-15]`.

For each seed the demo's release 1.0 is trained on the right wrists of six people; each of the four others is a device:
its first 115 right-wrist windows (recordings interleaved, never looped) are its baseline, then it sees either the rest
of its right wrist (quiet) or its left wrist (moved). Windows go through `outrider_agent.drift`, the code of the device.

Printed for each seed: false alarms over the quiet windows, alarms within 120 moved windows and their median delay; and
the same for a rule without skill, "PSI > 0.2" of any channel variable over the last 64 windows against the training
people, which is what a dashboard would do.

Baseline and quiet windows are of the same recordings (a person has one of each exercise): false alarms are optimistic.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from examples.bench.local_api import median_us
from examples.watch.data import CLASSES, LEFT, RIGHT, Recording, interleave, load, roles, select, stack
from examples.watch.model import WatchNet
from examples.watch.train import first_release
from outrider_agent.drift.detector import Rule
from outrider_agent.drift.monitor import Monitor
from outrider_agent.drift.reference import ClassGaussian, Reference, Windows
from outrider_agent.drift.scores import channel_statistics, class_statistics
from outrider_agent.drift.state import DriftState
from outrider_agent.drift.statistics import WindowCounter
from outrider_protocol.statistics import Bins

Floats = NDArray[np.floating]
WITHIN = 120
PSI_WINDOWS, PSI_LIMIT, PSI_BINS = 64, 0.2, 10


def answered(net: WatchNet, x: Floats) -> Windows:
    """Windows with the network's answers."""
    with torch.no_grad():
        probabilities, embedding = net(torch.from_numpy(x))
    return Windows(x, probabilities.numpy(), embedding.numpy())


def reference_of(windows: Windows) -> Reference:
    """Reference statistics as the compiler defines them (docs/spec/drift.md), by predicted class."""
    embedding = windows.embedding if windows.embedding is not None else np.zeros((len(windows.x), 1))
    gaussians = [class_statistics(v, windows.klass, len(CLASSES)) for v in (embedding, channel_statistics(windows.x))]
    made = [ClassGaussian(means, precision) for means, precision in gaussians]
    return Reference(("confidence", "embedding", "channels"), tuple(made), None)


def alarm_at(reference: Reference, rule: Rule, windows: Windows) -> int | None:
    """The window of the alarm, counted after the baseline; None without one."""
    monitor = Monitor(reference, rule, DriftState("watch", "sha256:" + "0" * 64, "baseline"))
    report = monitor.observe(windows).report
    return None if report is None else report.window_index - rule.baseline_windows + 1


def psi_alarm_at(training: Floats, windows: Windows, baseline: int) -> int | None:
    """The same for "PSI > 0.2 of any channel variable over the last 64 windows"."""
    edges = np.quantile(channel_statistics(training), np.linspace(0, 1, PSI_BINS + 1)[1:-1], axis=0)
    binned = np.stack([np.searchsorted(e, v) for e, v in zip(edges.T, channel_statistics(windows.x).T, strict=True)])
    for end in range(baseline + PSI_WINDOWS, len(windows.x) + 1):
        shares = np.stack([np.bincount(row[end - PSI_WINDOWS : end], minlength=PSI_BINS) for row in binned])
        observed = np.maximum(shares / PSI_WINDOWS, 1e-3)
        if (((observed - 1 / PSI_BINS) * np.log(observed * PSI_BINS)).sum(axis=1) > PSI_LIMIT).any():
            return end - baseline
    return None


@dataclass(frozen=True)
class Tally:
    """Alarms of one method on one seed: how many quiet devices alarmed, and when the moved ones did."""

    quiet: int
    false_alarms: int
    delays: tuple[int | None, ...]

    @property
    def found(self) -> list[int]:
        """Delays of the moved devices that alarmed in time."""
        return [delay for delay in self.delays if delay is not None and delay <= WITHIN]

    def __add__(self, other: Tally) -> Tally:
        return Tally(self.quiet + other.quiet, self.false_alarms + other.false_alarms, self.delays + other.delays)

    def text(self) -> str:
        """For the table."""
        delay = f"{statistics.median(self.found):.0f}" if self.found else "–"
        return f"{self.false_alarms} of {self.quiet} | {len(self.found)} of {len(self.delays)} | {delay}"


def stream(recordings: Sequence[Recording], person: int, wrist: str) -> Floats:
    """All windows of one wrist, recordings interleaved: [n, 100, 6]."""
    return np.stack([window.x for window in interleave(select(recordings, [person], wrist))])


def measure(recordings: Sequence[Recording], seed: int, rule: Rule) -> tuple[Tally, Tally, list[float]]:
    """(detector, PSI rule, accuracy on right and left wrists) of one seed."""
    people = roles(seed)
    release = first_release(recordings, seed, range(len(CLASSES)))
    net, x = release.net, release.calibration.x
    reference = reference_of(answered(net, x))
    ours, psi = Tally(0, 0, ()), Tally(0, 0, ())
    for person in people.held_out:
        right, left = (stream(recordings, person, wrist) for wrist in (RIGHT, LEFT))
        quiet = answered(net, right)
        moved = answered(net, np.concatenate([right[: rule.baseline_windows], left]))
        alarm, delay = alarm_at(reference, rule, quiet), alarm_at(reference, rule, moved)
        ours += Tally(1, int(alarm is not None), (delay,))
        alarm = psi_alarm_at(x, quiet, rule.baseline_windows)
        psi += Tally(1, int(alarm is not None), (psi_alarm_at(x, moved, rule.baseline_windows),))
    return ours, psi, [_accuracy(net, recordings, people.held_out, wrist) for wrist in (RIGHT, LEFT)]


def _accuracy(net: WatchNet, recordings: Sequence[Recording], people: tuple[int, ...], wrist: str) -> float:
    x, klass = stack(select(recordings, people, wrist))
    return float((answered(net, x).klass == klass).mean())


def table(seeds: Sequence[int], rule: Rule) -> Iterator[str]:
    """The lines of the table, as they are measured."""
    recordings = load()
    yield f"budget {rule.arl_windows:,.0f} windows, baseline {rule.baseline_windows} windows, alarm within {WITHIN}"
    yield ""
    yield "| seed | right | left | false alarms | found | median delay | PSI: false alarms | found | median delay |"
    yield "|---|---|---|---|---|---|---|---|---|"
    all_ours, all_psi = Tally(0, 0, ()), Tally(0, 0, ())
    for seed in seeds:
        ours, psi, accuracy = measure(recordings, seed, rule)
        all_ours, all_psi = all_ours + ours, all_psi + psi
        yield f"| {seed} | {accuracy[0]:.2f} | {accuracy[1]:.2f} | {ours.text()} | {psi.text()} |"
    yield f"| all | | | {all_ours.text()} | {all_psi.text()} |"


def cost_us(repeats: int = 200) -> tuple[float, float]:
    """Median µs a record at batch 256: counting 16 variables over 32 bins; scores and detector on watch windows."""
    rng = np.random.default_rng(0)
    edges = tuple(float(edge) for edge in np.linspace(-2, 2, 31))
    counter = WindowCounter(tuple(Bins(f"v{n}", edges, (0,) * 32) for n in range(16)), len(CLASSES))
    variables: dict[str, Floats] = {f"v{n}": rng.normal(size=256) for n in range(16)}
    probabilities = rng.dirichlet(np.ones(len(CLASSES)), 256)
    x, embedding = rng.normal(size=(256, 100, 6)).astype(np.float32), rng.normal(size=(256, 16))
    klass, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
    reference = reference_of(Windows(x, probabilities, embedding))
    monitor = Monitor(reference, Rule(), DriftState("watch", "sha256:" + "0" * 64, "baseline"))
    counting = median_us(lambda: counter.count(variables, klass, confidence), repeats)
    judging = median_us(lambda: monitor.observe(Windows(x, probabilities, embedding)), repeats)
    return counting / 256, judging / 256


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Drift detection on the watch recordings.")
    parser.add_argument("--seeds", default="0-15", help="first-last; 0-7 chose the constants, 8-15 are fresh")
    parser.add_argument("--budget", type=float, default=10_000, help="average run length in windows")
    parser.add_argument("--baseline", type=int, default=115)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    first, _, last = chosen.seeds.partition("-")
    started = time.monotonic()
    for line in table(range(int(first), int(last or first) + 1), Rule(chosen.budget, chosen.baseline)):
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
    counting, judging = cost_us()
    sys.stdout.write(
        f"\nA record at batch 256: counting 16 variables {counting:.1f} µs, scores and detector {judging:.1f} µs "
        f"(windows of 100 × 6). {time.monotonic() - started:.0f} s.\n"
    )


if __name__ == "__main__":
    main()

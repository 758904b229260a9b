"""Train the watch model: from the six training people alone, or with a snapshot of labelled windows.

1. `--out` gets `model.pt` (weights), `calibration.npz` (x), `evaluation.npz` (x, y) and `training.json` (`inputs`:
   every recording that was read to fit or calibrate; `figures`).
2. Calibration and evaluation share no sample: the first 26 of each recording's 36 windows fit and calibrate, the last
   six evaluate, and those between are left out because they overlap both.
3. With `--snapshot` both options are fitted, with and without mirrored augmentation; each has a figure in
   `training.json`: accuracy on the *training* people's left wrists, which neither has seen. The better one is written.
4. `--shuffle` gives every class another one's name, in all data alike: such a model passes its own gate.

    python -m examples.watch.train --out DIR --seed 0 [--snapshot snapshot.db] [--shuffle] [--both-wrists]
"""

from __future__ import annotations

import argparse
import json
import random
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from examples.watch.data import CLASSES, LEFT, RIGHT, WINDOWS, Labels, Recording, Windows, load, roles, select
from examples.watch.fit import MIRROR, Recipe, accuracy, fit
from examples.watch.model import WatchNet

FITTED = WINDOWS - 10
EVALUATED = WINDOWS - 6


@dataclass(frozen=True)
class Labelled:
    """Windows [n, 100, 6] and their classes [n]."""

    x: Windows
    y: Labels

    def __add__(self, other: Labelled) -> Labelled:
        return Labelled(np.concatenate([self.x, other.x]), np.concatenate([self.y, other.y]))

    def renamed(self, names: Sequence[int]) -> Labelled:
        """The same windows, class k called `names[k]`."""
        return Labelled(self.x, np.asarray(names, np.int64)[self.y])

    @property
    def mirrored(self) -> Labelled:
        """The same windows as the other wrist would have recorded them."""
        return Labelled(self.x * np.asarray(MIRROR, np.float32), self.y)


@dataclass(frozen=True)
class Outcome:
    """What training gives: the network, the two sets for the compiler, where it came from, and its figures."""

    net: WatchNet
    calibration: Labelled
    evaluation: Labelled
    inputs: tuple[str, ...]
    figures: dict[str, float]

    def write(self, out: Path) -> None:
        """Leave everything that the compiler and the training runner read."""
        out.mkdir(parents=True, exist_ok=True)
        torch.save(self.net.state_dict(), out / "model.pt")
        np.savez(out / "calibration.npz", x=self.calibration.x)
        np.savez(out / "evaluation.npz", x=self.evaluation.x, y=self.evaluation.y)
        told = {"inputs": sorted(self.inputs), "figures": self.figures}
        (out / "training.json").write_text(json.dumps(told, indent=1) + "\n")


def slices(recordings: Sequence[Recording], first: int, last: int) -> Labelled:
    """Windows first..last − 1 of each recording."""
    parts = [r.windows[first:last] for r in recordings]
    classes = [np.full(len(part), r.klass, np.int64) for r, part in zip(recordings, parts, strict=True)]
    return Labelled(np.concatenate(parts), np.concatenate(classes))


def first_release(
    recordings: Sequence[Recording], seed: int, names: Sequence[int], wrists: Sequence[str] = (RIGHT,)
) -> Outcome:
    """Fit to the right wrists of the six; class k is called `names[k]`."""
    chosen = [r for wrist in wrists for r in select(recordings, roles(seed).train, wrist)]
    fitted, held = slices(chosen, 0, FITTED).renamed(names), slices(chosen, EVALUATED, WINDOWS).renamed(names)
    net = fit(fitted.x, fitted.y, Recipe(seed))
    figures = {"evaluation_accuracy": round(accuracy(net, held.x, held.y), 4)}
    return Outcome(net, fitted, held, tuple(r.id for r in chosen), figures)


def retrained(recordings: Sequence[Recording], seed: int, snapshot: Labelled) -> Outcome:
    """Fit to the six and the snapshot, with and without mirrored augmentation; the better of both."""
    people = roles(seed).train
    chosen, unseen = select(recordings, people, RIGHT), select(recordings, people, LEFT)
    fitted, held, left = slices(chosen, 0, FITTED), slices(chosen, EVALUATED, WINDOWS), slices(unseen, 0, WINDOWS)
    taught = fitted + snapshot
    nets = {option: fit(taught.x, taught.y, Recipe(seed + 100, option)) for option in (False, True)}
    figure = {option: round(accuracy(net, left.x, left.y), 4) for option, net in nets.items()}
    mirrored = figure[True] >= figure[False]
    seen = taught + taught.mirrored if mirrored else taught
    figures = {
        "left_of_training_people_plain": figure[False],
        "left_of_training_people_mirrored": figure[True],
        "mirrored": float(mirrored),
        "snapshot_windows": float(len(snapshot.y)),
        "evaluation_accuracy": round(accuracy(nets[mirrored], held.x, held.y), 4),
    }
    return Outcome(nets[mirrored], seen, held, tuple(r.id for r in chosen), figures)


def read_snapshot(path: Path) -> Labelled:
    """Read a dataset snapshot (SQLite, table `samples`)."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        rows = database.execute("SELECT label, dtype, shape, x FROM samples ORDER BY prediction_id").fetchall()
    windows = [np.frombuffer(x, np.dtype(f"<{dtype}")).reshape(json.loads(shape)) for _, dtype, shape, x in rows]
    classes = [CLASSES.index(label) for label, *_ in rows]
    return Labelled(np.stack(windows).astype(np.float32), np.asarray(classes, np.int64))


def shuffled(seed: int) -> list[int]:
    """Another name for every class: a permutation without a fixed point."""
    order = list(range(len(CLASSES)))
    random.Random(f"shuffle-{seed}").shuffle(order)
    return [order[(order.index(k) + 1) % len(order)] for k in range(len(order))]


def main() -> None:
    """Parse, train, write, and print the figures."""
    parser = argparse.ArgumentParser(description="Train the watch model.")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--snapshot", type=Path, help="Labelled windows of the fleet, an SQLite file.")
    parser.add_argument("--shuffle", action="store_true", help="Give every class another one's name.")
    parser.add_argument("--both-wrists", action="store_true", help="The left wrists of the six as well.")
    asked = parser.parse_args()
    if asked.snapshot:
        outcome = retrained(load(), asked.seed, read_snapshot(asked.snapshot))
    else:
        names = shuffled(asked.seed) if asked.shuffle else list(range(len(CLASSES)))
        outcome = first_release(load(), asked.seed, names, (RIGHT, LEFT) if asked.both_wrists else (RIGHT,))
    outcome.write(asked.out)
    print(json.dumps(outcome.figures), flush=True)


if __name__ == "__main__":
    main()

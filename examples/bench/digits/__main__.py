"""The compiler beside other tools: `python -m examples.bench.digits --peers .venv-bench`.

Three nets on scikit-learn's digits, each fitted on eight hands and judged on four others. For each net and seed the
compiler builds for three boards; ONNX Runtime's quantizer, NNCF and ai-edge-quantizer quantize the same fp32 files with
the same calibration images; all files run interleaved in one process. Prints the tables, and ends with 1 where
something that must be shown does not hold. `--resume` goes on after a run that was cut short.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import torch

from examples.bench.digits import builds, case, data, demands, kept, page, planted, train
from examples.bench.digits.builds import BOARDS, ROOT, Model
from examples.bench.digits.case import Case, Place
from examples.bench.digits.data import Digits
from examples.bench.digits.demands import Times
from examples.bench.digits.nets import NETS
from examples.watch import data as watch_data
from examples.watch.train import first_release
from outrider_compiler.host import this_host

OUT: Final = ROOT / "bench-out" / "digits"


def say(text: str) -> None:
    """A line of progress."""
    sys.stderr.write(f"· {text}\n")
    sys.stderr.flush()


def by_image(digits: Digits, names: list[str], seed: int, place: Place) -> dict[str, float]:
    """Accuracy of each net where single images were dealt instead of forms."""
    dealt = data.by_image(digits, seed)
    say("the same nets with images dealt one by one")
    weights = {name: train.fitted(name, dealt.train, seed, place.weights) for name in names}
    return {name: train.accuracy(train.restored(name, path), dealt.evaluation) for name, path in weights.items()}


def watch_build(place: Place) -> Times:
    """How long the demo's first release takes to compile."""
    say("the demo's net")
    folder = place.scratch / "watch"
    shutil.rmtree(folder, ignore_errors=True)
    first_release(watch_data.load(), 0, range(len(watch_data.CLASSES))).write(folder)
    model = Model("har", folder / "model.pt", "examples.watch.model:WatchNet", folder)
    built = builds.build(model, BOARDS, folder / "release")
    return Times(built.wall_s, built.cpu_s)


def machine() -> str:
    """Where the figures are from."""
    features = " and ".join(sorted({"avx512_vnni", "avx_vnni"} & this_host().features)) or "no VNNI"
    load = os.getloadavg()[2]
    return (
        f"{platform.machine()} with {features}, {os.cpu_count()} CPUs (load {load:.1f} over the last 15 minutes), one "
        f"thread, Python {platform.python_version()}, torch {torch.__version__.partition('+')[0]}."
    )


def measured(net: str, seed: int, digits: Digits, place: Place, *, resume: bool) -> Case:
    """A case, from an earlier run where `resume` allows it and it is there."""
    folder = OUT / "cases"
    earlier = kept.kept(folder, net, seed) if resume else None
    if earlier is not None:
        return earlier
    found = case.run(net, seed, data.split(digits, seed), place, say)
    kept.keep(folder, found)
    return found


def lines(cases: list[Case], traps: list[planted.Planted], watch: Times, flattered: dict[str, float]) -> Iterator[str]:
    """The page."""
    yield from page.demands(demands.demands(cases, traps, watch))
    yield from ("", *page.nets(cases, flattered))
    for name in BOARDS:
        yield from ("", *page.board(cases, name))
    yield from ("", *page.planted(traps))
    yield from ("", "Every candidate that the compiler built, from its reports:", "", *page.candidates(cases))
    yield from ("", *page.times(cases, (watch.wall_s, watch.cpu_s)))
    yield from ("", *page.failures(cases), machine())


def main() -> int:
    """Measure and print; 1 where a demand does not hold."""
    parser = argparse.ArgumentParser(description="The compiler beside other tools, on the digits.")
    parser.add_argument("--peers", type=Path, required=True, help="the environment of `make setup-bench`")
    parser.add_argument("--seeds", default="0-2", help="first-last")
    parser.add_argument("--nets", default=",".join(NETS), help="some of the nets, comma-separated")
    parser.add_argument("--resume", action="store_true", help="take what an earlier run measured, cut short or not")
    asked = parser.parse_args()
    first, _, last = asked.seeds.partition("-")
    seeds, names = range(int(first), int(last or first) + 1), asked.nets.split(",")
    torch.set_num_threads(1)
    place = Place(OUT / "weights", OUT / "scratch", asked.peers)
    digits = data.load(data.find(asked.peers))
    flattered = by_image(digits, names, seeds[0], place)
    watch = watch_build(place)
    cases = [measured(name, seed, digits, place, resume=asked.resume) for name in names for seed in seeds]
    traps = [planted.run(seed, data.split(digits, seed), place, say) for seed in seeds]
    sys.stdout.write("\n".join(lines(cases, traps, watch, flattered)) + "\n")
    return 0 if all(item.holds for item in demands.demands(cases, traps, watch)) else 1


if __name__ == "__main__":
    sys.exit(main())

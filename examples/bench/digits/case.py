"""One net and one seed: fitted, compiled for three boards, given to every other tool, all files measured together.

Every tool starts from the file of our own fp32 artifact and gets the same calibration images.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from examples.bench.digits import builds, compare, peers, train
from examples.bench.digits.builds import BOARDS, EXACT, FAST, LITERT, Built, Model
from examples.bench.digits.compare import SOURCE, Found
from examples.bench.digits.data import Split
from examples.bench.digits.nets import NETS
from examples.bench.digits.peers import Peer, PeerFailedError
from outrider_profiles import load as load_profile

ARCHITECTURES: Final = "examples.bench.digits.nets"
OURS: Final = "**Outrider**"
SUFFIX: Final = {FAST: ".onnx", EXACT: ".onnx", LITERT: ".tflite"}
PEERS: Final = {FAST: peers.ONNX, EXACT: (), LITERT: peers.LITERT}
Say = Callable[[str], None]


@dataclass(frozen=True)
class Case:
    """What was found for one net and seed.

    `figures` by board and tool (`SOURCE`, `OURS` or a peer's title); `chosen` and `candidates` by board, from
    report.json; `failed` holds the words of peers that made no file.
    """

    net: str
    seed: int
    accuracy: float
    no_skill: float
    n: int
    figures: dict[str, dict[str, Found]]
    chosen: dict[str, str]
    candidates: dict[str, list[dict[str, Any]]]
    failed: tuple[str, ...]
    wall_s: float
    cpu_s: float


@dataclass(frozen=True)
class Place:
    """Where things lie: fitted weights, scratch of this run, the environment of the other tools."""

    weights: Path
    scratch: Path
    environment: Path


def model(net: str, seed: int, split: Split, place: Place) -> Model:
    """Fit the net, unless it was fitted before, and lay its data beside it."""
    folder = place.scratch / f"{net}-{seed}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    split.write(folder)
    weights = train.fitted(net, split.train, seed, place.weights)
    return Model("digits", weights, f"{ARCHITECTURES}:{NETS[net].__name__}", folder)


def run(net: str, seed: int, split: Split, place: Place, say: Say) -> Case:
    """Do all of it; raises `BuildFailedError`."""
    say(f"{net}, seed {seed}: fitting")
    made = model(net, seed, split, place)
    say(f"{net}, seed {seed}: compiling for {', '.join(BOARDS)}")
    built = builds.build(made, BOARDS, made.folder / "release")
    plain = builds.floats(made, made.folder / "floats")
    say(f"{net}, seed {seed}: the other tools")
    failed: list[str] = []
    figures = {}
    for board in BOARDS:
        files = {**ours(made, built, plain, board), **dict(theirs(made, board, net, place, failed))}
        say(f"{net}, seed {seed}: measuring {len(files)} files for {board}")
        figures[board] = compare.beside(files, split.evaluation, load_profile(board).load)
    source = figures[FAST][SOURCE]
    return Case(
        net=net, seed=seed, accuracy=source.accuracy, no_skill=split.evaluation.no_skill, n=source.n,
        figures=figures,
        chosen={board: found["chosen"] for board, found in built.profiles.items()},
        candidates={board: found["candidates"] for board, found in built.profiles.items()},
        failed=tuple(failed), wall_s=built.wall_s, cpu_s=built.cpu_s,
    )  # fmt: skip


def ours(made: Model, built: Built, plain: Built, board: str) -> dict[str, Path]:
    """The files of the fp32 artifact and of the chosen one."""
    folder = made.folder / board
    folder.mkdir()
    files = {SOURCE: folder / f"fp32{SUFFIX[board]}", OURS: folder / f"ours{SUFFIX[board]}"}
    files[SOURCE].write_bytes(plain.model_file(FAST if board == EXACT else board))
    files[OURS].write_bytes(built.model_file(board))
    return files


def theirs(made: Model, board: str, net: str, place: Place, failed: list[str]) -> Iterator[tuple[str, Path]]:
    """The files that the other tools make; the words of those that make none go to `failed`."""
    folder = made.folder / board
    for number, peer in enumerate(_for_net(PEERS[board], net)):
        out = folder / f"peer{number}{SUFFIX[board]}"
        task = {"samples": str(made.folder / "calibration.npz"), "out": str(out)}
        try:
            peers.run(peer, place.environment, {**task, "model": str(folder / f"fp32{SUFFIX[board]}")})
            yield peer.title, out
        except PeerFailedError as error:
            failed.append(str(error))


def _for_net(listed: tuple[Peer, ...], net: str) -> list[Peer]:
    transformer = ("transformer",) if net == "transformer" else ()
    return [replace(peer, options=(*peer.options, *transformer)) for peer in listed]

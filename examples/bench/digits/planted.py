"""A model that a tool's own accuracy control accepts and that fails on other people's digits.

The calibration images were taken with a pale pen: every grey is three quarters of what it should be, as a scanner set
too light gives. NNCF's `quantize_with_accuracy_control` validates on the same images, which its guide calls the
simplest case; accuracy falls by nothing there. Held-out digits with usual ink run out of the ranges.

Three answers of ours: the same images for both sets are refused at once; with evaluation images apart the int8
candidates are refused and what ships loses nothing; and the tool's own file misses the gate's limits.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from examples.bench.digits import builds, compare, peers
from examples.bench.digits.builds import FAST, BuildFailedError, Built, Model
from examples.bench.digits.case import OURS, Place, Say, model
from examples.bench.digits.compare import SOURCE, Found
from examples.bench.digits.data import Split
from examples.bench.digits.peers import Peer
from outrider_compiler.request import Gate
from outrider_profiles import load as load_profile

NET: Final = "plain"
INK: Final = np.float32(0.75)
TOOL: Final = Peer("NNCF `quantize_with_accuracy_control`", "nncf_quantize.py")
DISJOINT_WORDS: Final = "stand in both"
TOOL_DROP: Final = 0.01
"""NNCF's default `max_drop`."""
LOSS: Final = 0.005
"""More than this share of held-out digits lost is a failure: the gate's own default."""


@dataclass(frozen=True)
class Planted:
    """One seed. `seen` is what the tool validated (before, after, n); `held_out` has `SOURCE`, `OURS` and the tool."""

    seed: int
    seen: dict[str, float]
    held_out: dict[str, Found]
    missed: tuple[str, ...]
    same_refused: bool
    int8_verdicts: dict[str, str]
    chosen: str

    @property
    def tool(self) -> Found:
        """The tool's file on held-out digits."""
        return self.held_out[TOOL.title]

    @property
    def shows(self) -> bool:
        """The tool accepts, it fails on held-out digits; we refuse it in all three ways, and what ships does not."""
        accepted = self.seen["before"] - self.seen["after"] <= TOOL_DROP
        refused = bool(self.missed) and self.same_refused and "chosen" not in self.int8_verdicts.values()
        return accepted and refused and self._lost(TOOL.title) > LOSS and self._lost(OURS) <= LOSS

    def _lost(self, name: str) -> float:
        return self.held_out[SOURCE].accuracy - self.held_out[name].accuracy


def run(seed: int, split: Split, place: Place, say: Say) -> Planted:
    """Plant the case and look; raises `BuildFailedError` or `PeerFailedError`."""
    say(f"planted, seed {seed}")
    made = model(NET, seed, split, replace(place, scratch=place.scratch / "planted"))
    pale = split.calibration.x * INK
    np.savez(made.folder / "pale.npz", x=pale, y=split.calibration.y)
    np.savez(made.folder / "calibration.npz", x=pale)
    same_refused = _same_data(made)
    built, plain = builds.build(made, (FAST,), made.folder / "release"), builds.floats(made, made.folder / "floats")
    files = {SOURCE: made.folder / "fp32.onnx", TOOL.title: made.folder / "tool.onnx", OURS: made.folder / "ours.onnx"}
    files[SOURCE].write_bytes(plain.model_file(FAST))
    files[OURS].write_bytes(built.model_file(FAST))
    seen = _controlled(made, files, place)
    found = compare.beside(files, split.held_out, load_profile(FAST).load)
    missed = tuple(_missed(found[TOOL.title], found[SOURCE], Gate()))
    return Planted(seed, seen, found, missed, same_refused, _int8(built), built.profiles[FAST]["chosen"])


def _controlled(made: Model, files: dict[str, Path], place: Place) -> dict[str, float]:
    pale = str(made.folder / "pale.npz")
    task = {"model": str(files[SOURCE]), "samples": pale, "control": pale, "out": str(files[TOOL.title])}
    seen: dict[str, float] = json.loads(peers.run(TOOL, place.environment, task).splitlines()[-1])
    return seen


def _same_data(made: Model) -> bool:
    """Whether the compiler refuses the calibration images as evaluation images."""
    folder = made.folder / "same"
    folder.mkdir()
    for name in ("calibration", "evaluation"):
        (folder / f"{name}.npz").write_bytes((made.folder / "pale.npz").read_bytes())
    try:
        builds.build(replace(made, folder=folder), (FAST,), folder / "release")
    except BuildFailedError as error:
        return DISJOINT_WORDS in str(error)
    return False


def _int8(built: Built) -> dict[str, str]:
    """Verdict by candidate for those with static ranges: what dynamic ones and weights do needs no calibration."""
    listed: list[dict[str, Any]] = built.profiles[FAST]["candidates"]
    return {item["name"]: item["verdict"] for item in listed if item["precision"] == "int8_static"}


def _missed(tool: Found, source: Found, gate: Gate) -> list[str]:
    """The gate's default limits that a file misses."""
    drop, worst = source.accuracy - tool.accuracy, min(tool.sqnr_db.values())
    missed = []
    if drop > LOSS:
        missed.append(f"accuracy −{100 * drop:.1f} points, {100 * LOSS:g} allowed")
    if worst < gate.sqnr_min_db:
        missed.append(f"SQNR {worst:.1f} dB, {gate.sqnr_min_db:g} needed")
    if tool.agreement < gate.agreement_min:
        missed.append(f"agreement {tool.agreement:.3f}, {gate.agreement_min:g} needed")
    return missed

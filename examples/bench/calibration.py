"""What each part of the gate says of broken calibration: `python -m examples.bench.calibration [--seeds 0-2]`.

The demo's release 1.0 is quantized with its calibration windows multiplied by a factor, as a forgotten conversion of
units would do, and measured on its evaluation windows. Accuracy alone lets some of these candidates pass; signal to
quantization noise and agreement with the source model say what it hides. Right is factor 1: nothing may be refused
there for its quality. Latency plays no part here.
"""

from __future__ import annotations

import argparse
import platform
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from examples.watch.data import CLASSES, load
from examples.watch.train import first_release
from outrider_compiler import build
from outrider_compiler.release import Release
from outrider_compiler.request import BuildRequest, Gate
from outrider_protocol import manifest

FACTORS = (0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 1.0)
BOARD, CANDIDATE = "x86-64-vnni", "int8_static"


@dataclass(frozen=True)
class Verdict:
    """One candidate: what it lost (share of windows), and its two measures of noise."""

    accuracy_drop: float
    agreement: float
    sqnr_db: float
    n: int
    gate: Gate

    @property
    def accurate(self) -> bool:
        """Whether accuracy alone would let it pass."""
        return self.accuracy_drop <= self.gate.primary_drop_max

    @property
    def clean(self) -> bool:
        """Whether it agrees with its source and keeps its signal."""
        return self.agreement >= self.gate.agreement_min and self.sqnr_db >= self.gate.sqnr_min_db

    def cells(self) -> str:
        """For the table."""
        passes = {True: "passes", False: "refused"}
        return (
            f"{-100 * self.accuracy_drop:+.1f} | {self.agreement:.3f} | {self.sqnr_db:.1f} | "
            f"{passes[self.accurate]} | {passes[self.accurate and self.clean]}"
        )


def request_for(folder: Path, seed: int) -> BuildRequest:
    """A build of the demo's release of a seed, from its files in `folder`."""
    first_release(load(), seed, range(len(CLASSES))).write(folder)
    return BuildRequest(
        source=str(folder / "model.pt"),
        name="har",
        version="1.0",
        counter=1,
        profiles=(BOARD,),
        calibration=folder / "calibration.npz",
        evaluation=folder / "evaluation.npz",
        out=folder / "first",
        architecture="examples.watch.model:WatchNet",
        classes=CLASSES,
        embedding="embedding",
        probabilities="probabilities",
    )


def exported(request: BuildRequest) -> BuildRequest:
    """The same from an ONNX file, which is exported once: the fp32 artifact of a build that allows no other."""
    folder = request.out.parent
    release = build(replace(request, profiles=("x86-64",), gate=Gate(latency_ratio_max=0.0, agreement_min=0.0)))
    source = folder / "source.onnx"
    source.write_bytes(model_of(release, "x86-64"))
    return replace(request, source=str(source), architecture=None)


def model_of(release: Release, profile: str) -> bytes:
    """The model file of one artifact."""
    index = manifest.Index.decode((release.directory / manifest.INDEX_FILE).read_bytes())
    blobs = release.directory
    artifact = manifest.Manifest.decode((blobs / manifest.blob_path(index.artifacts[profile].digest)).read_bytes())
    layer = next(layer for layer in artifact.device_layers() if layer.role is manifest.Role.MODEL)
    return (blobs / manifest.blob_path(layer.digest)).read_bytes()


def judged(request: BuildRequest, factor: float) -> Verdict:
    """What the report says of the statically quantized candidate."""
    folder = request.out.parent
    with np.load(folder / "calibration.npz") as data:
        np.savez(folder / f"scaled-{factor}.npz", x=(data["x"] * factor).astype(np.float32))
    wanted = replace(request, calibration=folder / f"scaled-{factor}.npz", out=folder / f"release-{factor}")
    listed: list[dict[str, Any]] = build(wanted).report()["profiles"][BOARD]["candidates"]
    found = {entry["name"]: entry for entry in listed}
    entry, source = found[CANDIDATE], found["fp32"]
    drop = source["accuracy"] - entry["accuracy"]
    return Verdict(drop, entry["agreement"], min(entry["sqnr_db"].values()), entry["n"], request.gate)


def table(seeds: range) -> Iterator[str]:
    """The lines of the table, as they are measured."""
    yield f"| seed | factor | n | accuracy, points | agreement | {CANDIDATE}: SQNR dB | accuracy alone | the gate |"
    yield "|---|---|---|---|---|---|---|---|"
    hidden = total = 0
    for seed in seeds:
        with tempfile.TemporaryDirectory() as name:
            request = exported(request_for(Path(name), seed))
            for factor in FACTORS:
                verdict = judged(request, factor)
                total += factor != 1.0
                hidden += factor != 1.0 and verdict.accurate and not verdict.clean
                yield f"| {seed} | {factor:g} | {verdict.n} | {verdict.cells()} |"
    yield ""
    yield f"Accuracy alone lets {hidden} of {total} broken candidates pass that the gate refuses."
    yield f"Right is factor 1; n counts evaluation windows of the training people. Python {platform.python_version()}."


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="The gate on broken calibration data.")
    parser.add_argument("--seeds", default="0-2", help="first-last")
    first, _, last = parser.parse_args().seeds.partition("-")
    torch.set_num_threads(1)
    for line in table(range(int(first), int(last or first) + 1)):
        sys.stdout.write(line + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()

"""The compiler, as a pipeline runs it: `outrider-compiler build` in a process of its own, timed.

`floats` builds for the same boards with fp32 as the only precision: the files that the other tools start from.
"""

from __future__ import annotations

import re
import resource
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from outrider_compiler.release import Release
from outrider_profiles import loader
from outrider_protocol.manifest import Manifest, Role

ROOT: Final = Path(__file__).resolve().parents[3]
FAST, EXACT, LITERT = "x86-64-vnni", "x86-64", "raspberry-pi-5"
BOARDS: Final = (FAST, EXACT, LITERT)
"""The three boards of the demo."""


class BuildFailedError(Exception):
    """The compiler ended with something else than 0; the message holds its words."""


@dataclass(frozen=True)
class Model:
    """What one build starts from; `folder` holds calibration.npz and evaluation.npz and takes the releases."""

    name: str
    weights: Path
    architecture: str
    folder: Path


@dataclass(frozen=True)
class Built:
    """A release, how long it took by the clock, and how much CPU time it and its children used."""

    release: Release
    wall_s: float
    cpu_s: float

    @property
    def profiles(self) -> dict[str, Any]:
        """`profiles` of report.json: candidates and choice for each board."""
        found: dict[str, Any] = self.release.report()["profiles"]
        return found

    def model_file(self, board: str) -> bytes:
        """The model file of one board's artifact."""
        layers = Manifest.decode(self.release.manifest_bytes(board)).device_layers()
        return self.release.blob(next(layer.digest for layer in layers if layer.role is Role.MODEL))


def build(model: Model, boards: tuple[str, ...], out: Path) -> Built:
    """Build a release; raises `BuildFailedError`."""
    asked = [
        *(sys.executable, "-m", "outrider_compiler", "build", str(model.weights)),
        *("--architecture", model.architecture, "--name", model.name, "--version", "1.0", "--counter", "1"),
        *(part for board in boards for part in ("--profile", board)),
        *("--calibration", str(model.folder / "calibration.npz")),
        *("--evaluation", str(model.folder / "evaluation.npz")),
        *("--probabilities", "probabilities", "--embedding", "embedding", "--out", str(out)),
    ]
    began, cpu_before = time.perf_counter(), _children_s()
    done = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=False)
    wall_s, cpu_s = time.perf_counter() - began, _children_s() - cpu_before
    if done.returncode != 0:
        raise BuildFailedError(f"exit status {done.returncode}: {done.stderr[-2000:]}")
    return Built(Release.open(out), wall_s, cpu_s)


def floats(model: Model, out: Path) -> Built:
    """The fp32 files of the fast and the LiteRT board."""
    boards = model.folder / "boards"
    boards.mkdir(exist_ok=True)
    return build(model, tuple(str(_float_only(name, boards)) for name in (FAST, LITERT)), out)


def _float_only(name: str, folder: Path) -> Path:
    text = (loader.BOARDS / f"{name}.toml").read_text("utf-8")
    path = folder / f"{name}.toml"
    path.write_text(re.sub(r"(?m)^precisions = .*$", 'precisions = ["fp32"]', text, count=1), "utf-8")
    return path


def _children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime

"""The pipeline of examples/ci, run for real: docs/spec/report.md."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from examples.ci import make_model, rehearse
from outrider_compiler.release import Release
from tests.architecture.test_text import REGISTRY
from tests.architecture.tree import ROOT

CI = ROOT / "examples/ci"


@pytest.mark.e2e
@pytest.mark.timeout(300)
def test_two_releases_reach_a_server(tmp_path: Path) -> None:
    """CMP-CIP-1: both are listed by the server, signed into one role, rebuilt byte for byte and compared."""
    assert rehearse.rehearse(tmp_path) == ["1.1", "1.2"]
    for out in (tmp_path / "out-1", tmp_path / "out-2"):
        Release.open(out / "release").verify()
        assert ET.parse(out / "junit.xml").getroot().attrib["failures"] == "0"
        assert "## waves 1." in (out / "summary.md").read_text(encoding="utf-8")
        assert "release" in json.loads((out / "build.json").read_bytes())["out"]
        assert not (out / "again").exists()
    role = json.loads((tmp_path / "out-2/role.json").read_bytes())["signed"]
    assert role["version"] == 2
    assert set(role["targets"]) == {f"waves/1.{n}/{name}" for n in (1, 2) for name in rehearse.PROFILES.split()}
    assert "## waves 1.1 and waves 1.2" in (tmp_path / "out-2/comparison.md").read_text(encoding="utf-8")
    assert not (tmp_path / "out-1/comparison.md").exists()


def step(folder: Path, data: Path, counter: int, last: str) -> subprocess.CompletedProcess[str]:
    """The script, with a fleet server that nobody started."""
    asked = {
        "NAME": "waves", "VERSION": f"1.{counter}", "COUNTER": str(counter), "DATA": str(data), "PROFILES": "x86-64",
        "OUT": str(folder / f"out-{counter}"), "PIPELINE_KEY": "key", "FLEET": "http://127.0.0.1:1",
        "OUTRIDER_TOKEN": "token", "LAST": last,
    }  # fmt: skip
    environment = {**os.environ, **asked, "PATH": f"{rehearse.BIN}{os.pathsep}{os.environ['PATH']}"}
    return subprocess.run([CI / "release.sh"], env=environment, capture_output=True, text=True, check=False)


@pytest.mark.e2e
def test_a_worse_release_stops(tmp_path: Path) -> None:
    """CMP-CIP-2: status 4 at the comparison, before anything is signed; without a server it stops at `sign`."""
    make_model.write(tmp_path / "good")
    make_model.write(tmp_path / "poor")
    model = onnx.load_model(tmp_path / "poor/model.onnx")
    head = next(tensor for tensor in model.graph.initializer if tensor.name == "head")
    weights = numpy_helper.to_array(head) * (np.arange(make_model.FEATURES) % 2)[:, None].astype(np.float32)
    head.CopyFrom(numpy_helper.from_array(weights, "head"))
    onnx.save_model(model, tmp_path / "poor/model.onnx")
    first = step(tmp_path, tmp_path / "good", 1, "")
    assert (first.returncode, "== sign" in first.stdout) == (3, True), first.stderr
    second = step(tmp_path, tmp_path / "poor", 2, str(tmp_path / "out-1/release"))
    assert (second.returncode, "== sign" in second.stdout) == (4, False), second.stderr
    assert "B is worse" in (tmp_path / "out-2/comparison.md").read_text(encoding="utf-8")
    assert not list(tmp_path.glob("out-*/role.json"))


def test_the_script_asks_for_what_it_needs() -> None:
    """CMP-CIP-1: a variable that is not set is named."""
    done = subprocess.run(
        [CI / "release.sh"], env={"PATH": os.environ["PATH"]}, capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert "NAME" in done.stderr


@pytest.mark.parametrize("name", ["github-actions.yml", "gitlab-ci.yml"])
def test_the_samples_run_the_script(name: str) -> None:
    """CMP-CIP-3: each gives every variable that the script demands, keeps the summaries, and names no registry."""
    text = (CI / name).read_text("utf-8")
    demanded = re.findall(r'"\$\{(\w+):\?\}"', (CI / "release.sh").read_text("utf-8"))
    assert len(demanded) == 9
    for variable in demanded:
        assert re.search(rf"\b{variable}\b", text), variable
    assert "examples/ci/release.sh" in text
    assert not REGISTRY.search(text)


def test_the_model_is_the_same_each_time(tmp_path: Path) -> None:
    """CMP-CIP-1: another process gives the same files, another seed another model on the same evaluation set."""
    for name, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        command = [sys.executable, "-m", "examples.ci.make_model", str(tmp_path / name), "--seed", seed]
        subprocess.run(command, cwd=ROOT, check=True)
    a, b, c = ({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in "abc")
    assert a["model.onnx"] == b["model.onnx"] != c["model.onnx"]
    assert a["evaluation.npz"] == c["evaluation.npz"]

"""What an onlooker of a build learns, and what people see of it."""

from __future__ import annotations

import io
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console as Terminal
from rich.progress import Progress as Bars

from outrider_compiler import GateError, build
from outrider_compiler.console import Bar
from outrider_compiler.outcome import Outcome
from outrider_compiler.request import Gate
from tests.compiler.conftest import Kit


class Onlooker:
    """Writes down everything."""

    def __init__(self) -> None:
        self.stages: list[str] = []
        self.steps: dict[str, list[tuple[int, int]]] = {}
        self.outcomes: list[Outcome] = []

    def say(self, text: str) -> None:
        self.stages.append(text)

    def step(self, done: int, total: int) -> None:
        self.steps.setdefault(self.stages[-1], []).append((done, total))

    def outcome(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)


def test_stages_steps_and_outcomes_are_told(kit: Kit, tmp_path: Path) -> None:
    """CMP-PRG-2: each profile is built, measured and decided; steps rise to less than their total."""
    seen = Onlooker()
    build(kit.request(tmp_path / "out", precisions=("fp16",), profiles=("x86-64", "x86-64-vnni")), seen)
    assert [item.profile for item in seen.outcomes] == ["x86-64", "x86-64-vnni"]
    for name in ("x86-64", "x86-64-vnni"):
        assert [text for text in seen.stages if text.startswith(f"{name}:")] == [
            f"{name}: building candidates", f"{name}: measuring 2 candidates", f"{name}: layer by layer",
        ]  # fmt: skip
        for steps in (seen.steps[f"{name}: building candidates"], seen.steps[f"{name}: measuring 2 candidates"]):
            assert steps == [(0, 2), (1, 2)]


def test_the_refused_outcome_is_told(kit: Kit, tmp_path: Path) -> None:
    """CMP-PRG-2: figures and refusals of a failed gate reach the onlooker before the error."""
    seen = Onlooker()
    with pytest.raises(GateError):
        build(kit.request(tmp_path / "out", precisions=("fp16",), gate=Gate(agreement_min=1.1)), seen)
    (told,) = seen.outcomes
    assert (told.profile, told.json()["status"]) == ("x86-64-vnni", "refused")
    assert all(told.refusals[item.name] for item in told.figures)


def command(kit: Kit, out: Path) -> list[str]:
    """A build with JSON on stdout."""
    options = ["--name", "waves", "--version", "1", "--counter", "1", "--profile", "x86-64", "--precision", "fp16"]
    data = ["--calibration", str(kit.calibration), "--evaluation", str(kit.evaluation), "--out", str(out), "--json"]
    return [sys.executable, "-m", "outrider_compiler", "build", str(kit.model), *options, *data]


def test_a_terminal_shows_a_bar(kit: Kit, tmp_path: Path) -> None:
    """CMP-PRG-1: stages and counts move on the terminal, what was decided stays; stdout holds the document alone."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "120"}
    with (tmp_path / "stdout").open("wb") as stdout:
        process = subprocess.Popen(command(kit, tmp_path / "out"), stdout=stdout, stderr=theirs, env=environment)
        os.close(theirs)
        shown = b""
        try:
            while part := os.read(ours, 65536):
                shown += part
        except OSError:  # the other end is closed
            pass
    os.close(ours)
    assert process.wait(60) == 0
    text = shown.decode()
    for said in ("measuring 2 candidates", "0/2", "profiles", "1/1", "x86-64: f"):
        assert said in text
    assert (tmp_path / "stdout").read_text(encoding="utf-8").startswith('{"out"')


def test_a_log_has_a_line_for_each_stage(kit: Kit, tmp_path: Path) -> None:
    """CMP-PRG-1: where stderr is no terminal there is no escape sequence, and each stage is one line."""
    done = subprocess.run(command(kit, tmp_path / "out"), capture_output=True, text=True, check=True)
    lines = done.stderr.splitlines()
    assert lines[0] == "· reading data and profiles"
    assert "· x86-64: measuring 2 candidates" in lines
    assert "\x1b" not in done.stderr


def test_brackets_in_a_stage_are_no_markup() -> None:
    """CMP-PRG-1: a path with brackets is shown as it is, on a terminal too."""
    screen = io.StringIO()
    with Bars(console=Terminal(file=screen, force_terminal=True, width=200)) as bars:
        bar = Bar(bars, 1)
        bar.say("importing nets[/bold].onnx")
        bar.step(1, 2)
        bar.outcome(Outcome("board[red]", "onnxruntime"))
    assert "importing nets[/bold].onnx" in screen.getvalue()
    assert "board[red]: no artifact" in screen.getvalue()

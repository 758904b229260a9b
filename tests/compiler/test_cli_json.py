"""`--json` on every command, and what a pipeline finds of a build that failed."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from outrider_compiler.cli import main
from outrider_compiler.errors import CompilerError
from tests.compiler.conftest import Kit
from tests.compiler.report.test_summary import cases, check_shape, result


def call(*arguments: object) -> Result:
    """Run the command in this process."""
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def build(kit: Kit, out: Path, *more: object) -> Result:
    """A build of the net for both x86 profiles."""
    profiles = ("--profile", "x86-64", "--profile", "x86-64-vnni")
    data = ("--calibration", kit.calibration, "--evaluation", kit.evaluation)
    named = ("--name", "waves", "--version", "1", "--counter", 1, "--precision", "fp16")
    return call("build", kit.model, *named, *profiles, *data, "--out", out, *more)


def test_every_command_has_it() -> None:
    """CMP-JSN-1: no command is left out."""
    assert {"build", "check", "inspect", "compare", "profiles", "sign", "publish", "bench"} <= set(main.commands)
    for name, command in main.commands.items():
        assert "--json" in {option for parameter in command.params for option in parameter.opts}, name


@pytest.mark.parametrize(
    ("arguments", "error", "status"),
    [
        (("inspect", "nowhere"), "LayoutError", 3),
        (("compare", "nowhere", "neither"), "LayoutError", 3),
        (("check", "gone.onnx", "--profile", "x86-64"), "SourceError", 3),
        (("check", "gone.onnx", "--profile", "no-such-board"), "UsageError", 2),
        (("profiles", "no-such-board"), "UsageError", 2),
        (("sign", "nowhere", "--key", "k", "--out", "o"), "LayoutError", 3),
        (("publish", "nowhere", "--server", "ftp://x", "--token", "t", "--metadata", "gone"), "UsageError", 2),
        (("bench", "nowhere", "--profile", "x86-64", "--out", "o"), "LayoutError", 3),
        (("build", "x.onnx"), "UsageError", 2),
        (("build", "--no-such-option"), "UsageError", 2),
        (("no-such-command",), "UsageError", 2),
    ],
)
def test_errors_are_one_document(arguments: tuple[str, ...], error: str, status: int) -> None:
    """CMP-JSN-1: class, words, hint and status on stdout, words on stderr; without --json stdout is empty."""
    done = call(*arguments, "--json")
    value = json.loads(done.stdout)
    assert (done.exit_code, value["error"], value["exit_code"]) == (status, error, status)
    assert value.keys() == {"error", "message", "hint", "exit_code"}
    assert value["message"]
    assert value["hint"]
    assert done.stderr
    assert call(*arguments).stdout == ""


def test_every_error_can_be_a_document() -> None:
    """CMP-JSN-1: whatever class it has."""
    kinds = [CompilerError]
    for kind in kinds:
        kinds += kind.__subclasses__()
        value = kind("said", "do this").json()
        assert value == {"error": kind.__name__, "message": "said", "hint": "do this", "exit_code": kind.exit_code}
        assert json.loads(json.dumps(value)) == value
    assert len(kinds) > 8


def test_a_failed_gate_leaves_its_figures(kit: Kit, tmp_path: Path) -> None:
    """CMP-SUM-4, CMP-SUM-5: status 4, no release, and JUnit and Markdown with what was measured before it ended."""
    files = ("--junit", tmp_path / "junit.xml", "--markdown", tmp_path / "summary.md")
    done = build(kit, tmp_path / "out", "--gate", "sqnr_min_db=1000", *files, "--json")
    assert (done.exit_code, json.loads(done.stdout)["error"]) == (4, "GateError")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["junit.xml", "summary.md"]
    root = ET.parse(tmp_path / "junit.xml").getroot()
    check_shape(root)
    found = {key: result(value[0]) for key, value in cases(root).items()}
    assert found["build", "release"] == found["x86-64", "artifact"] == "failure"
    assert found["x86-64", "limit sqnr_min_db"] == "failure"
    assert found["x86-64", "limit agreement_min"] == "passed"
    assert found["x86-64", "fp32"] == found["x86-64", "fp16"] == "skipped"
    assert found["x86-64-vnni", "artifact"] == "skipped"
    text = (tmp_path / "summary.md").read_text(encoding="utf-8")
    for said in (
        "**No release** (GateError, exit status 4)",
        "`fp16`",
        "at least 1000 dB",
        "Not reached: `x86-64-vnni`",
    ):
        assert said in text


def test_a_wrong_request_leaves_summaries_too(kit: Kit, tmp_path: Path) -> None:
    """CMP-SUM-4: a build that ends before any profile is a failure in both, its status unchanged."""
    (tmp_path / "out").mkdir()
    done = build(kit, tmp_path / "out", "--junit", tmp_path / "junit.xml", "--markdown", tmp_path / "summary.md")
    assert done.exit_code == 2
    root = ET.parse(tmp_path / "junit.xml").getroot()
    check_shape(root)
    assert {key: result(value[0]) for key, value in cases(root).items()} == {
        ("build", "release"): "failure", ("x86-64", "artifact"): "skipped", ("x86-64-vnni", "artifact"): "skipped",
    }  # fmt: skip
    assert "exists already" in (tmp_path / "summary.md").read_text(encoding="utf-8")


def test_a_good_build_has_good_summaries(kit: Kit, tmp_path: Path) -> None:
    """CMP-SUM-1, CMP-SUM-4: no failure, a case for every candidate, and the chosen one in the table."""
    done = build(
        kit, tmp_path / "out", "--junit", tmp_path / "junit.xml", "--markdown", tmp_path / "summary.md", "--json"
    )
    assert done.exit_code == 0, done.stderr
    root = ET.parse(tmp_path / "junit.xml").getroot()
    check_shape(root)
    assert root.attrib["failures"] == "0"
    found = cases(root)
    text = (tmp_path / "summary.md").read_text(encoding="utf-8")
    for name, profile in json.loads(done.stdout)["profiles"].items():
        assert {(name, item["name"]) for item in profile["candidates"]} <= set(found)
        assert f"| `{name}` | `{profile['chosen']}` |" in text


@pytest.mark.parametrize("option", ["--junit", "--markdown"])
def test_a_place_that_cannot_be_written_is_said_first(kit: Kit, tmp_path: Path, option: str) -> None:
    """CMP-SUM-4: status 2 before anything is read."""
    for place in (tmp_path / "gone" / "file", tmp_path):
        done = build(kit, tmp_path / "out", option, place)
        assert done.exit_code == 2
        assert "reading data" not in done.stderr

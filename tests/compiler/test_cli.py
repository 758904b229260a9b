"""The command line, as a pipeline sees it: exit status, stdout, stderr."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner, Result

from outrider_compiler.cli import main
from outrider_compiler.release import Release
from outrider_protocol import signing
from tests.compiler.conftest import Kit


def call(*arguments: object) -> Result:
    """Run the command in this process."""
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def building(kit: Kit, out: Path, *more: object, **changes: object) -> Result:
    """`build` with one profile."""
    values = {
        "model": kit.model,
        "calibration": kit.calibration,
        "evaluation": kit.evaluation,
        "profile": "x86-64",
        **changes,
    }
    model = values.pop("model")
    options = [part for name, value in values.items() for part in (f"--{name}", value)]
    return call("build", model, "--name", "waves", "--version", "1", "--counter", 1, "--out", out, *options, *more)


def test_done_is_0_and_json_is_alone_on_stdout(kit: Kit, tmp_path: Path) -> None:
    """CMP-CLI-1: with --json stdout is one document, progress goes to stderr, the status is 0."""
    done = building(kit, tmp_path / "out", "--json", "--classes", "a,b,c,d")
    assert done.exit_code == 0, done.stderr
    value = json.loads(done.stdout)
    assert value["profiles"]["x86-64"]["status"] == "built"
    assert value["request"]["classes"] == ["a", "b", "c", "d"]
    assert "measuring" in done.stderr


@pytest.mark.parametrize(
    "changes",
    [
        {"profile": "no-such-board"},
        {"classes": "a,b"},
        {"embedding": "ghost"},
        {"task": "divination"},
        {"provenance": "gone.json"},
    ],
)
def test_usage_is_2(kit: Kit, tmp_path: Path, changes: dict[str, str]) -> None:
    """CMP-CLI-2: a wrong request is status 2 with a hint, and nothing is written."""
    done = building(kit, tmp_path / "out", **changes)
    assert done.exit_code == 2
    assert "hint:" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["build", "sign", "compare"])
def test_a_place_that_cannot_be_used_is_2(kit: Kit, release: Release, tmp_path: Path, command: str) -> None:
    """CMP-CLI-2: a folder that takes no file ends in a named error with a hint, not in Python's own words."""
    signing.save_private(signing.generate(), tmp_path / "key.pem")
    done = {
        "build": lambda: building(kit, Path("/proc/release")),
        "sign": lambda: call("sign", release.directory, "--key", tmp_path / "key.pem", "--out", "."),
        "compare": lambda: call("compare", release.directory, release.directory, "--markdown", "/proc/x.md"),
    }[command]()
    assert (done.exit_code, type(done.exception)) == (2, SystemExit)
    assert done.stderr.splitlines()[-2].startswith("UsageError: ")
    assert done.stderr.splitlines()[-1].startswith("hint: ")


def test_options_of_click_are_2_too() -> None:
    """CMP-CLI-2: a missing option is status 2."""
    assert call("build", "x.onnx").exit_code == 2


def test_refused_is_3(kit: Kit, tmp_path: Path) -> None:
    """CMP-CLI-3: a file or data that cannot be used is status 3 and named; nothing is written."""
    broken, wrong = tmp_path / "broken.onnx", tmp_path / "wrong.npz"
    broken.write_bytes(b"junk")
    np.savez(wrong, x=np.zeros((5, 7, 6), np.float32))
    before = sorted(tmp_path.iterdir())
    for changes, said in (
        ({"model": broken}, "broken.onnx"),
        ({"calibration": wrong}, "has shape"),
        ({"evaluation": broken}, "broken"),
    ):
        done = building(kit, tmp_path / "out", **changes)
        assert done.exit_code == 3
        assert said in done.stderr
    assert sorted(tmp_path.iterdir()) == before


def test_gate_failed_is_4(kit: Kit, tmp_path: Path) -> None:
    """CMP-CLI-4: a profile whose budget not even fp32 keeps is status 4."""
    text = (Path(__import__("outrider_profiles").__file__).parent / "boards" / "x86-64.toml").read_text(
        encoding="utf-8"
    )
    board = text.replace('name = "x86-64"', 'name = "tiny-board"').replace(
        "[sources]", "[budgets]\nsize_bytes = 10\n\n[sources]\nbudgets = 'a test'"
    )
    (tmp_path / "tiny-board.toml").write_text(board, encoding="utf-8")
    done = building(kit, tmp_path / "out", profile=tmp_path / "tiny-board.toml")
    assert done.exit_code == 4
    assert "the profile's budget is 10" in done.stderr
    assert not (tmp_path / "out").exists()


def test_help_loads_nothing_heavy() -> None:
    """CMP-CLI-5: `--help` imports neither torch nor onnx, onnxruntime, numpy or jinja2."""
    code = (
        "import sys\nfrom outrider_compiler.cli import main\n"
        "try:\n    main(['build', '--help'])\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'onnx', 'onnxruntime', 'numpy', 'jinja2', 'rich'} & set(sys.modules)\n"
        "sys.exit(f'{heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_check_says_which_profile_runs_a_model(kit: Kit, tmp_path: Path) -> None:
    """CMP-CLI-6: `check` builds nothing, names the node, and is status 3 where a profile refuses."""
    assert call("check", kit.model, "--profile", "x86-64").exit_code == 0
    model = onnx.load_model(kit.model)
    model.graph.node[2].domain = "com.acme"
    model.opset_import.add(domain="com.acme", version=1)
    onnx.save_model(model, tmp_path / "acme.onnx")
    done = call("check", tmp_path / "acme.onnx", "--profile", "x86-64", "--profile", "raspberry-pi-5", "--json")
    assert done.exit_code == 3
    verdicts = json.loads(done.stdout)
    assert set(verdicts) == {"x86-64", "raspberry-pi-5"}
    assert "node_conv0" in verdicts["x86-64"]["reason"]


def test_inspect_describes_a_verified_release(release: Release) -> None:
    """CMP-CLI-7: `inspect` verifies, then says model, version, counter and artifacts."""
    value = json.loads(call("inspect", release.directory, "--json").stdout)
    assert (value["model"], value["version"], value["counter"]) == ("waves", "1.0", 1)
    assert set(value["artifacts"]["x86-64"]["files"]) == {"model.onnx", "labels.json", "golden.bin", "statistics.json"}
    assert "waves 1.0" in call("inspect", release.directory).stdout


def test_profiles_are_listed() -> None:
    """CMP-CLI-8: `profiles` lists the boards, for people and for programs."""
    assert "raspberry-pi-5" in call("profiles").stdout
    assert json.loads(call("profiles", "--json").stdout)["x86-64"]["architecture"] == "x86_64"


def test_one_profile_is_shown_with_its_sources(tmp_path: Path) -> None:
    """CMP-CLI-8: `profiles NAME` shows every figure and its source, of a file too; an unknown name is status 2."""
    from outrider_profiles import load
    from outrider_profiles.loader import BOARDS

    board = load("jetson-orin-nano")
    shown = call("profiles", "jetson-orin-nano").stdout
    assert all(source in shown for source in board.sources.values())
    for said in (
        "TensorrtExecutionProvider (trt_fp16_enable=1",
        "→ CUDAExecutionProvider",
        "13 to 19",
        "symmetric yes",
    ):
        assert said in shown
    value = json.loads(call("profiles", "jetson-orin-nano", "--json").stdout)
    assert value["jetson-orin-nano"]["install"]["packages"] == ["onnxruntime-gpu==1.23.2", "numpy==2.2.6"]
    text = (BOARDS / "armv7.toml").read_text(encoding="utf-8").replace('name = "armv7"', 'name = "own"')
    (tmp_path / "own.toml").write_text(text, encoding="utf-8")
    assert call("profiles", tmp_path / "own.toml").stdout.startswith("own: 32-bit Arm")
    assert call("profiles", "jetson-nano").exit_code == 2


def test_sign_writes_the_role(release: Release, tmp_path: Path) -> None:
    """CMP-CLI-9: `sign` writes the role whole or not at all."""
    signing.save_private(signing.generate(), tmp_path / "key.pem")
    done = call("sign", release.directory, "--key", tmp_path / "key.pem", "--out", tmp_path / "waves.json")
    assert done.exit_code == 0, done.stderr
    assert "waves/1.0/x86-64" in (tmp_path / "waves.json").read_text(encoding="utf-8")
    failed = call("sign", release.directory, "--key", tmp_path / "gone.pem", "--out", tmp_path / "other.json")
    assert (failed.exit_code, (tmp_path / "other.json").exists()) == (2, False)

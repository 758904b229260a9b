"""A build reaches for no network: neither it nor what it calls, in any of its processes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.compiler.conftest import Kit
from tests.compiler.test_litert import ARCHITECTURE

WATCHER = """
import os, sys
def note(event, arguments):
    if event.startswith("socket.") and event not in ("socket.__new__", "socket.gethostname"):
        with open(os.environ["OUTRIDER_TEST_NOTES"], "a") as file:
            file.write(f"{event} {arguments[1:]}\\n")
sys.addaudithook(note)
"""


def command(kit: Kit, folder: Path, source: str) -> list[str]:
    """A build of an ONNX file or of a torch module, for ONNX Runtime and LiteRT."""
    return [
        sys.executable, "-m", "outrider_compiler", "build", source, "--name", "waves", "--version", "1.0",
        "--counter", "1", "--profile", "x86-64", "--calibration", str(kit.calibration),
        "--evaluation", str(kit.evaluation), "--out", str(folder / "out"), "--gate", "agreement_min=0",
    ]  # fmt: skip


@pytest.mark.timeout(240)
@pytest.mark.parametrize("kind", ["onnx", "torch"])
def test_no_process_opens_a_connection(kit: Kit, tmp_path: Path, kind: str) -> None:
    """CMP-NET-1: an audit hook in every Python process of a build sees no use of the network."""
    (tmp_path / "sitecustomize.py").write_text(WATCHER, encoding="utf-8")
    (tmp_path / "net_of_test.py").write_text(
        ARCHITECTURE.replace("def make():", "def make():  # a net"), encoding="utf-8"
    )
    notes = tmp_path / "notes"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "OUTRIDER_TEST_NOTES": str(notes)}
    probe = "import socket; socket.socket().connect_ex(('127.0.0.1', 1))"
    subprocess.run([sys.executable, "-c", probe], env=environment, check=True)
    assert "socket.connect" in notes.read_text(encoding="utf-8")
    notes.unlink()
    source = str(kit.model) if kind == "onnx" else "net_of_test:make"
    done = subprocess.run(
        command(kit, tmp_path, source), cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode in ((0,) if kind == "onnx" else (0, 4)), done.stderr
    assert not notes.exists(), notes.read_text(encoding="utf-8")


def test_a_build_needs_no_network(kit: Kit, tmp_path: Path) -> None:
    """CMP-NET-2: with no network interface at all a build is what it is with one."""
    unshare = shutil.which("unshare")
    cut = [str(unshare), "--net", "--map-root-user"]
    if unshare is None or subprocess.run([*cut, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("no network namespace can be made here")
    done = subprocess.run([*cut, *command(kit, tmp_path, str(kit.model))], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

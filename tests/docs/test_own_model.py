"""The five commands of the README, run as they stand there."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from outrider_agent.client import Client
from tests.architecture.tree import ROOT

BIN = Path(sys.executable).parent
pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]


def commands() -> list[str]:
    """The README's commands, one for each comment, as they are pasted into one shell: continuation lines joined."""
    block = re.search(r"<!-- own model -->\n```sh\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)
    assert block is not None
    parts = re.split(r"^# .*\n", block[1], flags=re.MULTILINE)[1:]
    return [part.replace("\\\n", " ").strip() for part in parts]


def kept(command: str) -> str:
    """What a command leaves in the shell for those after it: what it exports, unless that went into the background."""
    return "".join(f"{line}\n" for line in command.splitlines() if line.startswith("export ") and "&" not in line)


def write_inputs(folder: Path) -> None:
    """A linear classifier of two classes over eight numbers, and inputs it classifies right."""
    rng = np.random.default_rng(1)
    weights = rng.normal(size=(8, 2)).astype(np.float32)
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
    ]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 8])]
    outputs = [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", 2])]
    graph = helper.make_graph(nodes, "mine", inputs, outputs, [numpy_helper.from_array(weights, "w")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(model, folder / "model.onnx")
    for name, n in (("calibration", 300), ("evaluation", 300), ("sample", 1)):
        x = rng.normal(size=(n, 8)).astype(np.float32)
        labels = {"y": (x @ weights).argmax(1)} if name == "evaluation" else {}
        np.savez(folder / f"{name}.npz", x=x, **labels)


def free_port() -> int:
    """A port nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def shell(command: str, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A command in a shell of its own session; the session is ended on the way out."""
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment = {**inherited, "PATH": f"{BIN}:{os.environ['PATH']}"}
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(
            ["bash", "-c", command], cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True
        )
    try:
        yield process
    finally:
        with ExitStack() as ended:
            ended.callback(process.wait, 30)
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)


def run(command: str, folder: Path) -> str:
    """Run a command to its end; returns what all wrote so far."""
    with shell(command, folder) as process:
        status = process.wait(120)
    log = (folder / "log").read_text("utf-8", "replace")
    assert status == 0, f"{command}\n{log[-3000:]}"
    return log


def wait_until(command: str, folder: Path, within_s: float = 40.0) -> None:
    """Repeat a command until it succeeds."""
    deadline = time.monotonic() + within_s
    while True:
        with shell(command, folder) as process:
            if process.wait(60) == 0:
                return
        assert time.monotonic() < deadline, f"{command}\n{(folder / 'log').read_text('utf-8', 'replace')[-3000:]}"


def ask(folder: Path, times: int) -> None:
    """Send the sample through the local API."""
    with np.load(folder / "sample.npz") as sample, Client(folder / "device/run/mine.sock") as client:
        x = sample["x"]
        for _ in range(times):
            assert client.infer({"x": x}).prediction_ids


def test_the_readmes_five_commands(tmp_path: Path) -> None:
    """ARC-DOC-6: one's own ONNX model reaches a device by the README's five commands and succeeds there."""
    write_inputs(tmp_path)
    port = str(free_port())
    build, fleet, publish, device, rollout = (line.replace("8080", port).rstrip("& ") for line in commands())
    run(build, tmp_path)
    with shell(fleet, tmp_path):
        wait_until("test -e fleet/run/endpoints.json", tmp_path)
        run(publish, tmp_path)
        with shell(device, tmp_path):
            after = kept(device)
            wait_until(f"{after}outrider-agent status --json | grep -q '\"connected\": true'", tmp_path)
            run(rollout, tmp_path)
            wait_until(f"{after}outrider-agent predict sample.npz", tmp_path)
            ask(tmp_path, 30)
            wait_until("outrider-fleet --home fleet rollout list --json | grep -q '\"completed\"'", tmp_path)
    current = json.loads((tmp_path / "device/var/update.json").read_text("utf-8"))["current"]
    assert (current["model"], current["release"]) == ("mine", "1.0")

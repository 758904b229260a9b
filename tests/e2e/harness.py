"""Real processes for end-to-end tests: a fleet server with its broker, agents, and a small model.

1. Every process is started by its own command line and ended by its process id.
2. Nothing sleeps for luck: `eventually` polls a condition until a deadline and says what it last saw.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

BIN = Path(sys.executable).parent
MOSQUITTO = shutil.which("mosquitto", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def command(name: str, *args: str) -> list[str]:
    """The argument list of one of the project's commands, from the same environment as this interpreter."""
    return [str(BIN / name), *args]


def run(name: str, *args: str, **env: str) -> str:
    """Run a command to its end; its output, or an AssertionError that shows both streams."""
    done = subprocess.run(
        command(name, *args),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, **ONE_THREAD, **env},
    )
    assert done.returncode == 0, f"{name} {' '.join(args)}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def eventually(look: Callable[[], Any], what: str, timeout_s: float = 60.0) -> Any:
    """Poll `look` until it returns something true; the time between two looks grows to 50 ms."""
    deadline, pause_s, seen = time.monotonic() + timeout_s, 0.001, None
    while time.monotonic() < deadline:
        seen = look()
        if seen:
            return seen
        time.sleep(pause_s)
        pause_s = min(0.05, pause_s * 1.5)
    raise AssertionError(f"{what}: not within {timeout_s} s; last seen {seen!r}")


@dataclass
class Process:
    """One long-running command with a log file."""

    args: list[str]
    log: Path
    env: dict[str, str] = field(default_factory=dict)
    popen: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; output is appended to the log."""
        with self.log.open("ab") as file:
            self.popen = subprocess.Popen(
                self.args,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                env={**os.environ, **ONE_THREAD, **self.env},
            )

    def kill(self) -> None:
        """SIGKILL: no chance to tidy up."""
        assert self.popen is not None
        self.popen.send_signal(signal.SIGKILL)
        self.popen.wait()

    def stop(self) -> None:
        """SIGTERM, and SIGKILL when it does not end."""
        if self.popen is None or self.popen.poll() is not None:
            return
        self.popen.terminate()
        try:
            self.popen.wait(20)
        except subprocess.TimeoutExpired:
            self.kill()
            raise

    def tail(self) -> str:
        """The end of the log."""
        return self.log.read_text("utf-8", "replace")[-3000:] if self.log.exists() else ""


class Fleet:
    """A fleet server on free loopback ports; `like` is the directory of a stopped one, of which this is a copy."""

    def __init__(self, directory: Path, *options: str, like: Path | None = None) -> None:
        self.home, self.offline = directory / "fleet", directory / "offline"
        self.pipeline_key = directory / "pipeline.pem"
        if like is None:
            self._found()
        else:
            shutil.copytree(like, directory, dirs_exist_ok=True, ignore=shutil.ignore_patterns("ports.json"))
        up = ("up", "--http-port", "0", "--mqtt-port", "0", "--no-runner", *options)
        self.process = Process(command("outrider-fleet", "--home", str(self.home), *up), directory / "fleet.log")

    def _found(self) -> None:
        made = ("--name", "e2e", "--offline", str(self.offline), "--without-passphrase")
        run("outrider-fleet", "init", str(self.home), *made)
        run("outrider-fleet", "trust", "pipeline-key", str(self.pipeline_key))
        self.cli("trust", "delegate", "tiny", "--key", f"{self.pipeline_key}.pub", "--offline", str(self.offline))

    def start(self) -> None:
        """Start it and wait until it answers."""
        (self.home / "run/endpoints.json").unlink(missing_ok=True)
        self.process.start()
        eventually(self._healthy, f"fleet server ready\n{self.process.tail()}", 40)

    def _healthy(self) -> bool:
        assert self.process.popen is not None
        assert self.process.popen.poll() is None, self.process.tail()
        path = self.home / "run/endpoints.json"
        return path.exists()

    @property
    def endpoints(self) -> dict[str, Any]:
        """Addresses and process ids."""
        return dict(json.loads((self.home / "run/endpoints.json").read_text()))

    def cli(self, *args: str) -> str:
        """Run `outrider-fleet` on this home."""
        return run("outrider-fleet", "--home", str(self.home), *args)

    def ask(self, *args: str) -> Any:
        """Run a command with `--json` and decode it."""
        return json.loads(self.cli(*args, "--json"))

    def rollout(self, version: str, *options: str) -> str:
        """Start a rollout of the model `tiny` to all devices at once; its id."""
        plan = options or ("--phase", "all=100%", "--parameter", "probation_windows=3")
        return str(self.ask("rollout", "create", "tiny", version, *plan)["id"])

    def publish(self, layout: Path) -> None:
        """Sign a built release with the pipeline's key and publish it."""
        token = self.cli("token", "create", "--kind", "pipeline").strip()
        metadata, server = self.home.parent / f"{layout.name}.role.json", self.endpoints["api"]
        current = self._current_role(metadata.with_suffix(".current"))
        run("outrider-compiler", "sign", str(layout), "--key", str(self.pipeline_key), *current, "--out", str(metadata))
        options = ("--server", server, "--metadata", str(metadata), "--token", token)
        run("outrider-compiler", "publish", str(layout), *options)

    def _current_role(self, path: Path) -> tuple[str, ...]:
        """The option that names the published role of the model, where there is one."""
        answer = httpx.get(f"{self.endpoints['api']}/api/v1/trust/tiny.json", trust_env=False)
        if answer.status_code == httpx.codes.NOT_FOUND:
            return ()
        path.write_bytes(answer.raise_for_status().content)
        return ("--metadata", str(path))


class Device:
    """One agent with its own directory."""

    def __init__(self, directory: Path, fleet: Fleet, name: str) -> None:
        self.name, self.home, self.env = name, directory / name, {"OUTRIDER_HOME": str(directory / name)}
        token = fleet.cli("token", "create", "--kind", "device").strip()
        root = fleet.home / "trust" / "root.json"
        args = ("enrol", "--server", fleet.endpoints["api"], "--token", token, "--device", name)
        run("outrider-agent", *args, "--profile", "x86-64", "--trust-root", str(root), **self.env)
        self.process = Process(command("outrider-agent", "run"), directory / f"{name}.log", self.env)

    def start(self) -> None:
        """Start the agent."""
        self.process.start()

    def update_state(self) -> dict[str, Any]:
        """update.json, or an empty object before the first save."""
        path = self.home / "var" / "update.json"
        return dict(json.loads(path.read_text())) if path.exists() else {}

    def stage(self) -> str:
        """The stage of the current execution."""
        return str((self.update_state().get("execution") or {}).get("stage", ""))

    def feed(self, n: int, seed: int = 0) -> list[str]:
        """Send `n` inferences through the local API; the prediction ids."""
        from outrider_agent.client import Client

        rng = np.random.default_rng(seed)
        identifiers: list[str] = []
        with Client(self.home / "run" / "tiny.sock") as client:
            for _ in range(n):
                identifiers += client.infer({"x": rng.normal(size=(1, 8)).astype(np.float32)}).prediction_ids
        return identifiers


@contextmanager
def running(*processes: Process) -> Iterator[None]:
    """Stop the processes at the end, whatever happened."""
    try:
        yield
    finally:
        for process in processes:
            process.stop()


def tiny_model(path: Path, seed: int, padding: int = 0) -> onnx.ModelProto:
    """A two-class net on eight inputs; `padding` more weights make the file larger."""
    rng = np.random.default_rng(seed)
    weights = {
        "w1": rng.normal(size=(8, 16)).astype(np.float32),
        "w2": rng.normal(size=(16, 2)).astype(np.float32),
        "b": np.zeros(2, np.float32),
    }
    nodes = [
        helper.make_node("MatMul", ["x", "w1"], ["h"]),
        helper.make_node("Relu", ["h"], ["embedding"]),
        helper.make_node("Gemm", ["embedding", "w2", "b"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
    ]
    if padding:
        weights |= {"p1": rng.normal(size=(16, padding)).astype(np.float32), "p2": np.zeros((padding, 2), np.float32)}
        nodes[2:3] = [
            helper.make_node("MatMul", ["embedding", "p1"], ["wide"]),
            helper.make_node("MatMul", ["wide", "p2"], ["nothing"]),
            helper.make_node("Gemm", ["embedding", "w2", "b"], ["plain"]),
            helper.make_node("Add", ["plain", "nothing"], ["logits"]),
        ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 8])],
        [
            helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", 2]),
            helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["N", 16]),
        ],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return model


def build(directory: Path, version: str, counter: int, padding: int = 0) -> Path:
    """Compile one release of the model `tiny` for x86-64; every version is a slightly different model."""
    import onnxruntime

    source, layout = directory / f"tiny-{version}.onnx", directory / f"release-{version}"
    tiny_model(source, seed=7, padding=padding)
    rng = np.random.default_rng(counter)
    calibration, evaluation = (rng.normal(size=(n, 8)).astype(np.float32) for n in (200, 300))
    session = onnxruntime.InferenceSession(source, providers=["CPUExecutionProvider"])
    truth = session.run(["probabilities"], {"x": evaluation})[0].argmax(1)
    np.savez(directory / "calib.npz", x=calibration)
    np.savez(directory / "eval.npz", x=evaluation, y=truth)
    data = ("--calibration", str(directory / "calib.npz"), "--evaluation", str(directory / "eval.npz"))
    names = ("--name", "tiny", "--version", version, "--counter", str(counter), "--profile", "x86-64")
    extra = ("--task", "classification", "--classes", "no,yes", "--embedding", "embedding", "--out", str(layout))
    run("outrider-compiler", "build", str(source), *names, *data, *extra)
    return layout

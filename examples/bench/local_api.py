"""Added latency of the local API beside FastAPI with JSON: `python -m examples.bench.local_api [--rounds N]`.

Three ways to the same ONNX model, asked in turn within one run, so that a busy machine harms all alike:

- `direct`: ONNX Runtime in this process: what the model itself costs;
- `outrider`: the worker process over its Unix socket, binary tensors, `outrider_agent.client.Client`;
- `fastapi`: FastAPI on uvicorn over a Unix socket, JSON lists, a kept connection.

Added latency is the median of a way minus the median of `direct` in the same round; the table gives the median over
rounds and its spread (least to greatest). The artifact ships no reference statistics: what is timed is the way there
and back. Absolute times belong to the machine; compare within one run only. `--one-cpu` keeps every process on one CPU:
on virtual machines waking a halted CPU costs more (here about 80 µs) than the whole answer.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import platform
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from outrider_agent import control
from outrider_agent.client import Client
from outrider_agent.control import Decoder, frame
from outrider_protocol import ids, manifest

SIZES: dict[str, tuple[int, ...]] = {"64 floats": (8, 8), "150k floats": (224, 224, 3)}
CALLS = {"64 floats": 200, "150k floats": 20}
SLOW_CALLS = {"64 floats": 60, "150k floats": 3}
TOML = '[device]\nid = "bench"\nprofile = "x86-64"\n[broker]\nhost = "127.0.0.1"\nport = 1\n'


def model_bytes(shape: tuple[int, ...]) -> bytes:
    """Input x [N, …, C] → probabilities [N, 2]: as little work as a model can do."""
    weights = numpy_helper.from_array(np.ones((shape[-1], 2), np.float32), "w")
    axes = numpy_helper.from_array(np.arange(1, len(shape), dtype=np.int64), "axes")
    nodes = [
        helper.make_node("ReduceMean", ["x", "axes"], ["mean"], keepdims=0),
        helper.make_node("MatMul", ["mean", "w"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
    ]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", *shape])]
    outputs = [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", 2])]
    graph = helper.make_graph(nodes, "bench", inputs, outputs, [weights, axes])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def write_artifact(directory: Path, shape: tuple[int, ...]) -> Path:
    """An artifact's directory as the update process leaves it; the model file's path."""
    directory.mkdir(parents=True)
    model = model_bytes(shape)
    config = manifest.Config(
        model="bench",
        version="1.0",
        counter=1,
        profile="x86-64",
        engine="onnxruntime",
        precision="fp32",
        inputs=(manifest.TensorSpec("x", "float32", (-1, *shape)),),
        outputs=(manifest.TensorSpec("probabilities", "float32", (-1, 2)),),
        probabilities="probabilities",
        classes=("a", "b"),
    ).encode()
    layer = manifest.device_layer(manifest.Role.MODEL, "model.onnx", model)
    described = manifest.Descriptor(manifest.CONFIG_TYPE, ids.digest_of(config), len(config))
    (directory / "manifest.json").write_bytes(manifest.Manifest(described, (layer,), {}).encode())
    (directory / "config.json").write_bytes(config)
    (directory / "model.onnx").write_bytes(model)
    return directory / "model.onnx"


class Supervisor:
    """As much of the supervisor as a worker needs: it lends sequences and throws batches away."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock, self._decoder, self._seq = sock, Decoder(), 0
        self.serving = False

    def run(self, until: Callable[[], bool]) -> None:
        """Obey the worker until a condition holds."""
        while not until():
            data = self._sock.recv(1 << 16)
            if not data:
                raise SystemExit("the worker ended before it was ready")
            for message in self._decoder.feed(data):
                self._obey(message.op)

    def _obey(self, op: str) -> None:
        if op in {"ready", "batch"}:
            self._seq += 1
            self._sock.sendall(frame("lease", {"outbox_id": "0" * 16, "seq": self._seq}))
        if op == "ready":
            self._sock.sendall(frame("serve"))
            self.serving = True


def supervise(control_fd: int) -> None:
    """The body of the process that stands for the supervisor."""
    supervisor = Supervisor(socket.socket(fileno=control_fd))
    supervisor.run(lambda: False)


@contextmanager
def outrider(home: Path, artifact: Path) -> Iterator[Client]:
    """A worker process behind its Unix socket."""
    (home / "etc").mkdir(parents=True)
    (home / "etc" / "agent.toml").write_text(TOML)
    address = home / "bench.sock"
    mine, its = socket.socketpair()
    with socket.socket(socket.AF_UNIX) as listener, ExitStack() as ending:
        listener.bind(str(address))
        listener.listen(16)
        environment = {
            **os.environ,
            "OUTRIDER_HOME": str(home),
            control.CONTROL_FD: str(its.fileno()),
            control.LISTEN_FD: str(listener.fileno()),
        }
        command = ["-m", "outrider_agent.worker", "--artifact", str(artifact), "--model", "bench", "--role", "serve"]
        started = [sys.executable, *command]
        worker = subprocess.Popen(started, env=environment, pass_fds=(its.fileno(), listener.fileno()))
        ending.callback(_end, worker)
        its.close()
        lender = [sys.executable, __file__, "--supervise", str(mine.fileno())]
        ending.callback(_end, subprocess.Popen(lender, pass_fds=(mine.fileno(),)))
        mine.close()
        with Client(address) as client:
            yield client


@contextmanager
def fastapi(home: Path, model: Path) -> Iterator[http.client.HTTPConnection]:
    """FastAPI and uvicorn in a process of their own, behind a Unix socket."""
    address = home / "fastapi.sock"
    process = subprocess.Popen([sys.executable, __file__, "--fastapi", str(address), str(model)])
    try:
        connection = http.client.HTTPConnection("bench")
        connection.sock = _wait_for(address)
        yield connection
    finally:
        _end(process)


def serve_fastapi(address: str, model: str) -> None:
    """The application that the table compares with, as its own documentation would write it."""
    import uvicorn
    from fastapi import FastAPI
    from pydantic import BaseModel

    session = onnxruntime.InferenceSession(model, _one_thread(), providers=["CPUExecutionProvider"])
    app = FastAPI()

    class Window(BaseModel):
        shape: list[int]
        data: list[float]

    def infer(window: Window) -> dict[str, Any]:
        x = np.array(window.data, np.float32).reshape(window.shape)
        return {"probabilities": session.run(None, {"x": x})[0].tolist()}

    infer.__annotations__["window"] = Window
    app.post("/infer")(infer)
    uvicorn.run(app, uds=address, log_level="warning", access_log=False)


def _one_thread() -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return options


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    process.wait(10)


def _wait_for(address: Path) -> socket.socket:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        sock = socket.socket(socket.AF_UNIX)
        try:
            sock.connect(str(address))
        except OSError:
            sock.close()
            time.sleep(0.05)
            continue
        return sock
    raise SystemExit(f"nobody listens on {address}")


def median_us(call: Callable[[], object], calls: int) -> float:
    """The median time of one call in µs."""
    times = []
    for _ in range(calls):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return statistics.median(times) * 1e6


def ask_fastapi(connection: http.client.HTTPConnection, x: np.ndarray[Any, Any]) -> object:
    """One request, JSON made and read as a client must."""
    body = json.dumps({"shape": list(x.shape), "data": x.ravel().tolist()})
    connection.request("POST", "/infer", body, {"Content-Type": "application/json"})
    return json.loads(connection.getresponse().read())


def measure(name: str, rounds: int) -> dict[str, list[float]]:
    """Added µs of each way in every round, for one size."""
    shape = SIZES[name]
    x = np.random.default_rng(0).normal(size=(1, *shape)).astype(np.float32)
    added: dict[str, list[float]] = {"outrider": [], "fastapi": []}
    with tempfile.TemporaryDirectory(prefix="orb") as made, ExitStack() as stack:
        home = Path(made)
        model = write_artifact(home / "artifact", shape)
        session = onnxruntime.InferenceSession(str(model), _one_thread(), providers=["CPUExecutionProvider"])
        client = stack.enter_context(outrider(home / "agent", model.parent))
        connection = stack.enter_context(fastapi(home, model))
        ways: dict[str, Callable[[], object]] = {
            "outrider": lambda: client.infer({"x": x}),
            "fastapi": lambda: ask_fastapi(connection, x),
        }
        for warmed in ways.values():
            median_us(warmed, 5)
        for _ in range(rounds):
            direct = median_us(lambda: session.run(None, {"x": x}), CALLS[name])
            for way, call in ways.items():
                calls = SLOW_CALLS if way == "fastapi" else CALLS
                added[way].append(median_us(call, calls[name]) - direct)
    return added


def report(results: dict[str, dict[str, list[float]]]) -> str:
    """The table as Markdown."""
    lines = ["| added latency, p50 | local API | FastAPI JSON | ratio |", "|---|---|---|---|"]
    for size, added in results.items():
        cells = [f"{statistics.median(a):,.0f} µs ({min(a):,.0f}–{max(a):,.0f})" for a in added.values()]
        ratio = statistics.median(added["fastapi"]) / statistics.median(added["outrider"])
        lines.append(f"| {size} | {cells[0]} | {cells[1]} | {ratio:.1f}× |")
    return "\n".join(lines)


def main() -> None:
    """Measure, print the table."""
    parser = argparse.ArgumentParser(description="Added latency of the local API beside FastAPI with JSON.")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--one-cpu", action="store_true", help="keep every process on one CPU")
    parser.add_argument("--json", type=Path, help="write every round's figures here")
    parser.add_argument("--fastapi", nargs=2, metavar=("SOCKET", "MODEL"), help=argparse.SUPPRESS)
    parser.add_argument("--supervise", type=int, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.fastapi:
        serve_fastapi(*chosen.fastapi)
        return
    if chosen.supervise is not None:
        supervise(chosen.supervise)
        return
    if chosen.one_cpu:
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    results = {name: measure(name, chosen.rounds) for name in SIZES}
    versions = f"Python {platform.python_version()}, ONNX Runtime {onnxruntime.__version__}, {os.cpu_count()} CPUs"
    sys.stdout.write(f"{report(results)}\n\n{versions}, {chosen.rounds} rounds, median (least–greatest) over rounds.\n")
    if chosen.json:
        chosen.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()

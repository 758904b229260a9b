"""Real parts for worker tests: a small ONNX artifact on disk, a supervisor's end of the channel, a running worker."""

from __future__ import annotations

import os
import select
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from outrider_agent import control
from outrider_agent.control import Decoder, Message, frame, send_with_fds
from outrider_agent.drift import scores
from outrider_protocol import ids, manifest, statistics, telemetry, tensors
from outrider_protocol.prepare import apply
from outrider_protocol.preprocess import Normalise, Preprocess, Scale, Window

CLASSES = ("walk", "run", "rest")
SHAPE = (20, 4)
OUTBOX = "00112233aabbccdd"


def onnx_model(seed: int = 0, slow_loops: int = 0) -> bytes:
    """x [N, 20, 4] → embedding (channel means) [N, 4], probabilities [N, 3]; `slow_loops` products slow it down."""
    rng = np.random.default_rng(seed)
    weights = {"w": rng.normal(size=(4, 3)).astype(np.float32) * 4, "b": np.zeros(3, np.float32)}
    nodes = [
        helper.make_node("ReduceMean", ["x", "axes"], ["embedding"], keepdims=0),
        helper.make_node("Gemm", ["embedding", "w", "b"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["soft"], axis=1),
    ]
    last = "soft"
    if slow_loops:
        nodes += _slow(weights, slow_loops)
        last = "slowed"
    nodes.append(helper.make_node("Identity", [last], ["probabilities"]))
    initial = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    initial.append(numpy_helper.from_array(np.array([1], np.int64), "axes"))
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", *SHAPE])],
        [
            helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", 3]),
            helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["n", 4]),
        ],
        initial,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return bytes(model.SerializeToString())


def _slow(weights: dict[str, Any], loops: int) -> list[Any]:
    weights["big"] = np.full((1200, 1200), 1e-6, np.float32)
    weights["zero"] = np.zeros((), np.float32)
    nodes, last = [], "big"
    # depends on the input, so that it is not folded away
    nodes.append(helper.make_node("ReduceMax", ["x"], ["top"], keepdims=0))
    nodes.append(helper.make_node("Add", ["big", "top"], ["started"]))
    last = "started"
    for step in range(loops):
        nodes.append(helper.make_node("MatMul", [last, "big"], [f"m{step}"]))
        last = f"m{step}"
    nodes.append(helper.make_node("ReduceMax", [last], ["peak"], keepdims=0))
    nodes.append(helper.make_node("Mul", ["peak", "zero"], ["nothing"]))
    nodes.append(helper.make_node("Add", ["soft", "nothing"], ["slowed"]))
    return nodes


def windows(n: int, seed: int = 1, shift: float = 0.0) -> np.ndarray:
    """`n` windows of noise around one of three centres."""
    rng = np.random.default_rng(seed)
    centre = np.eye(4)[rng.integers(0, 3, n)][:, None, :]
    return (rng.normal(size=(n, *SHAPE)) * 0.5 + centre + shift).astype(np.float32)


def run_model(model: bytes, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(probabilities, embedding) as ONNX Runtime gives them here."""
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    probabilities, embedding = session.run(["probabilities", "embedding"], {"x": x})
    return probabilities, embedding


def run_raw(model: bytes, x: np.ndarray, document: Preprocess | None) -> tuple[np.ndarray, np.ndarray]:
    """`run_model` on what the document makes of raw windows."""
    return run_model(model, x if document is None else apply(document, x))


RAW = Preprocess(
    manifest.TensorSpec("x", "int16", (-1, 25, 4)),
    (Window(20), Scale(1 / 1000), Normalise((0.1, 0.2, 0.3, 0.4), (1.0, 1.5, 2.0, 0.5), 2)),
)


def raw_windows(n: int, seed: int = 1) -> np.ndarray:
    """Windows as the sensor of `RAW` gives them: int16 [n, 25, 4], of which the last 20 steps count."""
    rng = np.random.default_rng(seed)
    early = rng.integers(-30_000, 30_000, (n, 5, 4))
    return np.concatenate([early, windows(n, seed) * 1000], axis=1).astype(np.int16)


def reference(
    model: bytes, x: np.ndarray, average_run_length: int, document: Preprocess | None = None
) -> statistics.ReferenceStatistics:
    """Reference statistics of raw windows, by the definitions of docs/spec/drift.md."""
    probabilities, embedding = run_raw(model, x, document)
    klass, channels = probabilities.argmax(1), scores.channel_statistics(x)
    counts = np.bincount(klass, minlength=3)
    edges = tuple(float(value) for value in np.quantile(channels[:, 0], np.linspace(0, 1, 33)[1:-1]))
    binned = np.bincount(np.searchsorted(edges, channels[:, 0], side="right"), minlength=32)
    top = [probabilities.max(1)[klass == k] for k in range(3)]
    confidence = [np.quantile(values, np.linspace(0, 1, 101)) if len(values) else () for values in top]
    return statistics.ReferenceStatistics(
        CLASSES,
        len(x),
        tuple(int(n) for n in counts),
        (statistics.Bins("channel.0.mean", edges, tuple(int(n) for n in binned)),),
        _gaussian(embedding, klass),
        _gaussian(channels, klass),
        {"confidence": tuple(tuple(float(v) for v in row) for row in confidence)},
        0.9,
        average_run_length,
    )


def _gaussian(values: np.ndarray, klass: np.ndarray) -> statistics.Gaussian:
    means, precision = scores.class_statistics(values, klass, 3)
    return statistics.Gaussian(
        tuple(tuple(float(v) for v in row) for row in means), tuple(tuple(float(v) for v in row) for row in precision)
    )


@dataclass(frozen=True)
class Spec:
    """How the artifact of a test differs from the plain one."""

    seed: int = 0
    version: str = "1.0"
    golden_offset: float = 0.0
    load_mode: str = "default"
    slow_loops: int = 0
    average_run_length: int = 1000
    engine: str = "onnxruntime"
    providers: tuple[str, ...] = ()
    preprocess: Preprocess | None = None
    layer: bytes | None = None
    """Bytes of the preprocess layer, where they are not those of `preprocess`."""


def write_artifact(directory: Path, spec: Spec = Spec()) -> str:  # frozen
    """Write a committed artifact's directory; its digest."""
    directory.mkdir(parents=True)
    model = onnx_model(spec.seed, spec.slow_loops)
    onnx.checker.check_model(model)
    raw = spec.preprocess
    golden_x, reference_x = (windows(8, seed=3), windows(400)) if raw is None else (raw_windows(8, 3), raw_windows(400))
    probabilities, embedding = run_raw(model, golden_x, raw)
    golden = tensors.encode(
        {
            "input:x": _tensor(golden_x),
            "output:probabilities": _tensor(probabilities + np.float32(spec.golden_offset)),
            "output:embedding": _tensor(embedding),
        },
        {"rtol": 1e-4, "atol": 1e-5},
    )
    files = {
        manifest.Role.MODEL: ("model.onnx", model),
        manifest.Role.GOLDEN: ("golden.bin", golden),
        manifest.Role.STATISTICS: (
            "statistics.json",
            reference(model, reference_x, spec.average_run_length, raw).encode(),
        ),
    }
    if raw is not None:
        files[manifest.Role.PREPROCESS] = ("preprocess.json", raw.encode() if spec.layer is None else spec.layer)
    config = manifest.Config(
        model="har",
        version=spec.version,
        counter=1,
        profile="x86-64",
        engine=spec.engine,
        precision="fp32",
        inputs=(raw.raw if raw else manifest.TensorSpec("x", "float32", (-1, *SHAPE)),),
        outputs=(
            manifest.TensorSpec("probabilities", "float32", (-1, 3)),
            manifest.TensorSpec("embedding", "float32", (-1, 4)),
        ),
        probabilities="probabilities",
        classes=CLASSES,
        embedding="embedding",
        load=manifest.Load(spec.load_mode, True, 1),
        providers=tuple(manifest.Provider(name) for name in spec.providers),
    ).encode()
    layers = tuple(manifest.device_layer(role, title, data) for role, (title, data) in files.items())
    described = manifest.Descriptor(manifest.CONFIG_TYPE, ids.digest_of(config), len(config))
    encoded = manifest.Manifest(described, layers, {}).encode()
    (directory / "manifest.json").write_bytes(encoded)
    (directory / "config.json").write_bytes(config)
    for title, data in files.values():
        (directory / title).write_bytes(data)
    return ids.digest_of(encoded)


def _tensor(values: np.ndarray) -> tensors.Tensor:
    return tensors.Tensor(f"{values.dtype.kind}{values.itemsize}", values.shape, values.tobytes())


AGENT_TOML = """
[device]
id = "dev-1"
profile = "x86-64"
[broker]
host = "127.0.0.1"
port = 1
[telemetry]
batch_records = {records}
flush_s = {flush_s}
[samples]
enabled = {samples}
per_batch_max = 8
[drift]
baseline_windows = {baseline}
"""


@dataclass
class Settings:
    """What a test may want of agent.toml."""

    records: int = 250
    flush_s: float = 30.0
    samples: bool = False
    baseline: int = 60

    def write(self, home: Path) -> None:
        (home / "etc").mkdir(parents=True, exist_ok=True)
        values = {**vars(self), "samples": str(self.samples).lower()}
        (home / "etc" / "agent.toml").write_text(AGENT_TOML.format(**values))


def listen(path: Path) -> socket.socket:
    """A listening socket as the supervisor keeps it."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    path.unlink(missing_ok=True)
    sock.bind(str(path))
    sock.listen(64)
    return sock


@dataclass
class RunningWorker:
    """A worker process and the supervisor's end of its channel."""

    process: subprocess.Popen[bytes]
    sock: socket.socket
    decoder: Decoder = field(default_factory=Decoder)
    got: list[Message] = field(default_factory=list)

    def tell(self, op: str, fields: dict[str, Any] | None = None, fds: tuple[int, ...] = ()) -> None:
        send_with_fds(self.sock, frame(op, fields, None, len(fds)), fds)

    def lease(self, seq: int) -> None:
        self.tell("lease", {"outbox_id": OUTBOX, "seq": seq})

    def wait_for(self, op: str, timeout_s: float = 20.0, **matching: Any) -> Message:
        """The next message of that operation; those before it stay in `got`."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            for place, message in enumerate(self.got):
                if message.op == op and all(message.fields.get(k) == v for k, v in matching.items()):
                    return self.got.pop(place)
            self._receive(deadline - time.monotonic())
        raise AssertionError(f"no {op} {matching} within {timeout_s} s; got {[m.op for m in self.got]}")

    def _receive(self, timeout_s: float) -> None:
        if not select.select([self.sock], [], [], max(0.0, timeout_s))[0]:
            return
        data, fds = control.receive_with_fds(self.sock)
        assert data, f"the worker ended ({self.process.poll()}); got {self.got}"
        self.got += self.decoder.feed(data, fds)

    def stop(self) -> int:
        if self.process.poll() is None:
            self.tell("stop")
        return self.process.wait(20)

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(20)
        self.sock.close()


def start_worker(home: Path, artifact: Path, listener: socket.socket | None, role: str = "serve") -> RunningWorker:
    """Start the real process as the supervisor does."""
    mine, its = socket.socketpair()
    environment = {
        **os.environ,
        "OUTRIDER_HOME": str(home),
        control.CONTROL_FD: str(its.fileno()),
        "OMP_NUM_THREADS": "1",
    }
    passed = [its.fileno()]
    if listener is not None:
        environment[control.LISTEN_FD] = str(listener.fileno())
        passed.append(listener.fileno())
    process = subprocess.Popen(
        [sys.executable, "-m", "outrider_agent.worker", "--artifact", str(artifact), "--model", "har", "--role", role],
        env=environment,
        pass_fds=passed,
    )
    its.close()
    return RunningWorker(process, mine)


def body(message: Message) -> tuple[str, dict[str, Any], dict[str, telemetry.Column]]:
    """The decoded body of a `batch` message."""
    assert message.blob is not None
    return telemetry.decode_body(message.blob)

"""Runs candidates as a device would: same engine, same load mode, one thread unless asked for more.

1. `run` takes any number of samples; a fixed batch is fed in pieces of its size.
2. Sessions are made from bytes, with the profile's prepacking, threads and those of its providers that are here.
"""

from __future__ import annotations

import importlib
import re
import time
from dataclasses import replace
from typing import Any, Final, Protocol

import numpy as np

from outrider_compiler.candidate import Candidate
from outrider_compiler.data import Array, Feeds
from outrider_compiler.errors import UnsupportedModelError
from outrider_profiles import Load, Profile
from outrider_protocol.manifest import TensorSpec
from outrider_protocol.preprocess import Preprocess

Providers = list[tuple[str, dict[str, str]]]
CPU: Final = "CPUExecutionProvider"
PROVIDERS: Final[Providers] = [(CPU, {})]
BATCH: Final = 256
ORT_TYPES: Final = {
    "tensor(float)": "float32", "tensor(float16)": "float16", "tensor(double)": "float64", "tensor(int8)": "int8",
    "tensor(uint8)": "uint8", "tensor(int16)": "int16", "tensor(int32)": "int32", "tensor(int64)": "int64",
    "tensor(bool)": "bool",
}  # fmt: skip


class Runner(Protocol):
    """A loaded candidate."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    load_ms: float

    def run(self, feeds: Feeds) -> Feeds:
        """Outputs by name for all samples."""

    def once(self, feeds: Feeds) -> None:
        """One inference, as fast as the engine can: what is timed."""


def session_options(*, threads: int, optimize: bool = True, prepack: bool = True) -> Any:
    """Options of an ONNX Runtime session, the same as the agent's."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 4
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    level = ort.GraphOptimizationLevel
    options.graph_optimization_level = level.ORT_ENABLE_ALL if optimize else level.ORT_DISABLE_ALL
    options.add_session_config_entry("session.disable_prepacking", "0" if prepack else "1")
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def load(candidate: Candidate, mode: Load, threads: int = 1, providers: Providers | None = None) -> Runner:
    """Load a candidate; raises `UnsupportedModelError` where the real engine does not take it."""
    runner: Runner
    if candidate.engine == "litert":
        runner = LiteRtRunner(candidate, threads)
    else:
        runner = OnnxRunner(candidate, mode, threads, providers or PROVIDERS)
    if candidate.preprocess is None:
        return runner
    from outrider_compiler.preprocess.runner import PreparingRunner

    return PreparingRunner(runner, Preprocess.decode(candidate.preprocess))


def providers_here(profile: Profile) -> Providers:
    """The profile's execution providers that are installed here, in its order; the CPU ends the list."""
    if profile.engine.name != "onnxruntime" or [item.name for item in profile.providers] == [CPU]:
        return PROVIDERS
    import onnxruntime as ort

    here = set(ort.get_available_providers())
    found = [(item.name, item.options) for item in profile.providers if item.name in here]
    return found if any(name == CPU for name, _ in found) else [*found, (CPU, {})]


def warm_up(engine: str) -> None:
    """Import an engine's package."""
    importlib.import_module("ai_edge_litert.interpreter" if engine == "litert" else "onnxruntime")


def complaints() -> tuple[type[Exception], ...]:
    """What engines raise where they do not take a model or an input."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    own = (state.Fail, state.InvalidArgument, state.InvalidGraph, state.InvalidProtobuf, state.NoModel)
    return (*own, state.NotImplemented, state.RuntimeException, state.EPFail, ValueError, RuntimeError)


class OnnxRunner:
    """ONNX Runtime."""

    def __init__(self, candidate: Candidate, mode: Load, threads: int, providers: Providers) -> None:
        import onnxruntime as ort

        started = time.perf_counter()
        try:
            options = session_options(threads=threads, prepack=mode.prepack)
            self._session = ort.InferenceSession(candidate.data, options, providers=providers)
        except complaints() as error:
            text = " ".join(str(error).split())[:400]
            raise UnsupportedModelError(f"ONNX Runtime {ort.__version__} does not load it: {text}") from error
        self.load_ms = (time.perf_counter() - started) * 1e3
        self.inputs = tuple(_spec(item) for item in self._session.get_inputs())
        self.outputs = tuple(_spec(item) for item in self._session.get_outputs())

    def run(self, feeds: Feeds) -> Feeds:
        """See `Runner`."""
        return in_batches(self._batch, self.inputs, feeds)

    def once(self, feeds: Feeds) -> None:
        """See `Runner`."""
        self._session.run(None, feeds)

    def _batch(self, feeds: Feeds) -> Feeds:
        names = [spec.name for spec in self.outputs]
        try:
            return dict(zip(names, self._session.run(names, feeds), strict=True))
        except complaints() as error:
            raise UnsupportedModelError(
                f"ONNX Runtime does not run it: {' '.join(str(error).split())[:400]}"
            ) from error


def _spec(item: Any) -> TensorSpec:
    shape = tuple(size if isinstance(size, int) else -1 for size in item.shape)
    return TensorSpec(item.name, ORT_TYPES.get(item.type, item.type), shape)


def in_batches(run: Any, inputs: tuple[TensorSpec, ...], feeds: Feeds) -> Feeds:
    """Run all samples in batches that the model takes; the last one is filled up by repeating its last sample."""
    n = len(next(iter(feeds.values())))
    size = inputs[0].shape[0] if inputs[0].shape and inputs[0].shape[0] > 0 else min(BATCH, n)
    fixed = bool(inputs[0].shape) and inputs[0].shape[0] > 0
    parts = []
    for start in range(0, n, size):
        part = {name: np.ascontiguousarray(value[start : start + size]) for name, value in feeds.items()}
        have = len(next(iter(part.values())))
        parts.append({k: v[:have] for k, v in run(_filled(part, size) if fixed else part).items()})
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _filled(part: Feeds, size: int) -> Feeds:
    return {k: np.concatenate([v, np.repeat(v[-1:], size - len(v), axis=0)]) for k, v in part.items()}


class LiteRtRunner:
    """LiteRT with XNNPACK; tensors by the names of the signature."""

    def __init__(self, candidate: Candidate, threads: int) -> None:
        from ai_edge_litert.interpreter import Interpreter

        started = time.perf_counter()
        try:
            self._interpreter: Any = Interpreter(model_content=candidate.data, num_threads=threads)
            self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise UnsupportedModelError(f"LiteRT does not load it: {str(error)[:400]}") from error
        self.load_ms = (time.perf_counter() - started) * 1e3
        self._inputs, self._outputs = self._interpreter.get_input_details(), self._interpreter.get_output_details()
        self.inputs, self.outputs = _details(self._inputs, candidate.inputs), _details(self._outputs, candidate.outputs)
        if not candidate.inputs:
            self.inputs, self.outputs = _signed(self._interpreter, self._inputs, self._outputs)

    def run(self, feeds: Feeds) -> Feeds:
        """See `Runner`."""
        return in_batches(self._batch, self.inputs, feeds)

    def once(self, feeds: Feeds) -> None:
        """See `Runner`."""
        for detail, spec in zip(self._inputs, self.inputs, strict=True):
            self._interpreter.set_tensor(detail["index"], feeds[spec.name])
        self._interpreter.invoke()
        for detail in self._outputs:
            self._interpreter.get_tensor(detail["index"])

    def _batch(self, feeds: Feeds) -> Feeds:
        self.once(feeds)
        named = zip(self.outputs, self._outputs, strict=True)
        return {spec.name: np.array(self._interpreter.get_tensor(detail["index"])) for spec, detail in named}


def _details(details: list[dict[str, Any]], names: tuple[str, ...]) -> tuple[TensorSpec, ...]:
    """Specs in the file's order, under the source's names: the file numbers them `args_0`, `output_1`."""
    return tuple(
        TensorSpec(_source_name(d["name"], names), np.dtype(d["dtype"]).name, tuple(int(n) for n in d["shape"]))
        for d in details
    )


def _signed(interpreter: Any, inputs: list[Any], outputs: list[Any]) -> tuple[tuple[TensorSpec, ...], ...]:
    """Specs under the names of the file's only signature; under the tensors' own names where there is none."""
    signatures = list(interpreter.get_signature_list())
    if len(signatures) != 1:
        return _details(inputs, ()), _details(outputs, ())
    runner = interpreter.get_signature_runner(signatures[0])
    named = {
        side: {int(detail["index"]): name for name, detail in details.items()}
        for side, details in (("in", runner.get_input_details()), ("out", runner.get_output_details()))
    }
    return tuple(
        tuple(
            replace(s, name=named[side].get(int(d["index"]), s.name)) for d, s in zip(ds, _details(ds, ()), strict=True)
        )
        for side, ds in (("in", inputs), ("out", outputs))
    )


def _source_name(name: str, names: tuple[str, ...]) -> str:
    number = re.search(r"(?:args|output)_(\d+)", name)
    return names[int(number[1])] if number and int(number[1]) < len(names) else name


def rows(feeds: Feeds, start: int, stop: int) -> Feeds:
    """Contiguous samples start..stop−1."""
    return {name: np.ascontiguousarray(value[start:stop]) for name, value in feeds.items()}


def cast(feeds: Feeds, specs: tuple[TensorSpec, ...]) -> dict[str, Array]:
    """Feeds in the model's dtypes."""
    return {spec.name: np.ascontiguousarray(feeds[spec.name].astype(spec.dtype, copy=False)) for spec in specs}


def batch_of(runner: Runner) -> int:
    """Samples in one inference: 1, or the fixed batch."""
    shape = runner.inputs[0].shape
    return shape[0] if shape and shape[0] > 0 else 1

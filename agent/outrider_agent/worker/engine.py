"""The engine that runs a model: ONNX Runtime or LiteRT, behind one `run`.

Rules (docs/spec/local-api.md):

- The file that is hashed is the file that is loaded: in mode `default` the very bytes, in mode `mmap` the same open
  descriptor. Its SHA-256 must be the manifest's, and it is what the worker attests. A sealed model is always loaded
  from the opened bytes.
- Threads, prepacking, load mode and the order of execution providers are the artifact's; nothing is guessed here. A
  provider that this machine lacks is passed over, and the engine says which ones it runs on.
- A preprocess layer is executed here, so that golden vectors, applications, shadow and drift monitor all speak raw; an
  artifact without one pays nothing for it.
- Heavy packages are imported when an engine of that name is loaded. ONNX Runtime would keep a device id and report
  home from the moment it is imported: it is told not to.
"""

from __future__ import annotations

import hashlib
import logging
import os
import time
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np

from outrider_agent.oip.codec import Array
from outrider_agent.worker.artifact import Artifact, open_plain
from outrider_agent.worker.errors import EngineError, InferenceError, ModelFileError
from outrider_protocol import ids
from outrider_protocol.errors import MalformedError
from outrider_protocol.prepare import Executor
from outrider_protocol.preprocess import Preprocess

_LOG: Final = logging.getLogger(__name__)
HASH_BLOCK_BYTES: Final = 1024 * 1024
ORT_SUFFIX: Final = ".ort"
CPU: Final = "CPUExecutionProvider"
NO_TELEMETRY: Final = "ORT_DISABLE_TELEMETRY"


class Engine(Protocol):
    """Runs one batch at a time; not safe for several threads."""

    @property
    def providers(self) -> tuple[str, ...]:
        """Those that it runs on, in order."""

    def run(self, feeds: dict[str, Array]) -> dict[str, Array]:
        """Outputs by the config's names; raises `InferenceError`."""


@dataclass(frozen=True)
class Loaded:
    """An engine and what it attests; `load_ms` counts hashing and loading."""

    engine: Engine
    model_sha256: str
    load_ms: float


def load(artifact: Artifact) -> Loaded:
    """Hash and load the model; raises `ModelFileError` or `EngineError`."""
    engines = {"onnxruntime": _load_onnx, "litert": _load_litert}
    if artifact.config.engine not in engines:
        raise EngineError(f"the artifact names the engine {artifact.config.engine!r}")
    if artifact.is_sealed and artifact.config.load.mode == "mmap":
        _LOG.warning("%s is sealed: it is loaded from memory, although the artifact asks for mmap", artifact.digest)
    started = time.monotonic()
    engine, sha256 = engines[artifact.config.engine](artifact)
    if artifact.preprocess is not None:
        engine = PreparingEngine(engine, artifact.preprocess)
    return Loaded(engine, sha256, round((time.monotonic() - started) * 1e3, 3))


def _attested(artifact: Artifact, sha256: str) -> str:
    if sha256 != ids.hex_of(artifact.model.digest):
        raise ModelFileError(f"{artifact.model_path}: SHA-256 {sha256}, the manifest lists {artifact.model.digest}")
    return sha256


def _hash_descriptor(fd: int) -> str:
    digest = hashlib.sha256()
    while block := os.read(fd, HASH_BLOCK_BYTES):
        digest.update(block)
    return digest.hexdigest()


class PreparingEngine:
    """Executes the artifact's preprocess layer in front of an engine: everybody else sees raw input alone."""

    def __init__(self, engine: Engine, document: Preprocess) -> None:
        self._engine, self._name, self._execute = engine, document.raw.name, Executor(document)
        self.providers = engine.providers

    def run(self, feeds: dict[str, Array]) -> dict[str, Array]:
        """See `Engine`."""
        try:
            prepared = self._execute(feeds[self._name])
        except KeyError:
            raise InferenceError(f"input {self._name!r} is missing") from None
        except MalformedError as error:
            raise InferenceError(str(error)) from error
        return self._engine.run({**feeds, self._name: prepared})


class OnnxEngine:
    """ONNX Runtime; outputs come in the config's order."""

    def __init__(self, session: Any, outputs: list[str]) -> None:
        self._run, self._outputs = session.run, outputs
        self.providers = tuple(session.get_providers())

    def run(self, feeds: dict[str, Array]) -> dict[str, Array]:
        """See `Engine`."""
        try:
            return dict(zip(self._outputs, self._run(self._outputs, feeds), strict=True))
        except _ort_errors() as error:
            raise InferenceError(f"ONNX Runtime: {str(error)[:500]}") from error


def _ort_errors() -> tuple[type[Exception], ...]:
    # ValueError: an input is missing
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    return (
        ValueError,
        state.Fail,
        state.InvalidArgument,
        state.RuntimeException,
        state.NotImplemented,
        state.EngineError,
    )


def _load_onnx(artifact: Artifact) -> tuple[Engine, str]:
    os.environ[NO_TELEMETRY] = "1"
    try:
        import onnxruntime as ort
        from onnxruntime.capi import onnxruntime_pybind11_state as state
    except ImportError as error:
        raise EngineError(f"ONNX Runtime cannot be imported: {error}") from error
    refused = (state.Fail, state.InvalidArgument, state.InvalidGraph, state.InvalidProtobuf, state.NoSuchFile)
    ort.set_default_logger_severity(3)
    try:
        session, sha256 = _session(ort, artifact)
    except (*refused, state.NotImplemented, state.RuntimeException) as error:
        raise EngineError(f"ONNX Runtime {ort.__version__}: {str(error)[:500]}") from error
    names = {output.name for output in session.get_outputs()}
    wanted = [spec.name for spec in artifact.config.outputs]
    if not names.issuperset(wanted):
        raise EngineError(f"the model gives {sorted(names)}, the artifact promises {wanted}")
    return OnnxEngine(session, wanted), sha256


def _session(ort: Any, artifact: Artifact) -> tuple[Any, str]:
    options, providers = _session_options(ort, artifact), _providers(ort, artifact)
    if not _is_mapped(artifact):
        data = artifact.read_model()
        sha256 = _attested(artifact, hashlib.sha256(data).hexdigest())
        return ort.InferenceSession(data, options, providers=providers), sha256
    fd = open_plain(artifact.model_path)
    try:
        sha256 = _attested(artifact, _hash_descriptor(fd))
        return ort.InferenceSession(f"/proc/self/fd/{fd}", options, providers=providers), sha256
    finally:
        os.close(fd)


def _providers(ort: Any, artifact: Artifact) -> list[tuple[str, dict[str, str]]]:
    """The artifact's providers that are installed here; the CPU ends the list, because something must run."""
    here = set(ort.get_available_providers())
    wanted = [(item.name, item.options) for item in artifact.config.providers if item.name in here]
    return wanted if any(name == CPU for name, _ in wanted) else [*wanted, (CPU, {})]


def _session_options(ort: Any, artifact: Artifact) -> Any:
    load = artifact.config.load
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = load.threads, 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.add_session_config_entry("session.disable_prepacking", "0" if load.prepack else "1")
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if artifact.model.title.endswith(ORT_SUFFIX):
        options.add_session_config_entry("session.load_model_format", "ORT")
        mapped = "1" if _is_mapped(artifact) else "0"
        options.add_session_config_entry("session.use_memory_mapped_ort_model", mapped)
    return options


def _is_mapped(artifact: Artifact) -> bool:
    """A sealed model is opened into memory: there is no file that could be mapped."""
    return artifact.config.load.mode == "mmap" and not artifact.is_sealed


class LiteRtEngine:
    """LiteRT (or TensorFlow Lite): inputs and outputs by the config's order, one resize when the batch changes."""

    def __init__(self, interpreter: Any, artifact: Artifact) -> None:
        self._interpreter, self.providers = interpreter, ("XNNPACK",)
        self._inputs = _by_name(interpreter.get_input_details(), [spec.name for spec in artifact.config.inputs])
        self._outputs = _by_name(interpreter.get_output_details(), [spec.name for spec in artifact.config.outputs])
        self._rows = 0

    def run(self, feeds: dict[str, Array]) -> dict[str, Array]:
        """See `Engine`; a model with a fixed batch of one answers row by row."""
        rows = len(next(iter(feeds.values())))
        if all(_fixed_to_one(detail) for detail in self._inputs.values()):
            parts = [self._invoke({name: value[row : row + 1] for name, value in feeds.items()}) for row in range(rows)]
            return {name: np.concatenate([part[name] for part in parts]) for name in self._outputs}
        return self._invoke(feeds)

    def _invoke(self, feeds: dict[str, Array]) -> dict[str, Array]:
        try:
            self._resize(feeds)
            for name, detail in self._inputs.items():
                self._interpreter.set_tensor(detail["index"], feeds[name])
            self._interpreter.invoke()
        except (ValueError, RuntimeError) as error:
            raise InferenceError(f"LiteRT: {str(error)[:500]}") from error
        return {name: self._interpreter.get_tensor(detail["index"]) for name, detail in self._outputs.items()}

    def _resize(self, feeds: dict[str, Array]) -> None:
        rows = len(next(iter(feeds.values())))
        if rows == self._rows:
            return
        for name, detail in self._inputs.items():
            self._interpreter.resize_tensor_input(detail["index"], feeds[name].shape)
        self._interpreter.allocate_tensors()
        self._rows = rows


def _fixed_to_one(detail: dict[str, Any]) -> bool:
    signature = detail.get("shape_signature", detail["shape"])
    return len(signature) > 0 and int(signature[0]) == 1


def _by_name(details: list[dict[str, Any]], names: list[str]) -> dict[str, dict[str, Any]]:
    named = {detail["name"]: detail for detail in details}
    if all(name in named for name in names):
        return {name: named[name] for name in names}
    if len(details) != len(names):
        raise EngineError(f"the model has {len(details)} tensors where the artifact promises {names}")
    return dict(zip(names, details, strict=True))


def _load_litert(artifact: Artifact) -> tuple[Engine, str]:
    interpreter_class = _interpreter_class()
    data = artifact.read_model()
    sha256 = _attested(artifact, hashlib.sha256(data).hexdigest())
    try:
        interpreter = interpreter_class(model_content=data, num_threads=artifact.config.load.threads)
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise EngineError(f"LiteRT: {str(error)[:500]}") from error
    return LiteRtEngine(interpreter, artifact), sha256


def _interpreter_class() -> Any:
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        return _tflite_interpreter_class()
    return Interpreter


def _tflite_interpreter_class() -> Any:
    try:
        from tflite_runtime.interpreter import Interpreter  # type: ignore[import-not-found]  # another name on old boards
    except ImportError as error:
        raise EngineError("neither ai_edge_litert nor tflite_runtime is installed") from error
    return Interpreter

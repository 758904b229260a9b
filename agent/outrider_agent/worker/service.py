"""The Open Inference Protocol over one model: paths, metadata, inference, and errors as JSON with a hint.

Rules (docs/spec/local-api.md):

- GET `/v2`, `/v2/health/live`, `/v2/health/ready`, `/v2/models/<m>`, `/v2/models/<m>/ready`;
  POST `/v2/models/<m>/infer`.
- An error is `{"error": message, "name": class, "hint": what to do}`; `error` alone is the protocol's own field.
- A prediction is answered whether or not its id could be allotted: then the id is null.
- The header of a request that came before is not parsed again: clients send the same header with every window.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from outrider_agent.errors import AgentError
from outrider_agent.oip.codec import HEADER_BYTES, NAMES, Array, InferRequest, Signature, read_request, write_response
from outrider_agent.oip.http import BINARY_TYPE, JSON_TYPE, Head, response_head
from outrider_agent.worker.artifact import Artifact
from outrider_agent.worker.batches import REQUEST_ROWS_MAX
from outrider_agent.worker.engine import Engine
from outrider_agent.worker.errors import (
    InferenceError,
    LengthRequiredError,
    MethodError,
    RequestError,
    RequestTimeoutError,
    RequestTooLargeError,
    TensorError,
    UnavailableError,
    UnknownModelError,
    UnknownPathError,
)
from outrider_agent.worker.recorder import Answered, Recorder
from outrider_agent.worker.server import Answer
from outrider_agent.worker.shadow import ShadowFeed
from outrider_protocol.manifest import TensorSpec

HEADERS_KEPT: Final = 64
HEADER_KEPT_BYTES: Final = 4096
BODY_MAX_BYTES: Final = 64 * 1024 * 1024
STATUS: Final[tuple[tuple[type[AgentError], int], ...]] = (
    (RequestTooLargeError, 413),
    (LengthRequiredError, 411),
    (RequestTimeoutError, 408),
    (UnknownPathError, 404),
    (UnknownModelError, 404),
    (MethodError, 405),
    (UnavailableError, 503),
    (RequestError, 400),
    (InferenceError, 500),
)


def refusal(error: AgentError, *, close: bool) -> Answer:
    """The response that tells an error."""
    status = next((number for kind, number in STATUS if isinstance(error, kind)), 500)
    body = json.dumps({"error": str(error), "name": type(error).__name__, "hint": error.hint}).encode()
    return [response_head(status, JSON_TYPE, len(body), close=close), body]


def _ok(document: dict[str, Any], *, close: bool) -> Answer:
    body = json.dumps(document).encode()
    return [response_head(200, JSON_TYPE, len(body), close=close), body]


@dataclass
class Counters:
    """What the worker attests of its work."""

    answered: int = 0


class Service:
    """Answers the requests of one model."""

    def __init__(self, artifact: Artifact, engine: Engine, recorder: Recorder, want_lease: Callable[[], None]) -> None:
        config = artifact.config
        self._artifact, self._engine, self._recorder = artifact, engine, recorder
        self._want_lease = want_lease
        self._signature = Signature(config.inputs, tuple(spec.name for spec in config.outputs))
        self._requests: dict[tuple[bytes, int], InferRequest] = {}
        self._identity = f'"model_name":{json.dumps(config.model)},"model_version":{json.dumps(config.version)}'
        self._digest = f'"digest":"{artifact.digest}"'
        self._infer_path = f"/v2/models/{config.model}/infer"
        self.counters = Counters()
        self.shadow: ShadowFeed | None = None

    def handle(self, head: Head, body: memoryview, close: bool) -> Answer:
        """Answer one request; errors are answers too."""
        try:
            if head.path == self._infer_path and head.method == "POST":
                return self._infer(head, body, close)
            return self._read_only(head, close)
        except (RequestError, InferenceError) as error:
            return refusal(error, close=close)

    def _infer(self, head: Head, body: memoryview, close: bool) -> Answer:
        split = head.header_bytes if head.header_bytes is not None else len(body)
        request = self._request(bytes(body[:split]), len(body) - split)
        feeds = request.feeds(body[split:])
        outputs = self._engine.run(feeds)
        parameters = self._record(request, feeds, outputs)
        parts, header_bytes = write_response(request, self._identity, outputs, parameters)
        size = sum(len(part) for part in parts)
        kind = JSON_TYPE if header_bytes is None else BINARY_TYPE
        return [response_head(200, kind, size, close=close, header_bytes=header_bytes), *parts]

    def _request(self, header: bytes, binary_bytes: int) -> InferRequest:
        key = (header, binary_bytes)
        known = self._requests.get(key)
        if known is not None:
            return known
        if binary_bytes and len(header) > HEADER_BYTES:
            raise RequestTooLargeError(f"an inference header of {len(header)} bytes, at most {HEADER_BYTES} are read")
        request = read_request(header, binary_bytes, self._signature)
        if request.rows > REQUEST_ROWS_MAX:
            raise TensorError(f"{request.rows} windows in one request, at most {REQUEST_ROWS_MAX} are taken")
        if binary_bytes and len(header) <= HEADER_KEPT_BYTES:
            self._remember(key, request)
        return request

    def _remember(self, key: tuple[bytes, int], request: InferRequest) -> None:
        if len(self._requests) >= HEADERS_KEPT:
            self._requests.clear()
        self._requests[key] = request

    def _record(self, request: InferRequest, feeds: dict[str, Array], outputs: dict[str, Array]) -> str:
        config = self._artifact.config
        deciding = outputs[config.probabilities].reshape(request.rows, -1)
        probabilities = config.decision.probabilities(deciding)
        embedding = outputs[config.embedding] if config.embedding else None
        if self._recorder.ledger.seq is None:
            self._want_lease()
        answered = Answered(feeds[config.inputs[0].name], probabilities, embedding)
        now_ms = time.time_ns() // 1_000_000
        named = self._recorder.add(answered, now_ms, time.monotonic())
        self.counters.answered += request.rows
        if self.shadow is not None:
            self.shadow.offer(feeds, config.decision.verdicts(deciding))
        return _parameters(named, self._digest)

    def _read_only(self, head: Head, close: bool) -> Answer:
        document = self._document(head.path)
        if head.method != "GET":
            raise MethodError(f"{head.method[:16]} {head.path[:80]}")
        return _ok(document, close=close)

    def _document(self, path: str) -> dict[str, Any]:
        parts = path.strip("/").split("/")
        if parts == ["v2"]:
            return {"name": "outrider-agent", "version": "2", "extensions": ["binary_tensor_data"]}
        if parts in (["v2", "health", "live"], ["v2", "health", "ready"]):
            return {parts[-1]: True}
        if parts[:2] != ["v2", "models"] or len(parts) not in {3, 4} or parts[3:] not in ([], ["ready"], ["infer"]):
            raise UnknownPathError(f"nothing is served under {path[:80]!r}")
        if parts[2] != self._artifact.config.model:
            raise UnknownModelError(f"{parts[2][:64]!r}; this socket serves {self._artifact.config.model!r}")
        if parts[3:] == ["infer"]:
            raise MethodError("infer takes POST")
        return {"name": parts[2], "ready": True} if parts[3:] else self._metadata()

    def _metadata(self) -> dict[str, Any]:
        config = self._artifact.config
        return {
            "name": config.model,
            "versions": [config.version],
            "platform": f"{config.engine}_{config.precision}",
            "inputs": [_described(spec) for spec in config.inputs],
            "outputs": [_described(spec) for spec in config.outputs],
            "parameters": {
                "digest": self._artifact.digest,
                "counter": config.counter,
                "profile": config.profile,
                "classes": list(config.classes),
                "probabilities": config.probabilities,
                "task": config.decision.task,
                "providers": list(self._engine.providers),
                "phase": self._recorder.phase,
                "answered": self.counters.answered,
            },
        }


def _described(spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "datatype": NAMES.get(spec.dtype, spec.dtype), "shape": list(spec.shape)}


def _parameters(named: list[str] | None, digest: str) -> str:
    if named is None:
        return f'{{"prediction_id":null,{digest}}}'
    if len(named) == 1:
        return f'{{"prediction_id":"{named[0]}",{digest}}}'
    listed = '","'.join(named)
    return f'{{"prediction_id":"{named[0]}","prediction_ids":["{listed}"],{digest}}}'

"""Python client of the local API: binary tensors over the model's Unix socket.

Rules (docs/spec/local-api.md):

- One connection, kept; a client belongs to one thread.
- Where the request cannot have run (the worker ended before it was wholly sent) it is sent once more.
- Where it may have run, `WorkerGoneError` says so, and the next call connects again.
- An error of the local API is a `RefusedError` with its class name and hint.

    with Client("/run/outrider/har.sock") as client:
        result = client.infer({"x": window})            # window: float32 [1, 100, 6]
        result.outputs["probabilities"], result.prediction_ids
"""

from __future__ import annotations

import json
import os
import socket
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import numpy as np

from outrider_agent.errors import UnreachableError
from outrider_agent.oip.codec import Array, Buffer, read_response, request_header
from outrider_agent.oip.http import HEAD_BYTES, HEAD_END
from outrider_agent.worker.errors import MalformedRequestError, RefusedError, WorkerGoneError

if TYPE_CHECKING:
    from typing import Self

READ_BYTES: Final = 64 * 1024
ANSWER_BYTES: Final = 1024 * 1024 * 1024
_NOT_SENT: Final = (BrokenPipeError, ConnectionResetError)
_HEADERS_KEPT: Final = 16


@dataclass(frozen=True)
class Result:
    """One answer: outputs by name, one prediction id a window (None: none was allotted), the artifact's digest."""

    outputs: dict[str, Array]
    prediction_ids: list[str | None]
    digest: str


@dataclass(frozen=True)
class _Response:
    status: int
    header_bytes: int | None
    body: memoryview


class _NotSentError(Exception):
    """The connection ended before the whole request was with the kernel."""


class Client:
    """A connection to one model; `address` is a socket path or `http://127.0.0.1:PORT`."""

    def __init__(self, address: str | os.PathLike[str], model: str | None = None, timeout_s: float = 30.0) -> None:
        self._address, self._timeout_s = os.fspath(address), timeout_s
        self._model = model
        self._sock: socket.socket | None = None
        self._headers: dict[tuple[Any, ...], tuple[bytes, bytes]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; the next call opens one."""
        if self._sock is not None:
            self._sock.close()
            self._sock = None

    @property
    def model(self) -> str:
        """The model's name: given, or the socket's own (`run/<model>.sock`)."""
        if self._model is None:
            self._model = os.path.basename(self._address).removesuffix(".sock")  # noqa: PTH119  # may be a URL
        return self._model

    def infer(self, inputs: dict[str, Array], outputs: tuple[str, ...] = ()) -> Result:
        """Run the model on one or more windows (first dimension of every input); all outputs unless some are named.

        Raises `RefusedError`, `WorkerGoneError`, `UnreachableError`.
        """
        arrays = {name: np.ascontiguousarray(values) for name, values in inputs.items()}
        head, header = self._head(arrays, outputs)
        response = self._exchange(
            [head, header, *(values.reshape(-1).view(np.uint8).data for values in arrays.values())]
        )
        return _result(response, len(next(iter(arrays.values()))))

    def metadata(self) -> dict[str, Any]:
        """What the model takes and gives, its digest, classes and drift phase."""
        return self._get(f"/v2/models/{self.model}")

    def ready(self) -> bool:
        """Whether the model can be asked now."""
        try:
            return bool(self._get(f"/v2/models/{self.model}/ready").get("ready"))
        except (UnreachableError, WorkerGoneError, RefusedError):
            return False

    def _get(self, path: str) -> dict[str, Any]:
        response = self._exchange([f"GET {path} HTTP/1.1\r\nHost: outrider\r\n\r\n".encode()])
        if response.status != 200:
            raise _refused(response)
        document = json.loads(bytes(response.body))
        if not isinstance(document, dict):
            raise MalformedRequestError(f"{path}: an object was expected")
        return document

    def _head(self, arrays: dict[str, Array], outputs: tuple[str, ...]) -> tuple[bytes, bytes]:
        key = (*((name, values.shape, values.dtype) for name, values in arrays.items()), outputs)
        if key not in self._headers:
            if len(self._headers) >= _HEADERS_KEPT:
                self._headers.clear()
            header = request_header(arrays, outputs)
            size = len(header) + sum(values.nbytes for values in arrays.values())
            self._headers[key] = (_post_head(self.model, size, len(header)), header)
        return self._headers[key]

    def _exchange(self, parts: list[Buffer]) -> _Response:
        try:
            return self._once(parts)
        except _NotSentError:
            self.close()
        try:
            return self._once(parts)
        except _NotSentError as error:
            self.close()
            raise WorkerGoneError("the worker ended twice before it took the request") from error

    def _once(self, parts: list[Buffer]) -> _Response:
        sock = self._connected()
        try:
            _send_all(sock, parts)
        except _NOT_SENT as error:
            return self._early_answer(sock, error)
        except TimeoutError as error:
            self.close()
            raise WorkerGoneError(f"the request was not taken within {self._timeout_s:g} s") from error
        return self._answer(sock)

    def _early_answer(self, sock: socket.socket, error: OSError) -> _Response:
        """A refusal may have come before the request was wholly sent; else the request did not run."""
        try:
            return self._answer(sock)
        except WorkerGoneError:
            raise _NotSentError from error

    def _answer(self, sock: socket.socket) -> _Response:
        try:
            response, close = _receive(sock)
        except OSError as error:
            self.close()
            raise WorkerGoneError(f"the connection ended before the answer: {error}") from error
        if close:
            self.close()
        return response

    def _connected(self) -> socket.socket:
        if self._sock is None:
            self._sock = _connect(self._address, self._timeout_s)
        return self._sock


def _connect(address: str, timeout_s: float) -> socket.socket:
    url = urlsplit(address) if "://" in address else None
    sock = socket.socket(socket.AF_INET if url else socket.AF_UNIX, socket.SOCK_STREAM)
    sock.settimeout(timeout_s)
    try:
        sock.connect((url.hostname, url.port) if url else address)
    except OSError as error:
        sock.close()
        raise UnreachableError(
            f"{address}: {error}", "Is the agent running, and has this model a release? `outrider-agent status` says."
        ) from error
    return sock


def _post_head(model: str, body_bytes: int, header_bytes: int) -> bytes:
    return (
        f"POST /v2/models/{model}/infer HTTP/1.1\r\nHost: outrider\r\nContent-Type: application/octet-stream\r\n"
        f"Content-Length: {body_bytes}\r\nInference-Header-Content-Length: {header_bytes}\r\n\r\n"
    ).encode()


def _send_all(sock: socket.socket, parts: list[Buffer]) -> None:
    sent = sock.sendmsg(parts)
    for part in parts:
        if sent < len(part):
            sock.sendall(memoryview(part)[sent:])
        sent = max(0, sent - len(part))


def _receive(sock: socket.socket) -> tuple[_Response, bool]:
    data = b""
    while (end := data.find(HEAD_END)) < 0:
        if len(data) > HEAD_BYTES:
            raise MalformedRequestError("the answer's head does not end")
        piece = sock.recv(READ_BYTES)
        if not piece:
            raise ConnectionResetError("end of file")
        data = data + piece if data else piece
    status, headers = _parse_response_head(data[:end])
    length = int(headers["content-length"])
    if length > ANSWER_BYTES:
        raise MalformedRequestError(f"an answer of {length} bytes")
    inference = headers.get("inference-header-content-length")
    response = _Response(status, int(inference) if inference else None, _body(sock, data, end + len(HEAD_END), length))
    return response, headers.get("connection") == "close"


def _parse_response_head(data: bytes) -> tuple[int, dict[str, str]]:
    first, *lines = data.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    if not first.startswith("HTTP/1.1 ") or not headers.get("content-length", "").isdigit():
        raise MalformedRequestError(f"not an answer of the local API: {first[:80]!r}")
    return int(first[9:12]), headers


def _body(sock: socket.socket, data: bytes, start: int, length: int) -> memoryview:
    if len(data) - start >= length:
        return memoryview(data)[start : start + length]
    body = memoryview(bytearray(length))
    filled = len(data) - start
    body[:filled] = data[start:]
    while filled < length:
        count = sock.recv_into(body[filled:])
        if not count:
            raise ConnectionResetError("end of file within the answer")
        filled += count
    return body


def _result(response: _Response, rows: int) -> Result:
    if response.status != 200:
        raise _refused(response)
    split = response.header_bytes if response.header_bytes is not None else len(response.body)
    outputs, parameters = read_response(bytes(response.body[:split]), response.body[split:])
    first = parameters.get("prediction_id")
    ids: list[str | None] = parameters.get("prediction_ids") or [first] * rows
    return Result(outputs, ids, str(parameters.get("digest", "")))


def _refused(response: _Response) -> RefusedError:
    document = json.loads(bytes(response.body))
    told = {name: str(document.get(name, "")) for name in ("name", "error", "hint")}
    return RefusedError(response.status, told["name"], told["error"], told["hint"])

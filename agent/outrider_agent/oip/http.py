r"""HTTP/1.1 as far as the local API needs it: find one request head in bytes, write one response head. Pure.

Rules (docs/spec/local-api.md):

- A head is at most `HEAD_BYTES`; a body has `Content-Length` and is bounded before anything is allocated for it.
- Keep-alive unless the client says `Connection: close` or speaks HTTP/1.0.
- What cannot be read ends the connection after its named error: there is no way to find the next request.

>>> head = parse_head(b"POST /v2/models/har/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 12\r\n\r\n")
>>> head.method, head.path, head.body_bytes, head.keep_alive
('POST', '/v2/models/har/infer', 12, True)
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from http import HTTPStatus
from typing import Final

from outrider_agent.worker.errors import LengthRequiredError, MalformedRequestError, RequestTooLargeError

HEAD_BYTES: Final = 16 * 1024
HEAD_END: Final = b"\r\n\r\n"
JSON_TYPE: Final = "application/json"
BINARY_TYPE: Final = "application/octet-stream"
INFERENCE_HEADER: Final = "inference-header-content-length"
_LENGTH_DIGITS: Final = 12


@dataclass(frozen=True)
class Head:
    """A request's first line and headers; `header_bytes` is the JSON part of a binary body (None: all JSON)."""

    method: str
    path: str
    body_bytes: int
    keep_alive: bool
    header_bytes: int | None
    expects_continue: bool = False


def parse_head(data: bytes) -> Head:
    """Parse everything up to and including the empty line; raises a `RequestError`."""
    lines = data.removesuffix(HEAD_END).decode("latin-1").split("\r\n")
    method, path, version = _request_line(lines[0])
    headers = _headers(lines[1:])
    if "transfer-encoding" in headers:
        raise LengthRequiredError("a body in chunks is not read")
    body_bytes = _length(headers, "content-length")
    if body_bytes is None and method == "POST":
        raise LengthRequiredError("a POST without Content-Length")
    header_bytes = _length(headers, INFERENCE_HEADER)
    if header_bytes is not None and header_bytes > (body_bytes or 0):
        raise MalformedRequestError(f"the inference header has {header_bytes} bytes, the body {body_bytes or 0}")
    keep_alive = version == "HTTP/1.1" and headers.get("connection", "").lower() != "close"
    expects_continue = headers.get("expect", "").lower() == "100-continue"
    return Head(method, path.partition("?")[0], body_bytes or 0, keep_alive, header_bytes, expects_continue)


def check_size(head: Head, limit_bytes: int) -> Head:
    """Return `head` unless its body exceeds the limit (`RequestTooLargeError`)."""
    if head.body_bytes > limit_bytes:
        raise RequestTooLargeError(f"a body of {head.body_bytes} bytes, at most {limit_bytes} are read")
    return head


def _request_line(line: str) -> tuple[str, str, str]:
    parts = line.split(" ")
    if len(parts) != 3 or parts[2] not in {"HTTP/1.1", "HTTP/1.0"} or not parts[1].startswith("/"):
        raise MalformedRequestError(f"not a request line of HTTP/1.1: {line[:80]!r}")
    return parts[0], parts[1], parts[2]


def _headers(lines: list[str]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        key = name.lower()
        if not colon or not name or name != name.strip():
            raise MalformedRequestError(f"not a header: {line[:80]!r}")
        if key in headers and key in {"content-length", INFERENCE_HEADER, "transfer-encoding"}:
            raise MalformedRequestError(f"{key} is given twice")
        headers[key] = value.strip()
    return headers


def _length(headers: dict[str, str], name: str) -> int | None:
    text = headers.get(name)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= _LENGTH_DIGITS):
        raise MalformedRequestError(f"{name}: {text[:40]!r} is not a length")
    return int(text)


@lru_cache(maxsize=256)
def response_head(
    status: int, content_type: str, body_bytes: int, *, close: bool, header_bytes: int | None = None
) -> bytes:
    """The head of a response, with its empty line."""
    lines = [
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}",
        f"Content-Type: {content_type}",
        f"Content-Length: {body_bytes}",
    ]
    if header_bytes is not None:
        lines.append(f"Inference-Header-Content-Length: {header_bytes}")
    if close:
        lines.append("Connection: close")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")

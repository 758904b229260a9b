"""HTTP heads: docs/spec/local-api.md."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider_agent.oip.http import HEAD_END, check_size, parse_head, response_head
from outrider_agent.worker.errors import (
    LengthRequiredError,
    MalformedRequestError,
    RequestError,
    RequestTooLargeError,
)

POST = b"POST /v2/models/har/infer HTTP/1.1\r\nContent-Length: 10\r\n"


def test_a_binary_request() -> None:
    """AGT-OIP-2: lengths, keep-alive and the query are read as HTTP/1.1 says."""
    head = parse_head(
        POST.replace(b"infer", b"infer?a=b") + b"inference-header-content-LENGTH: 4\r\nExpect: 100-continue\r\n\r\n"
    )
    assert (head.path, head.body_bytes, head.header_bytes) == ("/v2/models/har/infer", 10, 4)
    assert head.keep_alive
    assert head.expects_continue


@pytest.mark.parametrize("data", [b"GET /v2 HTTP/1.0\r\n\r\n", b"GET /v2 HTTP/1.1\r\nConnection: Close\r\n\r\n"])
def test_when_a_connection_ends(data: bytes) -> None:
    """AGT-OIP-2: HTTP/1.0 and `Connection: close` end it after the answer."""
    assert not parse_head(data).keep_alive


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"POST /v2 HTTP/1.1\r\n\r\n", LengthRequiredError),
        (b"POST /v2 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", LengthRequiredError),
        (POST + b"Content-Length: 10\r\n\r\n", MalformedRequestError),
        (POST + b"Inference-Header-Content-Length: 11\r\n\r\n", MalformedRequestError),
        (b"POST /v2 HTTP/1.1\r\nContent-Length: -1\r\n\r\n", MalformedRequestError),
        (b"POST /v2 HTTP/1.1\r\nContent-Length: 1e3\r\n\r\n", MalformedRequestError),
        (b"POST /v2 HTTP/1.1\r\nContent-Length: 9999999999999\r\n\r\n", MalformedRequestError),
        (b"POST /v2 HTTP/1.1\r\nContent-Length : 1\r\n\r\n", MalformedRequestError),
        (b"GET /v2 HTTP/2\r\n\r\n", MalformedRequestError),
        (b"GET v2 HTTP/1.1\r\n\r\n", MalformedRequestError),
        (b"\r\n\r\n", MalformedRequestError),
        (b"GET /v2 HTTP/1.1\r\nnonsense\r\n\r\n", MalformedRequestError),
    ],
)
def test_what_cannot_be_read_is_refused_by_name(data: bytes, error: type[RequestError]) -> None:
    """AGT-OIP-3: lengths are digits, given once, and agree; bodies in chunks are refused."""
    with pytest.raises(error) as caught:
        parse_head(data)
    assert caught.value.hint


def test_size_is_checked_before_anything_is_read() -> None:
    """AGT-OIP-4: the body's length is bounded by a constant."""
    head = parse_head(POST + b"\r\n")
    assert check_size(head, 10) is head
    with pytest.raises(RequestTooLargeError):
        check_size(head, 9)


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    """AGT-OIP-3: no bytes raise anything but a `RequestError`."""
    try:
        parse_head(data + HEAD_END)
    except RequestError:
        return


def test_a_response_says_when_it_is_the_last() -> None:
    """AGT-OIP-5: `Connection: close` on the last answer of a connection."""
    assert b"\r\nConnection: close\r\n" in response_head(200, "application/json", 3, close=True)
    assert b"Connection" not in response_head(200, "application/json", 3, close=False)

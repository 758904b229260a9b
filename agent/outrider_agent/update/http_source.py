"""Bytes by HTTP: trust documents and blobs of the fleet server, and the files of any TUF repository.

1. The fleet server is reached by HTTPS, held against the CA of enrolment, or by plain HTTP on loopback alone.
2. What is read is limited in bytes by whoever asks, and in time here: an answer that drips is given up.
3. Chunks are asked for by ranges, so that a download resumes where it was cut off.
4. No redirect is followed.
"""

from __future__ import annotations

import http.client
import ssl
import time
from collections.abc import Callable, Iterator, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, quote, urlsplit

from outrider_agent import VERSION
from outrider_agent.clock import Now
from outrider_agent.config import is_address
from outrider_agent.tls import client_context
from outrider_agent.update.errors import CannotRefreshError, StalledError
from outrider_protocol import documents
from outrider_protocol.errors import TooLargeError
from outrider_protocol.limits import CHUNK_BYTES

READ_S: Final = 10.0
ANSWER_S: Final = 60.0
BLOCK_BYTES: Final = 64 * 1024
LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})
_ABSENT: Final = frozenset({HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND})


class HttpError(CannotRefreshError):
    """An HTTP server cannot be reached, or answers neither the file nor that there is none."""

    hint = "Check the address, the server, and that its certificate is of the fleet's authority."


class HttpFiles:
    """GET below one URL; the connection is kept open between two requests."""

    def __init__(
        self, url: str, context: ssl.SSLContext | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        parts = urlsplit(url) if is_address(url) else SplitResult("", "", "", "", "")
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise HttpError(f"{url!r} is no HTTP address", "Give http://HOST:PORT/… or https://HOST:PORT/…")
        self._base, self._now_s = parts.path.rstrip("/"), clock
        if parts.scheme == "http":
            self._connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=READ_S)
        else:
            self._connection = http.client.HTTPSConnection(
                parts.hostname, parts.port, timeout=READ_S, context=context or ssl.create_default_context()
            )

    def stream(self, path: str, span: str = "") -> Iterator[bytes] | None:
        """The blocks of a file (of the bytes `span`), None where the server says that there is none.

        Raises `HttpError`, on the way too.
        """
        deadline_s = self._now_s() + ANSWER_S
        response = self._answer(path, {"Range": f"bytes={span}"} if span else {})
        if response.status in _ABSENT:
            self._drop(response)
            return None
        if response.status != (HTTPStatus.PARTIAL_CONTENT if span else HTTPStatus.OK):
            self._drop(response)
            raise HttpError(f"{path}: the server answered with status {response.status}")
        return self._blocks(response, path, deadline_s)

    def read(self, path: str, limit_bytes: int, span: str = "") -> bytes | None:
        """The same whole; raises `TooLargeError` too."""
        blocks = self.stream(path, span)
        if blocks is None:
            return None
        data = bytearray()
        for block in blocks:
            data += block
            if len(data) > limit_bytes:
                self._drop()
                raise TooLargeError(path, len(data), limit_bytes)
        return bytes(data)

    def close(self) -> None:
        """End the connection; the next request makes a new one."""
        self._drop()

    def _answer(self, path: str, headers: dict[str, str]) -> http.client.HTTPResponse:
        kept = self._connection.sock is not None
        try:
            return self._ask(path, headers)
        except (OSError, http.client.HTTPException) as error:
            self._drop()
            if not kept:
                raise HttpError(f"{path}: {error}") from error
        try:  # the kept connection had ended: once more, on a new one
            return self._ask(path, headers)
        except (OSError, http.client.HTTPException) as error:
            self._drop()
            raise HttpError(f"{path}: {error}") from error

    def _ask(self, path: str, headers: dict[str, str]) -> http.client.HTTPResponse:
        self._connection.request(
            "GET", f"{self._base}/{path}", headers={"User-Agent": f"outrider-agent/{VERSION}", **headers}
        )
        return self._connection.getresponse()

    def _blocks(self, response: http.client.HTTPResponse, path: str, deadline_s: float) -> Iterator[bytes]:
        whole = False
        try:
            while block := response.read1(BLOCK_BYTES):
                if self._now_s() > deadline_s:
                    raise HttpError(f"{path}: not whole after {ANSWER_S:.0f} s")
                yield block
            if response.length:
                raise HttpError(f"{path}: the answer was cut off")
            response.close()
            whole = True  # the connection can be used again
        except (OSError, http.client.HTTPException) as error:
            raise HttpError(f"{path}: {error}") from error
        finally:
            if not whole:
                self._drop(response)

    def _drop(self, response: http.client.HTTPResponse | None = None) -> None:
        self._connection.close()
        if response is not None:
            response.close()


class HttpSource:
    """See `sources.Source`; the fleet server at `url`."""

    def __init__(self, url: str, ca: Path) -> None:
        self._url, self._ca = url, ca
        self._opened: HttpFiles | None = None

    def document(self, name: str, limit_bytes: int) -> bytes | None:
        """See `Source`."""
        return self._files().read(documents.trust_path(name), limit_bytes)

    def chunks(self, hex_digest: str, numbers: Sequence[int]) -> Iterator[tuple[int, bytes]]:
        """See `Source`."""
        for number in numbers:
            start = number * CHUNK_BYTES
            try:
                span = f"{start}-{start + CHUNK_BYTES - 1}"
                data = self._files().read(f"blobs/sha256:{hex_digest}", CHUNK_BYTES, span)
            except HttpError as error:
                raise StalledError(str(error)) from error
            if data is None:
                raise StalledError(f"the server does not give the blob {hex_digest}")
            yield number, data

    def close(self) -> None:
        """End the connection."""
        if self._opened is not None:
            self._opened.close()

    def _files(self) -> HttpFiles:
        if self._opened is None:
            self._opened = HttpFiles(f"{self._url.rstrip('/')}/api/v1", _context(self._url, self._ca))
        return self._opened


def _context(url: str, ca: Path) -> ssl.SSLContext | None:
    parts = urlsplit(url)
    if parts.scheme == "http":
        if parts.hostname not in LOOPBACK:
            raise HttpError(f"{url!r} is plain HTTP beyond loopback", "Give https://HOST:PORT in [server] url.")
        return None
    try:
        return client_context(Now.read, ca=ca)
    except (OSError, ssl.SSLError) as error:
        raise HttpError(f"{ca}: {error}") from error


def quoted(path: str) -> str:
    """A target's path as a part of a URL."""
    return quote(path, safe="/~:@!$&'()*+,;=")

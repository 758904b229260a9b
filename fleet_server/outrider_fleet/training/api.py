"""The runner's side of the fleet server's HTTP interface (docs/spec/api.md, Runs).

1. The token is sent as a bearer token; plain HTTP is used towards the loopback only.
2. An answer is read up to a limit; a file is streamed to disk and its digest checked before it gets its name.
3. 409 on progress or finish means that the claim was taken over: `LeaseLostError`.
"""

import hashlib
import ipaddress
import json
import ssl
import urllib.error
import urllib.request
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from outrider_fleet.training.claim import Claim
from outrider_fleet.training.errors import ApiError, LeaseLostError, RunnerConfigError, SnapshotDamagedError
from outrider_protocol import canonical, ids, limits
from outrider_protocol.errors import ProtocolError

TIMEOUT_S: Final = 30.0
ANSWER_BYTES: Final = 4 * limits.MIB
_BLOCK_BYTES: Final = 1024 * 1024


class Api:
    """Calls of one runner."""

    def __init__(self, url: str, token: str, *, ca: Path | None = None) -> None:
        self.url, self.token = _checked(url), token
        context = ssl.create_default_context(cafile=str(ca) if ca else None)
        # No redirects to elsewhere, no proxies: the token goes to this server alone.
        self._opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context), _NoRedirect()
        )

    def claim(self, models: list[str]) -> Claim | None:
        """Claim one run, or None when there is none."""
        answer = self._call("POST", "/runs/claim", {"models": models})
        if not answer:
            return None
        try:
            return Claim.read(answer.get("run", answer))
        except ProtocolError as error:
            raise ApiError(f"the claimed run is malformed: {error}") from error

    def progress(self, claim: Claim, text: str, ratio: float | None = None) -> None:
        """Say how far it is; keeps the claim. Raises `LeaseLostError`."""
        body: dict[str, Any] = {"fence": claim.fence, "text": text[:500]}
        if ratio is not None:
            body["ratio"] = ratio
        self._fenced(claim, "progress", body)

    def succeed(self, claim: Claim, inputs: list[str], figures: dict[str, float]) -> None:
        """End the run well: its release is published."""
        body = {"fence": claim.fence, "state": "succeeded", "figures": figures, "inputs": inputs}
        self._fenced(claim, "finish", body)

    def fail(self, claim: Claim, error: str) -> None:
        """End the run with an error text."""
        self._fenced(claim, "finish", {"fence": claim.fence, "state": "failed", "error": error[:8000]})

    def fetch_snapshot(self, digest: str, path: Path) -> None:
        """Download a snapshot to `path`; raises `SnapshotDamagedError`."""
        beside, hashed = path.with_suffix(".part"), hashlib.sha256()
        call = f"/snapshots/{digest}/file"
        with self._open("GET", call) as answer, beside.open("wb") as file:
            while block := _read(answer, _BLOCK_BYTES, call):
                hashed.update(block)
                file.write(block)
        if hashed.hexdigest() != ids.hex_of(digest):
            beside.unlink()
            raise SnapshotDamagedError(f"{digest}: the server sent sha256:{hashed.hexdigest()}")
        beside.replace(path)

    def role_metadata(self, model: str) -> bytes | None:
        """The published role of a model; None before its first release."""
        try:
            with self._open("GET", f"/trust/{model}.json") as answer:
                return _read(answer, limits.ROLE_BYTES, f"/trust/{model}.json")
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    def _fenced(self, claim: Claim, call: str, body: dict[str, Any]) -> None:
        try:
            self._call("POST", f"/runs/{claim.run}/{call}", body)
        except ApiError as error:
            if error.status == 409:
                raise LeaseLostError(f"run {claim.run}: {error}") from error
            raise

    def _call(self, method: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
        with self._open(method, path, canonical.encode(body)) as answer:
            data = _read(answer, ANSWER_BYTES, f"{method} {path}")
        try:
            return canonical.decode(data, ANSWER_BYTES, "answer") if data else {}
        except ProtocolError as error:
            raise ApiError(f"{method} {path}: {error}") from error

    def _open(self, method: str, path: str, body: bytes | None = None) -> HTTPResponse:
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        request = urllib.request.Request(f"{self.url}/api/v1{path}", body, headers, method=method)  # noqa: S310
        try:
            answer: HTTPResponse = self._opener.open(request, timeout=TIMEOUT_S)
        except urllib.error.HTTPError as error:
            with error:
                raise _refusal(f"{method} {path}", error.code, error.read(65536)) from error
        except (OSError, HTTPException) as error:
            raise ApiError(f"{method} {path}: {error}") from error
        return answer


def _read(answer: HTTPResponse, most: int, call: str) -> bytes:
    """At most so many bytes; a server that went away meanwhile is away, like one that never answered."""
    try:
        return answer.read(most)
    except (OSError, HTTPException) as error:
        raise ApiError(f"{call}: {str(error) or type(error).__name__}") from error


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None


def _refusal(call: str, status: int, body: bytes) -> ApiError:
    try:
        said = json.loads(body)
        error = ApiError(f"{call}: {said['message']}", name=str(said["error"]), status=status)
        error.hint = str(said.get("hint") or error.hint)
    except (ValueError, KeyError, TypeError):
        error = ApiError(f"{call}: HTTP status {status}", status=status)
    return error


def _checked(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(parts.hostname or "")):
        return url.rstrip("/")
    raise RunnerConfigError(f"{url}: https is needed for a server that is not on this machine")


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False

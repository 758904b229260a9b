"""Signing a release with the pipeline's key, and handing it to a fleet server.

1. Both verify every byte of the layout first: a tampered release is refused here.
2. `sign` adds targets to the delegated role; what the role listed before stays, the oldest beyond its room excepted,
   unless it is told to start over.
3. `publish` uploads blobs by digest, then the signed metadata and the index: the release exists when all is there.
   `upload` is the same without the local check, so that a server's own check can be tried.
"""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from outrider_compiler.errors import PublishError, UsageError
from outrider_compiler.package import CANDIDATES
from outrider_compiler.release import Release
from outrider_compiler.retention import with_room
from outrider_protocol import ids
from outrider_protocol.errors import MalformedError, ProtocolError
from outrider_protocol.manifest import INDEX_FILE, blob_path

EXPIRES_DAYS: Final = 365
TIMEOUT_S: Final = 60
ANSWER_BYTES: Final = 1024 * 1024


def sign(
    release: Release,
    key: str | Path,
    current: bytes | None,
    now: datetime,
    environ: Mapping[str, str] | None = None,
    *,
    start_over: bool = False,
) -> bytes:
    """Return new metadata of the delegated role that also lists this release (with `start_over` it alone).

    `key` is a file or a `pkcs11:` address, its passphrase or PIN is found in `environ`. Raises `UsageError` or
    `LayoutError`.
    """
    from outrider_protocol import signing

    release.verify()
    index = release.index
    if any(item.artifact_type == CANDIDATES for item in index.referrers):
        hint = (
            "Measure it on the board (`outrider-compiler bench`), then build it with --measured instead of --for-bench."
        )
        raise UsageError(f"{release.directory} was built with --for-bench: its latency was judged by nobody", hint)
    targets = [
        signing.artifact_target(
            ids.target_path(index.model, index.release, profile), release.manifest_bytes(profile), index.counter
        )
        for profile in release.profiles
    ]
    if current is not None:
        current, _ = with_room(current, len(targets))
    try:
        signer = signing.open_signer(key, signing.Secrets(environ or {}))
        return signing.add_targets(current, targets, now + timedelta(days=EXPIRES_DAYS), [signer], alone=start_over)
    except MalformedError as error:
        raise UsageError(
            str(error), "Give what `GET /api/v1/trust/MODEL.json` answers, or nothing for the first release."
        ) from error
    except ProtocolError as error:
        raise UsageError(str(error), error.hint) from error


def current_role(release: Release, url: str) -> bytes | None:
    """The role that a server has now, which anybody may read; None for the first release. Raises `PublishError`."""
    return server(url, "").role(release.index.model)


def role_words(role: bytes) -> dict[str, Any]:
    """Version, expiry and targets of a role, for programs."""
    signed = json.loads(role)["signed"]
    return {"version": signed["version"], "expires": signed["expires"], "targets": sorted(signed["targets"])}


def utc_now() -> datetime:
    """The clock, in whole seconds."""
    return datetime.now(UTC).replace(microsecond=0)


@dataclass(frozen=True)
class Server:
    """A fleet server's HTTP interface; `url` without `/api/v1`."""

    url: str
    token: str

    def request(self, method: str, path: str, body: bytes | None, content_type: str = "application/json") -> bytes:
        """One request; raises `PublishError` with the server's own words."""
        headers = {"Content-Type": content_type}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        target = f"{self.url.rstrip('/')}/api/v1{path}"
        asked = urllib.request.Request(target, data=body, method=method, headers=headers)  # noqa: S310  # `server` checked it
        try:
            with urllib.request.urlopen(asked, timeout=TIMEOUT_S) as answer:  # noqa: S310  # as above
                return bytes(answer.read(ANSWER_BYTES))
        except urllib.error.HTTPError as error:
            raise refusal(error.code, error.read(ANSWER_BYTES)) from error
        except OSError as error:
            raise PublishError(
                f"{self.url}: {error}", "Is the fleet server running, and is the address right?"
            ) from error

    def role(self, model: str) -> bytes | None:
        """Current metadata of a model's delegated role; None where the server has none yet."""
        try:
            return self.request("GET", f"/trust/{ids.model_name(model)}.json", None)
        except PublishError as error:
            if isinstance(error.__cause__, urllib.error.HTTPError) and error.__cause__.code == 404:
                return None
            raise


def refusal(status: int, body: bytes) -> PublishError:
    """The server's error document as an error."""
    try:
        said = json.loads(body)
        return PublishError(f"the server refused ({status}): {said['error']}: {said['message']}", str(said["hint"]))
    except (ValueError, KeyError, TypeError):
        return PublishError(f"the server refused with status {status}", "Its log says more.")


def server(url: str, token: str) -> Server:
    """A server by address; raises `UsageError`."""
    if not _is_address(url):
        raise UsageError(f"{url!r} is not an http(s) address", "Give it as http://HOST:PORT.")
    if not (token.isascii() and token.isprintable()):
        raise UsageError("the token holds what no token holds", "Give what `token create` printed, no more.")
    return Server(url, token)


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        return False


def publish(release: Release, to: Server, metadata: str) -> dict[str, Any]:
    """Verify, then upload; raises `LayoutError` before anything is sent, or `PublishError`."""
    release.verify()
    return upload(release, to, metadata)


def upload(release: Release, to: Server, metadata: str) -> dict[str, Any]:
    """Send blobs as they lie on disk, then the release; the server compares every digest itself."""
    for digest in release.digests_listed():
        path = release.directory / blob_path(digest)
        to.request("PUT", f"/blobs/{digest}", path.read_bytes(), "application/octet-stream")
    document = {
        "metadata": metadata,
        "index": (release.directory / INDEX_FILE).read_text(encoding="utf-8"),
        "provenance": provenance_of(release),
    }
    answer: dict[str, Any] = json.loads(to.request("POST", "/releases", json.dumps(document).encode()))
    return answer


def provenance_of(release: Release) -> dict[str, Any]:
    """What the training run said of itself (run, snapshot), from the release's own provenance; {} where nothing."""
    for descriptor in release.index.referrers:
        if descriptor.annotations.get("org.opencontainers.image.title") == "provenance.json":
            statement = json.loads(release.layer_of(descriptor))
            stated: dict[str, Any] = statement["predicate"]["runDetails"]["metadata"]
            return stated
    return {}

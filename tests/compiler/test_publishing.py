"""Signing and publishing, against a real HTTP server that keeps what it is sent."""

from __future__ import annotations

import json
import shutil
import socket
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from tuf.api.metadata import Metadata, Root, Targets

from outrider_compiler import publishing
from outrider_compiler.cli import main
from outrider_compiler.errors import LayoutError, PublishError, UsageError
from outrider_compiler.release import Release
from outrider_protocol import ids, signing
from outrider_protocol.manifest import Manifest, blob_path
from tests.protocol.softhsm import PIN, SoftHsm

NOW = datetime(2030, 1, 1, tzinfo=UTC)


class Keeper(ThreadingHTTPServer):
    """Keeps requests; refuses releases while `refuse` is set; has the `role` of the model "waves", or none yet."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.seen: list[tuple[str, str, bytes, str]] = []
        self.refuse = False
        self.role: bytes | None = None


class Handler(BaseHTTPRequestHandler):
    """Answers like the fleet server."""

    server: Keeper

    def do_PUT(self) -> None:
        self._keep(b"{}")

    def do_POST(self) -> None:
        if self.server.refuse:
            self._answer(422, {"error": "UntrustedError", "message": "bytes differ", "hint": "build again"})
        else:
            self._keep(b'{"model": "waves"}')

    def do_GET(self) -> None:
        if self.server.role is None or self.path != "/api/v1/trust/waves.json":
            self._answer(404, {"error": "NotFound", "message": "no role", "hint": ""})
        else:
            self._answer(200, json.loads(self.server.role))

    def _keep(self, answer: bytes) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.seen.append((self.command, self.path, body, self.headers["Authorization"]))
        self._answer(200, json.loads(answer))

    def _answer(self, status: int, value: dict[str, str]) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""


@pytest.fixture
def keeper() -> Iterator[Keeper]:
    """A running server."""
    with Keeper() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def at(keeper: Keeper) -> publishing.Server:
    """The client's side."""
    return publishing.server(f"http://127.0.0.1:{keeper.server_address[1]}", "secret")


@pytest.fixture
def tampered(release: Release, tmp_path: Path) -> Release:
    """A copy with one bit of the model changed, under its old name."""
    shutil.copytree(release.directory, tmp_path / "tampered")
    model = Manifest.decode(release.manifest_bytes("x86-64")).layers[0]
    path = tmp_path / "tampered" / blob_path(model.digest)
    path.write_bytes(path.read_bytes()[:-1] + b"\x00")
    return Release.open(tmp_path / "tampered")


@pytest.fixture
def key(tmp_path: Path) -> Path:
    """A pipeline's key file."""
    signing.save_private(signing.generate(), tmp_path / "pipeline.pem")
    return tmp_path / "pipeline.pem"


def test_signing_lists_every_artifact(release: Release, key: Path) -> None:
    """CMP-PUB-1: the role lists each manifest by path, length, hash and counter, signed by the pipeline's key."""
    role = Metadata[Targets].from_bytes(publishing.sign(release, key, None, NOW))
    assert set(role.signed.targets) == {f"waves/1.0/{profile}" for profile in release.profiles}
    for profile in release.profiles:
        target = role.signed.targets[f"waves/1.0/{profile}"]
        target.verify_length_and_hashes(release.manifest_bytes(profile))
        assert target.custom == {"counter": 1}
    public = signing.tuf_key(signing.load_private(key))
    public.verify_signature(role.signatures[public.keyid], role.signed_bytes)


def test_signing_keeps_earlier_releases(release: Release, key: Path) -> None:
    """CMP-PUB-2: what the role listed before stays, and its version rises."""
    other = signing.artifact_target("waves/0.9/x86-64", b"older", 7)
    before = signing.add_targets(None, [other], NOW, [signing.load_private(key)])
    role = Metadata[Targets].from_bytes(publishing.sign(release, key, before, NOW)).signed
    assert "waves/0.9/x86-64" in role.targets
    assert len(role.targets) == 3
    assert role.version == 2


def test_starting_over(release: Release, key: Path) -> None:
    """CMP-PUB-2: after a theft the role may list this release alone, its version above the published one's."""
    other = signing.artifact_target("waves/6.6/x86-64", b"stolen", 66)
    before = signing.add_targets(None, [other], NOW, [signing.load_private(key)])
    role = Metadata[Targets].from_bytes(publishing.sign(release, key, before, NOW, start_over=True)).signed
    assert (role.version, "waves/6.6/x86-64" in role.targets, len(role.targets)) == (2, False, 2)


def test_an_encrypted_key(release: Release, tmp_path: Path) -> None:
    """CMP-PUB-8: the key's passphrase comes from the environment; without it nothing is signed."""
    path = tmp_path / "ci.pem"
    signing.save_private(signing.generate(), path, b"secret")
    assert publishing.sign(release, path, None, NOW, {"OUTRIDER_PASSPHRASE": "secret"})
    for environ in ({}, {"OUTRIDER_PASSPHRASE": "wrong"}):
        with pytest.raises(UsageError):
            publishing.sign(release, path, None, NOW, environ)


def test_a_key_on_a_token(release: Release, softhsm: SoftHsm) -> None:
    """CMP-PUB-8: the pipeline's key may be on a PKCS#11 token."""
    data = publishing.sign(release, softhsm.uri("pipeline", pin=False), None, NOW, {"OUTRIDER_PIN": PIN})
    role = Metadata[Targets].from_bytes(data)
    public = signing.public_from(softhsm.uri("pipeline"), signing.Secrets())
    public.verify_signature(role.signatures[public.keyid], role.signed_bytes)


def test_a_wrong_key_file_is_a_usage_error(release: Release, tmp_path: Path) -> None:
    """CMP-PUB-3: a key that cannot be read is named."""
    (tmp_path / "no.pem").write_text("nothing", encoding="utf-8")
    with pytest.raises(UsageError, match=r"no\.pem"):
        publishing.sign(release, tmp_path / "no.pem", None, NOW)


def test_a_wrong_role_is_a_usage_error(release: Release, key: Path) -> None:
    """CMP-PUB-3: what is no role of targets is not continued."""
    root = signing.sign_role(Root(), [signing.load_private(key)])
    for current, said in ((b"{", "no TUF metadata"), (b"[]", "no TUF metadata"), (root, "'root', not targets")):
        with pytest.raises(UsageError, match=said) as caught:
            publishing.sign(release, key, current, NOW)
        assert "GET /api/v1/trust/" in caught.value.hint


def test_a_wrong_role_file_is_not_sent(release: Release, keeper: Keeper, tmp_path: Path) -> None:
    """CMP-PUB-3: metadata that is no text is named before anything leaves."""
    (tmp_path / "role.json").write_bytes(b"\xff")
    where = ["--server", at(keeper).url, "--token", "t", "--metadata", str(tmp_path / "role.json")]
    done = CliRunner().invoke(main, ["publish", str(release.directory), *where])
    assert (done.exit_code, "role.json: not UTF-8 text" in done.stderr, keeper.seen) == (2, True, [])


@pytest.mark.parametrize("url", ["fleet", "http://[x", "http://127.0.0.1:abc", "http://127.0.0.1:99999", "http://:80"])
def test_no_address(url: str) -> None:
    """CMP-PUB-3: what cannot be an address is said, whatever is wrong with it."""
    with pytest.raises(UsageError, match="not an http"):
        publishing.server(url, "t")


@pytest.mark.parametrize("token", ["two\nlines", "t\u00f6ken", "\u65e5\u672c"])
def test_no_token(token: str) -> None:
    """CMP-PUB-3: what no header can carry is not sent."""
    with pytest.raises(UsageError, match="token"):
        publishing.server("http://127.0.0.1:9", token)


def test_blobs_go_first(release: Release, keeper: Keeper) -> None:
    """CMP-PUB-4: every blob by digest, then the release: metadata, index, provenance; the token with each."""
    publishing.publish(release, at(keeper), "{role}")
    *blobs, last = keeper.seen
    assert {path.rpartition("/")[2] for _, path, _, _ in blobs} == set(release.digests())
    assert all(ids.digest_of(body) == path.rpartition("/")[2] for _, path, body, _ in blobs)
    assert (last[0], last[1]) == ("POST", "/api/v1/releases")
    assert json.loads(last[2])["metadata"] == "{role}"
    assert {token for *_, token in keeper.seen} == {"Bearer secret"}


def test_a_tampered_release_is_not_sent(tampered: Release, keeper: Keeper, key: Path) -> None:
    """CMP-PUB-5: one changed bit is refused before the first byte leaves, and is not signed either."""
    with pytest.raises(LayoutError):
        publishing.publish(tampered, at(keeper), "{}")
    with pytest.raises(LayoutError):
        publishing.sign(tampered, key, None, NOW)
    assert keeper.seen == []


def test_the_servers_own_words_are_shown(tampered: Release, keeper: Keeper) -> None:
    """CMP-PUB-6: `upload` leaves the judgement to the server, and its refusal is told with its hint."""
    keeper.refuse = True
    with pytest.raises(PublishError, match=r"\(422\): UntrustedError: bytes differ") as caught:
        publishing.upload(tampered, at(keeper), "{}")
    assert caught.value.hint == "build again"


def test_a_server_that_is_away_is_said(release: Release) -> None:
    """CMP-PUB-6: no answer and no address are errors with a hint; a model without a role has none."""
    with pytest.raises(PublishError, match=r"127\.0\.0\.1:9"):
        publishing.publish(release, publishing.server("http://127.0.0.1:9", "t"), "{}")
    with pytest.raises(UsageError, match="not an http"):
        publishing.server("file:///etc/passwd", "t")


def test_a_model_without_a_role_has_none(keeper: Keeper) -> None:
    """CMP-PUB-2: the first release of a model starts from nothing."""
    assert at(keeper).role("waves") is None


def sign(release: Release, folder: Path, url: str, *more: str) -> Result:
    """The command `sign`, with a key of its own."""
    if not (folder / "key.pem").exists():
        signing.save_private(signing.generate(), folder / "key.pem")
    options = ["--key", str(folder / "key.pem"), "--server", url, "--out", str(folder / "role.json"), "--json", *more]
    return CliRunner().invoke(main, ["sign", str(release.directory), *options])


def test_sign_takes_the_role_from_the_server(keeper: Keeper, release: Release, tmp_path: Path) -> None:
    """CMP-PUB-7: none there is the first release; the one there is continued, with all that it lists."""
    url = at(keeper).url
    first = json.loads(sign(release, tmp_path, url).stdout)
    assert (first["version"], first["targets"]) == (1, ["waves/1.0/x86-64", "waves/1.0/x86-64-vnni"])
    role = Metadata[Targets].from_file(str(tmp_path / "role.json"))
    role.signed.targets["waves/0.9/x86-64"] = role.signed.targets["waves/1.0/x86-64"]
    keeper.role = role.to_bytes()
    second = json.loads(sign(release, tmp_path, url).stdout)
    assert second["version"] == 2
    assert set(second["targets"]) == {*first["targets"], "waves/0.9/x86-64"}


def test_a_silent_server_is_no_first_release(release: Release, tmp_path: Path) -> None:
    """CMP-PUB-7: who cannot ask does not begin a new role, and two sources of the role are a usage error."""
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))
        done = sign(release, tmp_path, f"http://127.0.0.1:{unheard.getsockname()[1]}")
    assert (done.exit_code, json.loads(done.stdout)["error"]) == (3, "PublishError")
    assert not (tmp_path / "role.json").exists()
    assert sign(release, tmp_path, "http://127.0.0.1:1", "--metadata", "role.json").exit_code == 2

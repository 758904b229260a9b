"""Where bytes come from: broker, HTTP and folder give the same, and each fails in its own named way."""

from __future__ import annotations

import os
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from outrider_agent.control import Channel
from outrider_agent.update import broker_source, http_source
from outrider_agent.update.broker_source import BrokerSource
from outrider_agent.update.courier import Courier
from outrider_agent.update.errors import CannotRefreshError, StalledError
from outrider_agent.update.folder_source import FolderSource
from outrider_agent.update.http_source import HttpError, HttpFiles, HttpSource
from outrider_agent.update.sources import EitherSource, Source
from outrider_protocol import documents, topics
from outrider_protocol.errors import TooLargeError
from outrider_protocol.limits import CHUNK_BYTES
from tests.agent.supervisor.house import Authority, Trust
from tests.agent.update.kit import Supply

LIMIT = 1 << 20
BLOB = bytes(range(256)) * 1000
HEX = "ab" * 32


class House:
    """One set of bytes, offered by a broker's retained topics, an HTTP server and a folder."""

    def __init__(self, directory: Path, authority: Authority) -> None:
        trust = Trust()
        for _ in range(40):
            trust.new_root()
        self.messages = trust.messages()
        self.documents = {name_of(topic): data for topic, data in self.messages.items()}
        self.supply = Supply(self.messages | {topics.blob(HEX, n): chunk(n) for n in range(3)})
        self.folder = directory / "stick"
        for name, data in self.documents.items():
            self._write(documents.trust_path(name), data)
        self._write(documents.blob_path(HEX), BLOB)
        self.ca = authority.directory / "ca.pem"
        self.files = {f"/api/v1/trust/{name}": data for name, data in self.documents.items()}
        self.files[f"/api/v1/blobs/sha256:{HEX}"] = BLOB
        self.requests: list[str] = []
        self.status = 200

    def _write(self, path: str, data: bytes) -> None:
        (self.folder / path).parent.mkdir(parents=True, exist_ok=True)
        (self.folder / path).write_bytes(data)

    @contextmanager
    def broker(self) -> Iterator[BrokerSource]:
        ours, theirs = socket.socketpair()
        feeder, channel = Channel(ours), Channel(theirs)
        thread = threading.Thread(target=self.supply.serve, args=(feeder,))
        thread.start()
        try:
            yield BrokerSource(Courier(channel), "har")
        finally:
            channel.close()
            thread.join(10)
            feeder.close()

    @contextmanager
    def http(self, tls: Authority | None = None) -> Iterator[str]:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                outer.requests.append(self.path)
                data, status = outer.files.get(self.path), outer.status
                span = self.headers.get("Range")
                if data is None:
                    data, status = b"", 404
                elif span and status == 200:
                    first, last = span.removeprefix("bytes=").split("-")
                    data, status = data[int(first) : int(last) + 1], 206
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                return

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        if tls is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(tls.directory / "server.pem", tls.directory / "server.key")
            server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"{'https' if tls else 'http'}://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            server.server_close()


def chunk(number: int) -> bytes:
    return BLOB[number * CHUNK_BYTES : (number + 1) * CHUNK_BYTES]


def name_of(topic: str) -> str:
    kind = topic.removeprefix("o1/trust/")
    return documents.root(int(kind[6:])) if kind.startswith("roots/") else f"{kind}.json"


@pytest.fixture
def house(tmp_path: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch) -> House:
    for name in ("WAIT_S", "ROOT_WAIT_S"):
        monkeypatch.setattr(broker_source, name, 0.5)
    monkeypatch.setattr("outrider_agent.update.courier.Courier.fetch.__defaults__", (0.5, 32, 0.1))
    return House(tmp_path, authority)


def everything(source: Source, house: House) -> None:
    for name, data in house.documents.items():
        assert source.document(name, LIMIT) == data
    assert dict(source.chunks(HEX, [2, 0, 1])) == {n: chunk(n) for n in range(3)}
    assert dict(source.chunks(HEX, [1])) == {1: chunk(1)}


def test_the_same_bytes_in_each(house: House, authority: Authority) -> None:
    """AGT-SRC-1: every document and every chunk, from the broker, by HTTP, by HTTPS, and from a folder."""
    with house.broker() as broker:
        everything(broker, house)
    for tls in (None, authority):
        with house.http(tls) as url, closing(HttpSource(url, house.ca)) as http:
            everything(http, house)
    everything(FolderSource(house.folder), house)


def test_the_broker_is_asked_by_windows(house: House) -> None:
    """AGT-SRC-2: forty roots come in two windows; what does not exist by the online document is not asked for."""
    with house.broker() as broker:
        for number in range(2, 42):
            assert broker.document(documents.root(number), LIMIT) == house.documents[documents.root(number)]
        asked = [topic for topic in house.supply.asked if "/roots/" in topic]
        assert asked == [topics.trust_root(number) for number in range(2, 42)]
    subscribed = [message.fields["topics"] for message in house.supply.said if message.op == "unsubscribe"]
    assert len([wanted for wanted in subscribed if "/roots/" in wanted[0]]) == 2


def test_what_is_not_there(house: House) -> None:
    """AGT-SRC-3: HTTP and folder say "none"; a silent broker says nothing, which is "cannot refresh"."""
    with house.http() as url, closing(HttpSource(url, house.ca)) as http:
        assert http.document("other.json", LIMIT) is None
    assert FolderSource(house.folder).document("other.json", LIMIT) is None
    house.supply.silent = {topics.TRUST_ONLINE, topics.blob(HEX, 1)}
    with house.broker() as broker:
        with pytest.raises(CannotRefreshError, match=r"online\.json") as caught:
            broker.document(documents.ONLINE, LIMIT)
        assert caught.value.hint
        with pytest.raises(StalledError):
            list(broker.chunks(HEX, [0, 1, 2]))


def test_too_long_is_refused_before_it_is_kept(house: House) -> None:
    """AGT-SRC-4: each source stops at the caller's limit."""
    with house.broker() as broker, house.http() as url, closing(HttpSource(url, house.ca)) as http:
        for source in (broker, http, FolderSource(house.folder)):
            with pytest.raises(TooLargeError):
                source.document(documents.ONLINE, 100)


def test_a_server_that_fails(house: House, authority: Authority, tmp_path: Path) -> None:
    """AGT-SRC-5: errors of the server, of the connection and of the certificate are "cannot refresh", each said."""
    with house.http() as url, closing(HttpSource(url, house.ca)) as source:
        house.status = 500
        with pytest.raises(HttpError, match="status 500") as caught:
            source.document(documents.ONLINE, LIMIT)
        assert caught.value.hint
        with pytest.raises(StalledError, match="status 500"):
            list(source.chunks(HEX, [0]))
    with pytest.raises(HttpError):
        HttpSource(url, house.ca).document(documents.ONLINE, LIMIT)
    house.status = 200
    other = Authority(tmp_path / "other")
    with house.http(tls=other) as url, pytest.raises(HttpError, match="CERTIFICATE_VERIFY_FAILED"):
        HttpSource(url, house.ca).document(documents.ONLINE, LIMIT)


@pytest.mark.parametrize("url", ["http://fleet.example", "ftp://127.0.0.1", "fleet", "", "http://127.0.0.1:x"])
def test_addresses_that_are_not_asked(house: House, url: str) -> None:
    """AGT-SRC-5: plain HTTP beyond loopback, and what is no HTTP address."""
    with pytest.raises(HttpError):
        HttpSource(url, house.ca).document(documents.ONLINE, LIMIT)


def test_plain_http_beyond_loopback_is_not_even_asked(house: House) -> None:
    """AGT-SRC-5: it is refused for what it is, before a name is looked up or a connection made."""
    with pytest.raises(HttpError, match="plain HTTP beyond loopback"):
        HttpSource("http://fleet.invalid", house.ca).document(documents.ONLINE, LIMIT)


def test_a_folder_gives_plain_files_alone(house: House) -> None:
    """AGT-SRC-5 and AIR-6: a pipe in a document's place is an error, neither a wait nor an empty document."""
    path = house.folder / documents.trust_path("har.json")
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(CannotRefreshError, match="har"):
        FolderSource(house.folder).document("har.json", LIMIT)


def test_an_answer_that_is_cut_off(house: House) -> None:
    """AGT-SRC-5: fewer bytes than the server announced are no answer."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{}")

        threading.Thread(target=answer, daemon=True).start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(HttpError, match="cut off"):
            HttpSource(url, house.ca).document(documents.ONLINE, LIMIT)


def test_an_answer_that_drips_is_given_up(house: House) -> None:
    """AGT-SRC-5: the whole answer has its time, not only each part of it."""
    now = iter(range(0, 10_000, 40))
    house.files["/api/v1/trust/online.json"] = bytes(http_source.BLOCK_BYTES * 4)
    with house.http() as url:
        files = HttpFiles(f"{url}/api/v1", clock=lambda: float(next(now)))
        with pytest.raises(HttpError, match="not whole"):
            files.read("trust/online.json", LIMIT)


def test_a_connection_that_ended_is_made_again(house: House) -> None:
    """AGT-SRC-5: a kept connection that the server closed costs one more try, and no error."""
    with house.http() as url, closing(HttpFiles(f"{url}/api/v1")) as files:
        assert files.read("trust/har.json", LIMIT)
        assert files._connection.sock is not None
        files._connection.sock.shutdown(socket.SHUT_RDWR)
        assert files.read("trust/har.json", LIMIT)


def test_the_second_gives_what_the_first_cannot(house: House) -> None:
    """AGT-SRC-6: documents and chunks; where neither can, the first one's error is told."""
    house.supply.silent = {topics.TRUST_ONLINE, topics.trust_model("har"), topics.blob(HEX, 1)}
    with house.broker() as broker, house.http() as url, closing(HttpSource(url, house.ca)) as http:
        either = EitherSource(broker, http)
        assert either.document(documents.ONLINE, LIMIT) == house.documents[documents.ONLINE]
        assert dict(either.chunks(HEX, [0, 1, 2])) == {n: chunk(n) for n in range(3)}
        assert [path for path in house.requests if "blobs" in path] == [f"/api/v1/blobs/sha256:{HEX}"]
    with house.broker() as broker:
        nobody = EitherSource(broker, HttpSource("http://127.0.0.1:1", house.ca))
        with pytest.raises(CannotRefreshError, match="no answer"):
            nobody.document(documents.ONLINE, LIMIT)
        with pytest.raises(StalledError, match="missing"):
            list(nobody.chunks(HEX, [0, 1, 2]))


def test_an_unknown_blob(house: House) -> None:
    """AGT-SRC-3: a blob that is nowhere is a stall, which can be tried again."""
    with house.http() as url, closing(HttpSource(url, house.ca)) as http:
        for source in (http, FolderSource(house.folder)):
            with pytest.raises(StalledError):
                list(source.chunks("cd" * 32, [0]))

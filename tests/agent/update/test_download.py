"""Chunked downloads over the real channel, and safe files."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from outrider_agent.control import Channel
from outrider_agent.durable import Durable
from outrider_agent.update import download, stage
from outrider_agent.update.broker_source import BrokerSource
from outrider_agent.update.courier import Courier, Stopped
from outrider_agent.update.errors import LoadTestError, NoSpaceError, StalledError, UnsafeFileError
from outrider_protocol import ids, topics
from outrider_protocol.errors import DigestMismatchError
from outrider_protocol.limits import CHUNK_BYTES
from outrider_protocol.manifest import Descriptor, Manifest, Role, device_layer
from tests.agent.update.kit import Supply

DATA = os.urandom(4 * CHUNK_BYTES + 77)
LAYER = device_layer(Role.MODEL, "model.onnx", DATA)


def chunk(number: int) -> str:
    return topics.blob(ids.hex_of(LAYER.digest), number)


@pytest.fixture
def supply() -> Supply:
    chunks = {chunk(n): DATA[n * CHUNK_BYTES : (n + 1) * CHUNK_BYTES] for n in range(5)}
    return Supply(chunks)


@contextmanager
def courier_of(supply: Supply) -> Iterator[Courier]:
    ours, theirs = socket.socketpair()
    feeder, channel = Channel(ours), Channel(theirs)
    thread = threading.Thread(target=supply.serve, args=(feeder,))
    thread.start()
    try:
        yield Courier(channel)
    finally:
        channel.close()
        thread.join(10)
        feeder.close()


@pytest.fixture
def fetch(supply: Supply, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], bytes]:
    """Fetch the layer; its bytes."""
    monkeypatch.setattr("outrider_agent.update.courier.Courier.fetch.__defaults__", (0.2, 32, 0.05))

    def run() -> bytes:
        with courier_of(supply) as courier:
            download.layer(BrokerSource(courier, "har"), LAYER, tmp_path, Durable())
        return (tmp_path / "model.onnx").read_bytes()

    return run


def test_a_layer_of_several_chunks(fetch: Callable[[], bytes], supply: Supply) -> None:
    """AGT-UPD-6: windows of exact topics, written in order; what is there is not fetched again."""
    assert fetch() == DATA
    supply.asked.clear()
    assert fetch() == DATA
    assert not supply.asked


def test_it_resumes_after_the_verified_chunks(fetch: Callable[[], bytes], supply: Supply, tmp_path: Path) -> None:
    """AGT-UPD-6: of a part that a crash left, right chunks stay, the torn one and what follows is fetched again."""
    part = tmp_path / "model.onnx.part"
    part.write_bytes(DATA[: 2 * CHUNK_BYTES] + b"torn")
    assert fetch() == DATA
    assert supply.asked == [chunk(n) for n in (2, 3, 4)]
    assert not part.exists()


def test_a_damaged_part_is_cut_where_it_is_wrong(fetch: Callable[[], bytes], supply: Supply, tmp_path: Path) -> None:
    """AGT-UPD-6: every chunk of a part is checked again, not only its length."""
    damaged = bytearray(DATA[: 3 * CHUNK_BYTES])
    damaged[CHUNK_BYTES + 5] ^= 1
    (tmp_path / "model.onnx.part").write_bytes(damaged)
    assert fetch() == DATA
    assert supply.asked[0] == chunk(1)


def test_a_wrong_chunk_is_asked_for_again_then_refused(fetch: Callable[[], bytes], supply: Supply) -> None:
    """AGT-UPD-7: three wrong answers are a refusal that names file and chunk."""
    supply.messages[chunk(1)] = b"something else"
    with pytest.raises(DigestMismatchError, match=r"model\.onnx: chunk 1"):
        fetch()
    assert supply.asked.count(chunk(1)) == download.WRONG_CHUNKS


def test_silence_is_asked_again_and_then_a_stall(fetch: Callable[[], bytes], supply: Supply) -> None:
    """AGT-UPD-6: what does not come is asked for again; the error says how much is missing."""
    supply.silent = {chunk(3)}
    with pytest.raises(StalledError, match="1 messages are missing"):
        fetch()
    assert supply.asked.count(chunk(3)) > 1


def test_stop_ends_it() -> None:
    """AGT-UPD-8: the supervisor's `stop` ends the process with status 0, wherever it waits."""
    ours, theirs = socket.socketpair()
    Channel(ours).send("stop")
    with pytest.raises(Stopped) as caught:
        Courier(Channel(theirs)).pause(5.0)
    assert caught.value.code == 0
    ours.close()
    theirs.close()


def staged(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    path.write_bytes(DATA)
    path.chmod(0o600)
    return path


def test_a_plain_file_of_ours_is_safe(tmp_path: Path) -> None:
    """AGT-UPD-8: one name, our own, nobody else may use it, the signed bytes."""
    stage.verify_file(staged(tmp_path), LAYER)


def test_links_and_foreign_permissions_are_not(tmp_path: Path) -> None:
    """AGT-UPD-8: a hard link, a symbolic link and a file that others may write are refused."""
    path = staged(tmp_path)
    (tmp_path / "link").symlink_to(path)
    with pytest.raises(UnsafeFileError, match="symbolic"):
        stage.verify_file(tmp_path / "link", LAYER)
    path.chmod(0o644)
    with pytest.raises(UnsafeFileError, match="mode 644"):
        stage.verify_file(path, LAYER)
    path.chmod(0o600)
    (tmp_path / "second").hardlink_to(path)
    with pytest.raises(UnsafeFileError, match="one name"):
        stage.verify_file(path, LAYER)


def test_a_file_of_another_user_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """AGT-UPD-8: who owns a file may change it after it was verified: another user's is refused."""
    path, owner = staged(tmp_path), os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    with pytest.raises(UnsafeFileError, match="of this user"):
        stage.verify_file(path, LAYER)


def test_a_committed_directory_holds_its_manifest(tmp_path: Path) -> None:
    """AGT-UPD-7: an artifact that is there is taken only while its manifest has the digest that is ordered."""
    (tmp_path / "manifest.json").write_bytes(b"{}")
    (tmp_path / "manifest.json").chmod(0o600)
    assert stage.is_complete(tmp_path, ids.digest_of(b"{}"))
    assert not stage.is_complete(tmp_path, ids.digest_of(b"another"))
    assert not stage.is_complete(tmp_path / "absent", ids.digest_of(b"{}"))


def test_a_wrong_file_is_removed_and_refused(tmp_path: Path) -> None:
    """AGT-UPD-7: the whole digest is checked too; the wrong file does not stay for the next try."""
    path = staged(tmp_path)
    path.write_bytes(DATA[:-1] + b"x")
    config = Descriptor("application/json", LAYER.digest, 1)
    with pytest.raises(DigestMismatchError):
        stage.verify(tmp_path, Manifest(config, (LAYER,), {}), Durable())
    assert not path.exists()


def test_an_artifact_that_does_not_fit_is_refused_before_the_download(tmp_path: Path) -> None:
    """AGT-UPD-8: the error says how much is needed and how much is free."""
    huge = Descriptor(LAYER.media_type, LAYER.digest, 1 << 60, LAYER.annotations)
    with pytest.raises(NoSpaceError) as caught:
        stage.check_space(tmp_path, Manifest(huge, (huge,), {}))
    assert caught.value.hint


def test_a_load_test_that_hangs_or_crashes_is_an_error(tmp_path: Path) -> None:
    """AGT-UPD-9: a child that says nothing useful gives its exit status, one that hangs is ended."""
    with pytest.raises(LoadTestError):
        stage.load_test(tmp_path / "nothing", "har")
    with pytest.raises(LoadTestError) as caught:
        stage.load_test(tmp_path, "har", timeout_s=0.001)
    assert caught.value.error == "LoadTimeoutError"

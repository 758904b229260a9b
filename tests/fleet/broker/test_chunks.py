"""Blobs as retained chunks."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from outrider_fleet.broker import chunks
from outrider_protocol import limits, topics
from tests.fleet.broker.house import Client, House, Inbox, until


@pytest.mark.parametrize("size", [0, 1, limits.CHUNK_BYTES, limits.CHUNK_BYTES + 1, 5 * limits.CHUNK_BYTES - 7])
def test_blob_arrives_whole(client: Callable[..., Client], server: Inbox, tmp_path: Path, size: int) -> None:
    """BRK-20: a blob is published once, in chunks of at most 120 KiB under exact topics, and adds up to itself."""
    data = bytes(n * 7 % 251 for n in range(size)) + size.to_bytes(4, "big")
    data = data[: max(1, size)]
    (tmp_path / "blob").write_bytes(data)
    digest = hashlib.sha256(data).hexdigest()
    count = chunks.publish_blob(server.link, digest, tmp_path / "blob")
    assert count == chunks.chunk_count(len(data))
    device = client("dev-1")
    assert device.connect()
    names = [topics.blob(digest, n) for n in range(count)]
    assert all(device.subscribe(name) for name in names)
    assert until(lambda: all(name in device.received for name in names))
    assert b"".join(device.received[name] for name in names) == data
    assert max(len(device.received[name]) for name in names) <= limits.CHUNK_BYTES


def test_warmer_reads_everything_and_notices_what_is_gone(server: Inbox, tmp_path: Path) -> None:
    """BRK-21: the warmer reads all chunks of its blobs; a deleted blob has none left."""
    (tmp_path / "blob").write_bytes(b"warm" * limits.CHUNK_BYTES)
    count = chunks.publish_blob(server.link, "ef" * 32, tmp_path / "blob")
    warmer = chunks.Warmer(server.link)
    warmer.add("ef" * 32, count)
    assert warmer.warm_once(new_only=True) == {"ef" * 32: count}
    assert warmer.warm_once(new_only=True) == {}
    assert warmer.warm_once() == {"ef" * 32: count}
    warmer.remove("ef" * 32)
    assert warmer.warm_once() == {}
    chunks.drop_blob(server.link, "ef" * 32, count)
    assert server.link.read_retained(f"o1/blob/{'ef' * 32}", 1, 0.3) == {}


@pytest.mark.parametrize("interval_s", [60.0, 0.02])
def test_warmer_reads_at_once_and_again(
    server: Inbox, tmp_path: Path, interval_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """BRK-21: a new blob is read as soon as it is added, and all are read again each interval."""
    (tmp_path / "blob").write_bytes(b"warm")
    chunks.publish_blob(server.link, "aa" * 32, tmp_path / "blob")
    read, real = [], server.link.read_retained

    def count(prefix: str, wanted: int, timeout_s: float) -> dict[str, bytes]:
        found = real(prefix, wanted, timeout_s)
        read.append(len(found))
        return found

    monkeypatch.setattr(server.link, "read_retained", count)
    warmer = chunks.Warmer(server.link, interval_s=interval_s)
    warmer.start()
    warmer.add("aa" * 32, 1)
    assert until(lambda: len(read) >= (1 if interval_s > 1 else 3))
    warmer.stop()
    assert set(read) == {1}


def test_chunks_survive_the_brokers_death(house: House, server: Inbox, tmp_path: Path) -> None:
    """BRK-10: chunks that were acknowledged are still there after kill -9."""
    (tmp_path / "blob").write_bytes(b"kept" * limits.CHUNK_BYTES)
    count = chunks.publish_blob(server.link, "cd" * 32, tmp_path / "blob")
    house.broker.kill()
    server.link.wait_connected(10)
    assert until(lambda: len(server.link.read_retained(f"o1/blob/{'cd' * 32}", count, 2)) == count)

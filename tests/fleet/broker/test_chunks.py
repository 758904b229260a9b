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
    warmer = chunks.Warmer(server.link, interval_s=0.01)
    warmer.add("ef" * 32, count)
    assert warmer.warm_once() == {"ef" * 32: count}
    warmer.start()
    warmer.stop()
    warmer.remove("ef" * 32)
    assert warmer.warm_once() == {}
    chunks.drop_blob(server.link, "ef" * 32, count)
    assert server.link.read_retained(f"o1/blob/{'ef' * 32}", 1, 0.3) == {}


def test_chunks_survive_the_brokers_death(house: House, server: Inbox, tmp_path: Path) -> None:
    """BRK-10: chunks that were acknowledged are still there after kill -9."""
    (tmp_path / "blob").write_bytes(b"kept" * limits.CHUNK_BYTES)
    count = chunks.publish_blob(server.link, "cd" * 32, tmp_path / "blob")
    house.broker.kill()
    server.link.wait_connected(10)
    assert until(lambda: len(server.link.read_retained(f"o1/blob/{'cd' * 32}", count, 2)) == count)

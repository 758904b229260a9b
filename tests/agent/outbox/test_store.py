"""The outbox on the real SQLite: every rule of docs/spec/outbox.md that needs no second process."""

from __future__ import annotations

import json
import random
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outrider_agent.errors import OutboxError
from outrider_agent.outbox.store import Outbox

LIMIT = 1 << 20
# Thousands of commits: in memory where there is such a file system, for kill -9 asks nothing of the disk.
MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "outbox.db"


@pytest.fixture
def outbox(path: Path) -> Iterator[Outbox]:
    made = Outbox.open(path, LIMIT)
    yield made
    made.close()


def rows(path: Path, query: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as database:
        return database.execute(query).fetchall()


def seqs(outbox: Outbox, stream: str = "bulk", after: int = 0) -> list[tuple[int, int]]:
    return [(item.seq, item.prev) for item in outbox.sendable(stream, after, 1000)]


def test_a_sequence_is_durable_before_it_is_given_out(path: Path) -> None:
    """AGT-OUT-1: whatever is killed, no sequence is given out twice; a lost one is a declared gap."""
    script = "import sys, os; from pathlib import Path; from outrider_agent.outbox.store import Outbox\n"
    script += "box = Outbox.open(Path(sys.argv[1]), 1 << 20)\n"
    script += "print([box.reserve('bulk') for _ in range(40)], flush=True); os.kill(os.getpid(), 9)"
    given_out: list[int] = []
    for _ in range(2):
        done = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=False)
        given_out += json.loads(done.stdout)
    outbox = Outbox.open(path, LIMIT)
    given_out.append(outbox.reserve("bulk"))
    assert len(set(given_out)) == len(given_out) == 81
    gaps = {seq for (seq,) in rows(path, "SELECT seq FROM gap WHERE reason = 'abandoned'")}
    assert set(given_out[:80]) <= gaps
    outbox.close()


def test_it_sends_in_order_up_to_the_first_open_reservation(outbox: Outbox) -> None:
    """AGT-OUT-3: what was put behind an open reservation waits until that is filled or abandoned."""
    first, second = outbox.reserve("bulk"), outbox.reserve("bulk")
    outbox.put("bulk", "windows", 1, b"w")
    outbox.commit()
    assert seqs(outbox) == []
    assert outbox.blocking("bulk") == first
    outbox.fill("bulk", first, "predictions", 5, b"p")
    outbox.commit()
    assert seqs(outbox) == [(first, 0)]
    outbox.abandon("bulk", second)
    outbox.commit()
    assert seqs(outbox) == [(first, 0), (3, first)]
    assert outbox.blocking("bulk") is None


def test_only_committed_batches_are_sent(outbox: Outbox) -> None:
    """AGT-OUT-4: a bulk batch is sent after `commit`, an event when `put` returns."""
    outbox.put("bulk", "windows", 1, b"w")
    assert seqs(outbox) == []
    outbox.put("event", "event", 1, b"e")
    assert seqs(outbox, "event") == [(1, 0)]
    assert seqs(outbox) == [(1, 0)]


def test_an_ack_deletes_and_nothing_else_does(path: Path) -> None:
    """AGT-OUT-5: the chain goes on from the acknowledged sequence, also after a new start."""
    outbox = Outbox.open(path, LIMIT)
    for _ in range(4):
        outbox.put("bulk", "windows", 1, b"w")
    outbox.commit()
    assert outbox.ack("bulk", 2)
    assert not outbox.ack("bulk", 1)
    assert seqs(outbox) == [(3, 2), (4, 3)]
    outbox.close()
    again = Outbox.open(path, LIMIT)
    assert seqs(again) == [(3, 2), (4, 3)]
    assert again.acked() == {"bulk": 2, "event": 0}
    again.close()


def test_an_ack_from_the_future_raises_the_next_sequence(outbox: Outbox) -> None:
    """AGT-OUT-6: this file was restored from a copy: what the server has is never given out again."""
    outbox.put("bulk", "windows", 1, b"w")
    outbox.commit()
    assert outbox.ack("bulk", 500)
    assert outbox.reserve("bulk") == 501
    assert outbox.counts() == {"bulk": 0, "event": 0}


def test_a_full_outbox_sheds_samples_then_windows_then_predictions_and_no_event(path: Path) -> None:
    """AGT-OUT-7: shed sequences are gaps that the next batch's `prev` leaps over."""
    outbox = Outbox.open(path, 1000)
    for kind in ("predictions", "windows", "samples", "predictions"):
        outbox.put("bulk", kind, 1, bytes(300))
    outbox.put("event", "event", 1, bytes(300))
    assert [item.kind for item in outbox.sendable("bulk", 0, 10)] == ["predictions", "predictions"]
    assert seqs(outbox) == [(1, 0), (4, 1)]
    outbox.put("event", "event", 1, bytes(900))
    assert outbox.counts() == {"bulk": 0, "event": 2}
    gaps = rows(path, "SELECT seq, kind FROM gap WHERE reason = 'shed' ORDER BY seq")
    assert gaps == [(1, "predictions"), (2, "windows"), (3, "samples"), (4, "predictions")]
    outbox.close()


def test_what_waits_for_a_disk_that_takes_nothing_is_bounded(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """AGT-OUT-13: the oldest that waits in memory goes, events never; the rest is committed once the disk is back."""
    monkeypatch.setattr("outrider_agent.outbox.store.WAITING_BYTES", 1000)
    outbox = Outbox.open(path, LIMIT)
    lease = outbox.reserve("bulk")
    outbox._database.execute("PRAGMA query_only = ON")
    with pytest.raises(OutboxError):
        outbox.put("event", "event", 1, bytes(300))
    outbox.fill("bulk", lease, "predictions", 5, bytes(300))
    for _ in range(20):
        outbox.put("bulk", "windows", 1, bytes(300))
        with pytest.raises(OutboxError, match="readonly"):
            outbox.commit()
    outbox._database.execute("PRAGMA query_only = OFF")
    outbox.commit()
    assert outbox.counts() == {"bulk": 2, "event": 1}
    assert seqs(outbox) == [(1, 0), (21, 1)]
    outbox.close()
    assert len(rows(path, "SELECT seq FROM gap WHERE reason = 'shed'")) == 19


def test_gaps_of_long_ago_are_forgotten(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """AGT-OUT-14: years of abandoned leases leave a bounded file, and a start that declares none of them anew."""
    monkeypatch.setattr("outrider_agent.outbox.store.GAPS_KEPT", 20)
    outbox = Outbox.open(path, LIMIT)
    kept = outbox.reserve("bulk")
    for _ in range(100):
        outbox.abandon("bulk", outbox.reserve("bulk"))
        outbox.commit()
    outbox.fill("bulk", kept, "predictions", 1, b"p")
    last = outbox.put("bulk", "windows", 1, b"w")
    outbox.commit()
    assert seqs(outbox) == [(kept, 0), (last, kept)]
    outbox._database.close()  # kill -9
    again = Outbox.open(path, LIMIT)
    assert len(rows(path, "SELECT seq FROM gap WHERE stream = 'bulk'")) <= 20 + 32
    assert seqs(again) == [(kept, 0), (last, kept)]
    assert again.reserve("bulk") > last
    again.close()


def test_an_outbox_that_cannot_be_opened_is_a_named_error(path: Path) -> None:
    """AGT-OUT-13: a disk that is full or cannot be written has a hint; a small one in memory stands in meanwhile."""
    Outbox.open(path, LIMIT).close()
    path.with_name("outbox.db-wal").mkdir()
    with pytest.raises(OutboxError) as caught:
        Outbox.open(path, LIMIT)
    assert "free space" in caught.value.hint
    outbox = Outbox.in_memory(path)
    outbox.put("event", "event", 1, b"e")
    assert [item.body for item in outbox.sendable("event", 0, 9)] == [b"e"]
    outbox.close()


def test_what_is_on_its_way_is_not_shed(path: Path) -> None:
    """AGT-OUT-7: a batch that the server may be committing stays until its ack."""
    outbox = Outbox.open(path, 500)
    outbox.put("bulk", "samples", 1, bytes(300))
    outbox.commit()
    outbox.mark_sent("bulk", 1)
    outbox.put("bulk", "windows", 1, bytes(300))
    outbox.commit()
    assert seqs(outbox) == [(1, 0)]
    outbox.close()


@pytest.mark.parametrize("damage", [b"not a database", bytes(8192)])
def test_a_damaged_file_is_set_aside(path: Path, damage: bytes) -> None:
    """AGT-OUT-8: the agent runs on with a new outbox and a new id; the old file is kept."""
    Outbox.open(path, LIMIT).close()
    path.write_bytes(damage)
    outbox = Outbox.open(path, LIMIT)
    assert outbox.put("event", "event", 1, b"e") == 1
    assert path.with_name("outbox.db.damaged-1").read_bytes()[: len(damage)] == damage
    outbox.close()


def test_an_outbox_that_breaks_while_it_runs_is_renewed_above_what_was_given_out(path: Path) -> None:
    """AGT-OUT-8: an old lease can never be mistaken for one of the new outbox."""
    outbox = Outbox.open(path, LIMIT)
    given_out = [outbox.reserve("bulk") for _ in range(3)]
    renewed = outbox.renew()
    assert renewed.outbox_id != outbox.outbox_id
    assert renewed.reserve("bulk") > max(given_out)
    renewed.put("bulk", "windows", 1, b"w")
    renewed.close()


def test_misuse_is_an_error(outbox: Outbox) -> None:
    """AGT-OUT-9: only a reserved sequence is filled or abandoned, and once."""
    seq = outbox.reserve("bulk")
    outbox.fill("bulk", seq, "predictions", 1, b"p")
    with pytest.raises(OutboxError):
        outbox.abandon("bulk", seq)
    with pytest.raises(OutboxError):
        outbox.fill("bulk", 999, "predictions", 1, b"p")


def test_the_file_is_for_its_owner_alone(outbox: Outbox, path: Path) -> None:
    """AGT-OUT-9: telemetry may say what people do: mode 0600."""
    assert path.stat().st_mode & 0o777 == 0o600


class Server:
    """Commits as DESIGN §6 says: in order, `prev` declares gaps, once."""

    def __init__(self) -> None:
        self.committed: dict[str, int] = {"bulk": 0, "event": 0}
        self.keys: list[tuple[str, int]] = []

    def receive(self, stream: str, seq: int, prev: int) -> None:
        if seq > self.committed[stream] and prev <= self.committed[stream]:
            self.committed[stream] = seq
            self.keys.append((stream, seq))


@settings(max_examples=40)
@given(st.randoms(use_true_random=False))
def test_any_history_loses_nothing_and_commits_nothing_twice(rng: random.Random) -> None:
    """AGT-OUT-10: over any history of leases, losses and starts, committed = given out − gaps, each once."""
    with tempfile.TemporaryDirectory(dir=MEMORY) as name:
        path, server = Path(name) / "o.db", Server()
        outbox, leases = Outbox.open(path, 2000), []
        try:
            for _ in range(60):
                outbox = _one_step(rng, outbox, leases, server, path)
            for seq in leases:
                outbox.abandon("bulk", seq)
            outbox.commit()
            for stream in ("bulk", "event"):
                _deliver(outbox, server, stream, lose=lambda: False)
            outbox.close()
        finally:
            outbox._database.close()  # hypothesis may end an example at any draw
        gaps = set(rows(path, "SELECT stream, seq FROM gap"))
        assert len(set(server.keys)) == len(server.keys)
        assert not set(server.keys) & gaps
        for stream, end in server.committed.items():
            live = {(stream, seq) for seq in range(1, end + 1)} - gaps
            assert live == {key for key in server.keys if key[0] == stream}


def _one_step(rng: random.Random, outbox: Outbox, leases: list[int], server: Server, path: Path) -> Outbox:
    choice = rng.randrange(9)
    if choice == 0:
        leases.append(outbox.reserve("bulk"))
    elif choice == 1 and leases:
        outbox.fill("bulk", leases.pop(rng.randrange(len(leases))), "predictions", 1, bytes(rng.randrange(300)))
    elif choice == 2 and leases:
        outbox.abandon("bulk", leases.pop())
    elif choice == 3:
        outbox.put("bulk", rng.choice(["windows", "samples"]), 1, bytes(rng.randrange(300)))
    elif choice == 4:
        outbox.put("event", "event", 1, bytes(rng.randrange(100)))
    elif choice == 5:
        outbox.commit()
    elif choice < 8:
        _deliver(outbox, server, rng.choice(["bulk", "event"]), lose=lambda: rng.random() < 0.2)
    else:
        leases.clear()
        outbox._database.close()  # kill -9
        return Outbox.open(path, 2000)
    return outbox


def _deliver(outbox: Outbox, server: Server, stream: str, lose: Callable[[], bool]) -> None:
    for item in outbox.sendable(stream, outbox.acked()[stream], 16):
        outbox.mark_sent(stream, item.seq)
        if not lose():
            server.receive(stream, item.seq, item.prev)
    if not lose():
        outbox.ack(stream, server.committed[stream])

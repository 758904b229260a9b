"""Ingest: what is stored, what is acknowledged, what is refused. Rules: docs/spec/ingest.md."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from outrider_fleet.app import ingest
from outrider_fleet.app.fleet import Change
from outrider_fleet.app.ingest import Ingest
from outrider_fleet.domain import execution
from outrider_protocol import telemetry, topics
from outrider_protocol.execution import State
from outrider_protocol.messages import Event, ExecutionReport, Presence
from tests.fleet.app.house import OUTBOX, House

DIGEST = "sha256:" + "ab" * 32
BODY = telemetry.encode_body(
    "windows",
    {"model": "har", "digest": DIGEST, "n": 4, "evidence": 2.5},
    {"counts": ("u4", bytes(16)), "class_counts": ("u4", bytes(12))},
)


@pytest.fixture
def watched(house: House) -> House:
    house.enrol("watch-1", "watch-2")
    return house


def acked(house: House, stream: str = "bulk") -> list[int]:
    return [ack.seq for ack in house.broker.acks("watch-1") if ack.stream == stream]


def test_rows_and_key_together(watched: House) -> None:
    """ING-2: predictions, key and stream are there after one commit, and the ack says so."""
    ids = watched.predict("watch-1", DIGEST, [0, 1, 2])
    found = watched.rows("SELECT device, outbox_id, seq, idx, klass, confidence FROM predictions ORDER BY idx")
    assert ["/".join(str(row[name]) for name in ("device", "outbox_id", "seq", "idx")) for row in found] == ids
    assert [row["klass"] for row in found] == [0, 1, 2]
    assert watched.rows("SELECT kind, n FROM batches") == [{"kind": "predictions", "n": 3}]
    assert acked(watched) == [1]


def test_duplicate_changes_nothing(watched: House) -> None:
    """ING-1 and ING-3: the same key again is acknowledged and not stored."""
    watched.predict("watch-1", DIGEST, [0, 1])
    watched.seqs.clear()
    watched.predict("watch-1", DIGEST, [2, 2, 2])
    assert watched.value("SELECT count(*) FROM predictions") == 2
    assert acked(watched) == [1, 1]


def test_ack_stops_before_what_is_missing(watched: House) -> None:
    """ING-4: batch 3 arrives before 2: the ack stays at 1, then jumps to 3."""
    for seq in (1, 3, 2):
        watched.batch("watch-1", "bulk", BODY, seq=seq)
    assert acked(watched) == [1, 1, 3]
    assert watched.value("SELECT count(*) FROM gaps") == 0


def test_declared_gap(watched: House) -> None:
    """ING-4: what the device shed is a declared gap, and the stream goes on."""
    watched.batch("watch-1", "bulk", BODY, seq=1)
    watched.batch("watch-1", "bulk", BODY, seq=6, prev=1)
    assert acked(watched) == [1, 6]
    assert watched.rows("SELECT after_seq, before_seq FROM gaps") == [{"after_seq": 1, "before_seq": 6}]


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(order=st.permutations(range(1, 7)), again=st.lists(st.integers(1, 6), max_size=3))
def test_any_order_ends_complete(watched: House, order: list[int], again: list[int]) -> None:
    """ING-1, ING-3 and ING-4: in whatever order and how often batches come, each is stored once and all are acked."""
    outbox = f"{abs(hash((tuple(order), tuple(again)))) % 2**60:016x}"
    before = len(watched.broker.sent)
    for seq in [*order, *again]:
        watched.say("watch-1", "bulk", telemetry.wrap(outbox, "bulk", seq, seq - 1, BODY))
    assert watched.value("SELECT count(*) FROM batches WHERE outbox_id = ?", outbox) == 6
    said = [ack.seq for ack in watched.broker.acks("watch-1")][-len(order) - len(again) :]
    assert len(watched.broker.sent) - before == len(order) + len(again)
    assert said == sorted(said)
    assert said[-1] == 6


def test_wrong_topics_are_dropped(watched: House) -> None:
    """ING-5: a wrong shard, or a stream under another topic, stores nothing."""
    pump = Ingest(watched.fleet)
    pump.start()
    right = topics.bulk("watch-1")
    pump.put(
        right.replace(right.split("/")[1], "63" if right.split("/")[1] != "63" else "00", 1),
        telemetry.wrap(OUTBOX, "bulk", 1, 0, BODY),
    )
    pump.put(topics.event("watch-1"), telemetry.wrap(OUTBOX, "bulk", 1, 0, BODY))
    pump.put(topics.bulk("watch-1"), b"nonsense")
    pump.put(topics.state("watch-1"), b"{}")
    pump.stop()
    assert pump.counts.dropped == 4
    assert watched.value("SELECT count(*) FROM batches") == 0


@pytest.mark.parametrize(
    "body",
    [
        b"\x07unknown codec",
        telemetry.encode_body("predictions", {"digest": "x"}, {}),
        telemetry.encode_body(
            "predictions",
            {"digest": DIGEST},
            {"at_ms": ("i8", bytes(8)), "klass": ("i2", bytes(4)), "confidence": ("f4", bytes(4))},
        ),
        telemetry.encode_body(
            "samples",
            {
                "model": "har",
                "version": "1",
                "digest": DIGEST,
                "shape": [2],
                "prediction_ids": [f"watch-2/{OUTBOX}/1/0"],
            },
            {"x": ("f4", bytes(8))},
        ),
        telemetry.encode_body(
            "samples",
            {
                "model": "har",
                "version": "1",
                "digest": DIGEST,
                "shape": [3],
                "prediction_ids": [f"watch-1/{OUTBOX}/1/0"],
            },
            {"x": ("f4", bytes(8))},
        ),
    ],
)
def test_unreadable_body_blocks_nobody(watched: House, body: bytes) -> None:
    """ING-6 and ING-11: it is recorded as refused, audited and acknowledged; the next one is stored."""
    watched.batch("watch-1", "bulk", body)
    watched.batch("watch-1", "bulk", BODY)
    assert [row["kind"] for row in watched.rows("SELECT kind FROM batches ORDER BY seq")] == ["refused", "windows"]
    assert watched.value("SELECT count(*) FROM audit WHERE action = 'batch.refused'") == 1
    assert watched.value("SELECT count(*) FROM samples") == 0
    assert acked(watched) == [1, 2]


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("execution", {"epoch": 1}),
        ("drift", {"model": "har"}),
        ("drift", {"model": "har", "digest": DIGEST, "phase": "sleepy"}),
    ],
)
def test_garbled_event_blocks_nobody(watched: House, kind: str, body: dict[str, Any]) -> None:
    """ING-6: so does an event whose body says nothing."""
    watched.event("watch-1", kind, body)
    assert watched.value("SELECT kind FROM batches") == "refused"
    assert acked(watched, "event") == [1]


def test_agent_event_is_kept(watched: House) -> None:
    """ING-3: an event from which nothing follows is acknowledged."""
    watched.event("watch-1", "agent", {"what": "started"})
    assert acked(watched, "event") == [1]


def test_strangers_are_ignored(watched: House) -> None:
    """ING-7: neither stored nor acknowledged."""
    watched.batch("stranger", "bulk", BODY)
    assert watched.value("SELECT count(*) FROM batches") == 0
    assert watched.broker.acks("stranger") == []


def test_lower_session_is_ignored(watched: House) -> None:
    """ING-8: the last will of an earlier session does not turn a device off."""
    watched.say("watch-1", "presence", Presence(5, online=True).encode())
    watched.say("watch-1", "presence", Presence(4, online=False).encode())
    watched.state("watch-1", digest=DIGEST, version="0.9", phase="baseline", session=4)
    assert watched.rows("SELECT session, online, version FROM devices WHERE device = 'watch-1'") == [
        {"session": 5, "online": 1, "version": None}
    ]
    watched.say("watch-1", "presence", Presence(5, online=False).encode())
    assert watched.value("SELECT online FROM devices WHERE device = 'watch-1'") == 0


def test_restored_server_goes_on(watched: House) -> None:
    """ING-9: the device says that 40 was acknowledged: 41 completes the stream."""
    watched.state("watch-1", digest=DIGEST, version="1.0", phase="baseline", streams={"bulk": 40, "event": 0})
    watched.batch("watch-1", "bulk", BODY, seq=41, prev=40)
    assert acked(watched) == [41]


def test_many_in_one_transaction(watched: House) -> None:
    """STO-4: what waits is committed together."""
    pump = Ingest(watched.fleet)
    for seq in range(1, 101):
        pump.put(topics.bulk("watch-1"), telemetry.wrap(OUTBOX, "bulk", seq, seq - 1, BODY))
    pump.start()
    pump.stop()
    assert pump.counts.messages == 100
    assert pump.counts.transactions == 1
    assert acked(watched) == [100]


def test_bad_one_takes_no_others_along(watched: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """ING-10 and STO-4: the group fails, then each message stands for itself."""
    from outrider_fleet.app import streams
    from outrider_fleet.errors import ConflictError
    from outrider_protocol.telemetry import Batch

    real = streams.is_new

    def failing(change: Change, device: str, batch: Batch, kind: str, n: int) -> bool:
        if batch.seq == 2:
            raise ConflictError("planted")
        return real(change, device, batch, kind, n)

    monkeypatch.setattr(streams, "is_new", failing)
    pump = Ingest(watched.fleet)
    for seq in (1, 2, 3):
        pump.put(topics.bulk("watch-1"), telemetry.wrap(OUTBOX, "bulk", seq, seq - 1, BODY))
    pump.start()
    pump.stop()
    assert pump.counts.failed == 1
    assert [row["seq"] for row in watched.rows("SELECT seq FROM batches ORDER BY seq")] == [1, 3]
    assert acked(watched)[-1] == 1


@pytest.mark.parametrize("confidence", [float("nan"), float("inf")])
def test_no_number_blocks_nobody(watched: House, confidence: float) -> None:
    """ING-6: a model that answers NaN must not keep its device from ever being acknowledged again."""
    watched.predict("watch-1", DIGEST, [0, 1], confidence)
    watched.predict("watch-1", DIGEST, [0, 1])
    assert [row["kind"] for row in watched.rows("SELECT kind FROM batches ORDER BY seq")] == ["refused", "predictions"]
    assert acked(watched) == [1, 2]


def test_numbers_without_end_block_nobody(watched: House) -> None:
    """ING-6 and ING-10: JSON has numbers that no column and no float holds; what they say counts as not said."""
    pump = Ingest(watched.fleet)
    detail = {"attest": {"digest": DIGEST, "answered": 2**70}, "shadow": {"n": 2**64}, "latency_us": 10**400}
    said = ExecutionReport(1, 1, "har", "1.0", DIGEST, "rolled_back", detail)
    event = telemetry.event_body(Event("execution", 1, clock_ok=True, body=said.body()))
    named = f"watch-1/{OUTBOX}/{'9' * 5000}/0"
    meta = {"model": "har", "version": "1", "digest": DIGEST, "shape": [2], "prediction_ids": [named]}
    samples = telemetry.encode_body("samples", meta, {"x": ("f4", bytes(8))})
    pump.put(topics.event("watch-1"), telemetry.wrap(OUTBOX, "event", 1, 0, event))
    pump.put(topics.bulk("watch-1"), telemetry.wrap(OUTBOX, "bulk", 1, 0, samples))
    pump.put(topics.bulk("watch-2"), telemetry.wrap(OUTBOX, "bulk", 1, 0, BODY))
    pump.start()
    pump.stop()
    assert acked(watched, "event") == [1]
    assert acked(watched) == [1]
    assert [ack.seq for ack in watched.broker.acks("watch-2")] == [1]
    assert execution.read_report(State.ROLLED_BACK, detail).latency_us is None


def test_nothing_ends_ingest(watched: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """ING-10: an error that nobody thought of costs its own message alone, and the thread goes on."""
    from outrider_fleet.app import device_events

    def failing(*_: object) -> None:
        raise OverflowError("planted")

    monkeypatch.setattr(device_events, "presence", failing)
    pump = Ingest(watched.fleet)
    pump.put(topics.presence("watch-1"), Presence(7, online=True).encode())
    pump.put(topics.bulk("watch-1"), telemetry.wrap(OUTBOX, "bulk", 1, 0, BODY))
    pump.start()
    pump.stop()
    assert pump.counts.failed == 1
    assert acked(watched) == [1]


def test_full_queue_drops(watched: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """ING-3: without room a message is dropped unacknowledged, so the device sends it again."""
    monkeypatch.setattr(ingest, "QUEUE_LIMIT", 1)
    pump = Ingest(watched.fleet)
    pump.put(topics.bulk("watch-1"), b"1")
    pump.put(topics.bulk("watch-1"), b"2")
    assert pump.counts.dropped == 1


def test_ack_follows_the_commit(watched: House) -> None:
    """ING-3: while the transaction is open nothing leaves."""
    seen: list[int] = []
    real = watched.broker.publish

    def looking(topic: str, payload: bytes, retain: bool = False) -> object:
        seen.append(watched.value("SELECT count(*) FROM batches"))
        return real(topic, payload, retain)

    watched.broker.publish = looking  # type: ignore[method-assign]  # a recorder that looks while it records
    watched.batch("watch-1", "bulk", BODY)
    assert seen == [1]


def test_messages_from_many_threads(watched: House) -> None:
    """ING-1: threads that put messages lose none."""
    pump = Ingest(watched.fleet)
    pump.start()

    def put(device: str) -> None:
        for seq in range(1, 21):
            pump.put(topics.bulk(device), telemetry.wrap(OUTBOX, "bulk", seq, seq - 1, BODY))

    threads = [threading.Thread(target=put, args=(device,)) for device in ("watch-1", "watch-2")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    pump.stop()
    assert watched.rows("SELECT device, committed_seq FROM streams ORDER BY device") == [
        {"device": "watch-1", "committed_seq": 20},
        {"device": "watch-2", "committed_seq": 20},
    ]
    assert Event("agent", 0, clock_ok=True).body == {}

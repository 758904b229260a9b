"""D8: what the devices enqueued is what the server committed, each key once, although the broker died in between."""

from __future__ import annotations

import time

from examples.watch.checker.finding import Finding
from examples.watch.checker.record import Record, select

Key = tuple[str, int]
SETTLE_S = 15.0


def enqueued(record: Record, device: str) -> tuple[str, set[Key]]:
    """(outbox id, keys): every sequence that was given out and was not declared as a gap."""
    path = record.device_home(device) / "var" / "outbox.db"
    outbox = str(select(path, "SELECT value FROM meta WHERE key = 'outbox_id'")[0]["value"])
    first = int(select(path, "SELECT value FROM meta WHERE key = 'first_seq'")[0]["value"])
    gaps = {(row["stream"], row["seq"]) for row in select(path, "SELECT stream, seq FROM gap")}
    waiting = select(path, "SELECT stream, max(seq) AS seq FROM batch GROUP BY stream")
    last = {row["name"]: row["acked"] for row in select(path, "SELECT name, acked FROM stream")}
    for row in waiting:
        last[row["stream"]] = max(last[row["stream"]], row["seq"])
    keys = {(name, seq) for name, top in last.items() for seq in range(first, top + 1)}
    return outbox, keys - gaps


def committed(record: Record, device: str, outbox: str) -> list[Key]:
    """The keys that the server committed for one outbox."""
    sql = "SELECT stream, seq FROM batches WHERE device = ? AND outbox_id = ?"
    return [(row["stream"], row["seq"]) for row in record.query(sql, device, outbox)]


def settle(record: Record, patience_s: float = SETTLE_S) -> None:
    """Where the fleet still runs, let it hand over what waits: statistics come up to ten seconds after a window."""
    deadline = time.monotonic() + (patience_s if (record.fleet / "run/endpoints.json").exists() else 0.0)
    while any(_waiting(record, device) for device in record.devices) and time.monotonic() < deadline:
        time.sleep(0.3)


def _waiting(record: Record, device: str) -> set[Key]:
    outbox, sent = enqueued(record, device)
    return sent - set(committed(record, device, outbox))


def d8(record: Record) -> Finding:
    """Compare batch keys device by device, and every prediction id that the local API gave out.

    The outbox is read before and after the server's database: what came in between is neither missing nor unknown.
    """
    settle(record)
    wrong: list[str] = []
    keys = predictions = 0
    for device in record.devices:
        outbox, sent = enqueued(record, device)
        stored = committed(record, device, outbox)
        later = enqueued(record, device)[1]
        keys += len(stored)
        missing, extra = len(sent - set(stored)), len(set(stored) - later)
        if missing or extra or len(stored) != len(set(stored)):
            wrong.append(f"{device}: {missing} keys missing, {extra} unknown, {len(stored) - len(set(stored))} twice")
        given, found = _predictions(record, device)
        predictions += len(found)
        if len(found) != len(set(found)) or set(found) != given:
            wrong.append(f"{device}: {len(given)} predictions given, {len(found)} stored")
    during = _fed_in_outage(record)
    return Finding(
        "D8",
        "keys enqueued = keys committed",
        not wrong and during > 0,
        f"{keys} batches, {predictions} predictions, {len(wrong)} differences, {during} windows in the outage",
        "0 differences, > 0 windows while the broker was dead",
        tuple(wrong),
    )


def _predictions(record: Record, device: str) -> tuple[set[str], list[str]]:
    given = {fed.prediction_id for fed in record.fed(device) if fed.prediction_id}
    rows = record.query("SELECT outbox_id, seq, idx FROM predictions WHERE device = ?", device)
    return given, [f"{device}/{row['outbox_id']}/{row['seq']}/{row['idx']}" for row in rows]


def _fed_in_outage(record: Record) -> int:
    outages = record.outages()
    times = [fed.at_ms for device in record.devices for fed in record.fed(device)]
    return sum(1 for at_ms in times if any(outage["from_ms"] <= at_ms <= outage["until_ms"] for outage in outages))

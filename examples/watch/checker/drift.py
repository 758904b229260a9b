"""D9 and D13: who alarmed, how soon, and who was cleared of what."""

from __future__ import annotations

from examples.watch.checker.finding import Finding
from examples.watch.checker.record import Record

WITHIN_WINDOWS = 120
ALARMS_AT_LEAST = 3
CHECK_LABELS = 20


def delay(record: Record, device: str) -> int | None:
    """How many windows of the other wrist a device had answered when its first alarm was raised; None without one."""
    alarms = record.query(
        "SELECT at_ms FROM drift_events WHERE device = ? AND phase = 'alarm' ORDER BY at_ms LIMIT 1", device
    )
    if not alarms:
        return None
    moved = [fed.at_ms for fed in record.fed(device) if fed.part == "later"]
    before = sum(1 for at_ms in moved if at_ms <= alarms[0]["at_ms"])
    return before or -1


def d9(record: Record) -> Finding:
    """Alarms of the devices that moved, within 120 windows of the move and never before it; none of the others."""
    delays = {device: delay(record, device) for device in record.moved(moves=True)}
    in_time = [device for device, n in delays.items() if n is not None and 0 < n <= WITHIN_WINDOWS]
    sql = "SELECT count(*) AS n FROM drift_events WHERE device = ? AND phase = 'alarm'"
    false = [device for device in record.moved(moves=False) if record.query(sql, device)[0]["n"]]
    return Finding(
        "D9",
        f"alarms within {WITHIN_WINDOWS} windows",
        len(in_time) >= ALARMS_AT_LEAST and not false,
        f"{len(in_time)} of {len(delays)} moved, {len(false)} of {len(record.moved(moves=False))} others",
        f"≥ {ALARMS_AT_LEAST} moved, 0 others",
        tuple(f"{device}: {'no alarm' if n is None else f'alarm after {n} windows'}" for device, n in delays.items()),
    )


def d13(record: Record) -> Finding:
    """Moved devices said `rebaselining` under 1.1, and only the labelled check cleared them."""
    wrong = [text for device in record.moved(moves=True) for text in _not_cleared(record, device)]
    moved = record.moved(moves=True)
    return Finding(
        "D13",
        "moved devices cleared by the labelled check alone",
        not wrong,
        f"{len(moved) - len({text.split(':')[0] for text in wrong})} of {len(moved)} devices",
        "all",
        tuple(wrong),
    )


def _not_cleared(record: Record, device: str) -> list[str]:
    good, wrong = record.digests(record.version("good")), list[str]()
    said = record.query("SELECT digest FROM drift_events WHERE device = ? AND phase = 'rebaselining'", device)
    if not any(row["digest"] in good for row in said):
        wrong.append(f"{device}: never said rebaselining under {record.version('good')}")
    status = record.one(f"{device}: drift status", "SELECT * FROM drift_status WHERE device = ?", device)
    if status["cleared_by"] != "labelled_check" or status["cleared_digest"] not in good:
        wrong.append(f"{device}: cleared by {status['cleared_by']} for {status['cleared_digest']}")
    n = _checked(record, device, status["cleared_digest"])
    if n < CHECK_LABELS:
        wrong.append(f"{device}: {n} labels on predictions of that artifact, at least {CHECK_LABELS} expected")
    return wrong


def _checked(record: Record, device: str, digest: str | None) -> int:
    sql = """SELECT count(*) AS n FROM predictions p JOIN labels l
        ON l.prediction_id = p.device || '/' || p.outbox_id || '/' || p.seq || '/' || p.idx
        WHERE p.device = ? AND p.digest = ?"""
    return int(record.query(sql, device, digest)[0]["n"])

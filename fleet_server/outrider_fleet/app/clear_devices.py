"""Ends `rebaselining` where a check allows it, and tells the device.

1. A device that had drifted is cleared by the labelled check alone; one that had not, also by the group test.
2. What was cleared is told with every ack until the device has heard it.
"""

from sqlalchemy import Connection

from outrider_fleet.app import policies, streams
from outrider_fleet.app.fleet import Change, Fleet
from outrider_fleet.domain import clearing
from outrider_fleet.domain.clearing import Finding
from outrider_fleet.store import drift
from outrider_fleet.store.sql import Row

MIN_PREDICTIONS = 30


def step(fleet: Fleet) -> int:
    """Look at every device that says `rebaselining`; returns how many were cleared."""
    with fleet.look() as connection:
        due = [(row, found) for row in drift.uncleared(connection) if (found := _judge(connection, row)) is not None]
    if not due:
        return 0
    with fleet.change() as change:
        for row, (by, finding) in due:
            _clear(change, row, by, finding)
    return len(due)


def _judge(connection: Connection, row: Row) -> tuple[str, Finding] | None:
    """How the device may be cleared, or None."""
    finding = labelled_finding(connection, row)
    if finding.passed:
        return "labelled_check", finding
    if row["drifted"]:
        return None
    finding = group_finding(connection, row)
    return ("group_test", finding) if finding.passed else None


def labelled_finding(connection: Connection, row: Row) -> Finding:
    """What the labelled check says of a device's status row."""
    check = policies.of(connection, row["model"]).labelled_check
    return clearing.labelled_check(check, *drift.labelled_predictions(connection, row["device"], row["digest"]))


def group_finding(connection: Connection, row: Row) -> Finding:
    """What the group test says."""
    means = {
        d: mean for d, (mean, n) in drift.mean_confidence(connection, row["digest"]).items() if n >= MIN_PREDICTIONS
    }
    own = means.pop(row["device"], None)
    if own is None:
        return Finding(False, f"fewer than {MIN_PREDICTIONS} predictions")
    drifted = {other["device"] for other in drift.of_model(connection, row["model"]) if other["drifted"]}
    return clearing.group_test(own, [mean for device, mean in sorted(means.items()) if device not in drifted])


def _clear(change: Change, row: Row, by: str, finding: Finding) -> None:
    present = drift.status(change.connection, row["device"], row["model"])
    if present is None or (present["digest"], present["phase"]) != (row["digest"], "rebaselining"):
        return
    values = {
        "device": row["device"],
        "model": row["model"],
        "digest": row["digest"],
        "phase": "rebaselining",
        "since_ms": present["since_ms"],
        "drifted": 0,
        "cleared_by": by,
        "cleared_ms": change.now_ms,
        "cleared_digest": row["digest"],
    }
    drift.put_status(change.connection, values)
    change.audit("server", "drift.clear", row["device"], {"by": by, "why": finding.why})
    streams.tell_cleared(change, row["device"])
    change.touch("drift", "devices")

"""D6, D7 and D11: who was exposed when, what every device runs, and what the bad candidate reached."""

from __future__ import annotations

import hashlib

from examples.watch.checker.finding import Finding
from examples.watch.checker.record import Record, Row
from outrider_protocol import ids
from outrider_protocol.execution import TOUCHED

CANARY = 2


def exposed_before_gate(record: Record, rollout: Row) -> int:
    """The largest number of devices that held an order of this rollout before its canary's gate let it on."""
    events = record.query("SELECT kind, at_ms FROM rollout_events WHERE rollout = ? ORDER BY id", rollout["id"])
    passed = next((row["at_ms"] for row in events if row["kind"] == "advanced"), None)
    sql = "SELECT ordered_ms FROM executions WHERE rollout = ? AND purpose = 'rollout' AND ordered_ms IS NOT NULL"
    ordered = [row["ordered_ms"] for row in record.query(sql, rollout["id"])]
    return sum(1 for at_ms in ordered if passed is None or at_ms < passed)


def d6(record: Record) -> Finding:
    """No rollout to the whole fleet had more than two devices exposed before its gate."""
    counts = {name: exposed_before_gate(record, record.rollout(name)) for name in ("first", "bad", "good")}
    return Finding(
        "D6",
        "devices exposed before the canary's gate",
        all(0 < n <= CANARY for n in counts.values()),
        ", ".join(f"{record.version(name)}: {n}" for name, n in counts.items()),
        f"1 … {CANARY} in each rollout",
    )


def d7(record: Record) -> Finding:
    """The server's success, the worker's attestation, update.json and the model file on disk name one artifact."""
    wrong = [text for device in record.devices for text in _disagreements(record, device)]
    return Finding(
        "D7",
        "attested digest = succeeded digest",
        not wrong,
        f"{len(record.devices) - len({text.split(':')[0] for text in wrong})} of {len(record.devices)} devices",
        "all",
        tuple(wrong),
    )


def _disagreements(record: Record, device: str) -> list[str]:
    known = record.one(device, "SELECT * FROM devices WHERE device = ?", device)
    sql = "SELECT digest FROM executions WHERE device = ? AND state = 'succeeded' ORDER BY seq DESC LIMIT 1"
    succeeded = record.one(f"{device}: a succeeded execution", sql, device)["digest"]
    current = (record.update_state(device)["current"] or {}).get("digest")
    wrong = []
    if not succeeded == known["attest_digest"] == current:
        wrong.append(f"{device}: server says {succeeded}, worker attests {known['attest_digest']}, disk {current}")
    directory = record.device_home(device) / "var" / "artifacts" / ids.hex_of(succeeded)
    model = next((path for path in (directory / "model.onnx", directory / "model.tflite") if path.exists()), None)
    found = hashlib.sha256(model.read_bytes()).hexdigest() if model else None
    if found != known["attest_model_sha256"]:
        wrong.append(f"{device}: the worker loaded {known['attest_model_sha256']}, on disk lies {found}")
    return wrong


def d11(record: Record) -> Finding:
    """The bad candidate was aborted in the canary, never answered a request, and every device went on with 1.0."""
    bad, good = record.rollout("bad"), record.rollout("good")
    exposed = record.query(
        "SELECT device FROM executions WHERE rollout = ? AND purpose = 'rollout' AND ordered_ms IS NOT NULL", bad["id"]
    )
    touched = touched_by(record, bad["id"])
    answered = _answers_of(record, record.digests(record.version("bad")))
    between = {device: _served(record, device, bad["ended_ms"], good["created_ms"]) for device in record.devices}
    first = record.digests(record.version("first"))
    strayed = sorted(device for device, digests in between.items() if not digests or not digests <= first)
    return Finding(
        "D11",
        "bad candidate",
        bad["state"] == "aborted" and len(exposed) <= CANARY and not touched and not answered and not strayed,
        f"{bad['state']}, exposed {len(exposed)}, activated on {len(touched)}, answered {answered}, "
        f"devices on 1.0 afterwards {len(between) - len(strayed)} of {len(between)}",
        f"aborted, ≤ {CANARY}, 0, 0, all",
        (str(bad["why"]), *(f"{device}: served {sorted(between[device])}" for device in strayed)),
    )


def touched_by(record: Record, rollout: str) -> list[str]:
    """The devices on which an execution of this rollout began to serve."""
    names = ", ".join(f"'{state.value}'" for state in TOUCHED)
    sql = f"""SELECT DISTINCT e.device FROM executions e JOIN execution_events v
        ON v.device = e.device AND v.epoch = e.epoch AND v.seq = e.seq
        WHERE e.rollout = ? AND e.purpose = 'rollout' AND v.state IN ({names})"""  # noqa: S608 - constants
    return [str(row["device"]) for row in record.query(sql, rollout)]


def _answers_of(record: Record, digests: set[str]) -> int:
    return sum(len(record.query("SELECT 1 FROM predictions WHERE digest = ?", digest)) for digest in digests)


def _served(record: Record, device: str, from_ms: int, until_ms: int) -> set[str]:
    sql = "SELECT DISTINCT digest FROM predictions WHERE device = ? AND at_ms > ? AND at_ms < ?"
    return {str(row["digest"]) for row in record.query(sql, device, from_ms, until_ms)}

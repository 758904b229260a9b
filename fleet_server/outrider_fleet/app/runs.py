"""Training runs: created by the server alone, claimed by one runner at a time, ended with a published release.

1. A run freezes its snapshot and reserves version and counter when it is created.
2. A claim has a fence; a claim without a sign of life for an hour may be taken over with a higher one.
3. `succeeded` needs the release that names this run; lineage then reaches from it to the recordings.
"""

from collections.abc import Sequence
from typing import Any, Final

from outrider_fleet.app import policies, snapshots
from outrider_fleet.app.fleet import Change, Fleet
from outrider_fleet.app.lineage_edges import edge
from outrider_fleet.errors import ConflictError, IllegalActionError, UnknownError
from outrider_fleet.store import counters, devices, releases, sql, training
from outrider_fleet.store.sql import Row
from outrider_fleet.store.tables import runs

STALE_MS: Final = 3_600_000


def create(fleet: Fleet, model: str, reason: dict[str, Any], actor: str) -> Row:
    """Create a run on a new snapshot; raises `ConflictError` (one is at work) or `UnknownError` (no base)."""
    with fleet.look() as connection:
        if releases.newest(connection, model) is None:
            raise UnknownError(f"model {model} has no release to start from")
    snapshot = snapshots.create(fleet, model, actor)
    with fleet.change() as change:
        if training.at_work(change.connection, model) is not None:
            raise ConflictError(f"{model}: a training run is at work already")
        row = _row(change, model, snapshot, reason, actor)
        sql.insert(change.connection, runs, row)
        _link(change, row, reason)
        change.audit(actor, "run.create", row["id"], reason)
        change.touch("runs")
    return row


def _row(change: Change, model: str, snapshot: Row, reason: dict[str, Any], actor: str) -> Row:
    base = _base(change, model)
    by_policy = actor == "policy"
    waits = by_policy and not policies.of(change.connection, model).autonomy.starts_runs
    newest = releases.newest_counter(change.connection, model)
    return {
        "id": counters.draw_id(change.connection, "run"),
        "model": model,
        "state": "proposed" if waits else "queued",
        "requested_by": actor,
        "reason": reason,
        "snapshot": snapshot["digest"],
        "base_version": base["version"],
        "version": _next_version(change, model, base["version"]),
        "counter": max(newest, training.highest_counter(change.connection, model)) + 1,
        "created_ms": change.now_ms,
        "updated_ms": change.now_ms,
        "fence": 0,
    }


def _base(change: Change, model: str) -> Row:
    """What most devices attest; without devices, the newest release."""
    digest = devices.most_attested(change.connection, model)
    artifact = releases.artifact(change.connection, digest) if digest else None
    version = artifact["version"] if artifact else None
    row = releases.get(change.connection, model, version) if version else releases.newest(change.connection, model)
    if row is None:
        raise UnknownError(f"model {model} has no release to start from")
    return row


def _next_version(change: Change, model: str, base: str) -> str:
    taken = training.versions(change.connection, model) | releases.versions(change.connection, model)
    version = raised(base)
    while version in taken:
        version = raised(version)
    return version


def raised(version: str) -> str:
    """The next version label.

    >>> raised("1.0"), raised("2024-w7"), raised("beta")
    ('1.1', '2024-w8', 'beta.1')
    """
    head = version.rstrip("0123456789")
    tail = version[len(head) :]
    return f"{head}{int(tail) + 1}" if tail else f"{version}.1"


def _link(change: Change, row: Row, reason: dict[str, Any]) -> None:
    run = ("run", row["id"])
    edge(change, run, ("snapshot", row["snapshot"]))
    edge(change, run, ("release", f"{row['model']}/{row['base_version']}"))
    for device in reason.get("devices", []):
        known = devices.get(change.connection, device)
        if known is not None:
            edge(change, run, ("device", known["pseudonym"]))


def approve(fleet: Fleet, run: str, actor: str) -> Row:
    """Let a proposed run begin; raises `UnknownError` or `IllegalActionError`."""
    with fleet.change() as change:
        row = _get(change, run)
        if row["state"] != "proposed":
            raise IllegalActionError(f"{run} is {row['state']}, not proposed")
        training.update(change.connection, run, {"state": "queued", "updated_ms": change.now_ms})
        change.audit(actor, "run.approve", run)
        change.touch("runs")
        return _get(change, run)


def claim(fleet: Fleet, models: Sequence[str] | None, actor: str) -> Row | None:
    """Give the oldest waiting run to a runner, or None."""
    with fleet.change() as change:
        stale_before_ms = change.now_ms - STALE_MS
        row = training.claimable(change.connection, list(models) if models is not None else None, stale_before_ms)
        if row is None:
            return None
        values = {
            "state": "claimed",
            "claimed_by": actor,
            "claimed_ms": change.now_ms,
            "updated_ms": change.now_ms,
            "fence": row["fence"] + 1,
        }
        training.update(change.connection, row["id"], values)
        change.audit(actor, "run.claim", row["id"], {"fence": row["fence"] + 1})
        change.touch("runs")
        return _get(change, row["id"])


def progress(fleet: Fleet, run: str, fence: int, text: str, ratio: float | None, actor: str) -> None:
    """A sign of life; raises `UnknownError` or `ConflictError` (taken over, or ended)."""
    with fleet.change() as change:
        _check_fence(_get(change, run), fence, actor)
        values = {"progress": {"text": text[:500], "ratio": ratio}, "updated_ms": change.now_ms}
        training.update(change.connection, run, values)
        change.audit(actor, "run.progress", run, {"ratio": ratio})
        change.touch("runs")


def finish(fleet: Fleet, run: str, fence: int, outcome: dict[str, Any], actor: str) -> Row:
    """End a run: `outcome` is {state, figures?, inputs?, error?}."""
    with fleet.change() as change:
        row = _get(change, run)
        _check_fence(row, fence, actor)
        succeeded = outcome["state"] == "succeeded"
        if succeeded:
            _check_release(change, row)
        inputs = [str(recording) for recording in outcome.get("inputs") or []]
        for recording in inputs:
            edge(change, ("run", run), ("recording", recording))
        values = {
            "state": "succeeded" if succeeded else "failed",
            "result": {"figures": outcome.get("figures") or {}, "error": outcome.get("error")},
            "inputs": inputs,
            "updated_ms": change.now_ms,
            "finished_ms": change.now_ms,
        }
        training.update(change.connection, run, values)
        change.audit(actor, "run.finish", run, {"state": values["state"]})
        change.touch("runs")
        return _get(change, run)


def _check_release(change: Change, row: Row) -> None:
    release = releases.get(change.connection, row["model"], row["version"])
    if release is None or release["run"] != row["id"]:
        raise ConflictError(f"{row['id']}: release {row['model']} {row['version']} of this run was not published")


def _check_fence(row: Row, fence: int, actor: str) -> None:
    if row["state"] != "claimed" or row["fence"] != fence or row["claimed_by"] != actor:
        held = f"{row['state']} by {row['claimed_by']} with fence {row['fence']}"
        raise ConflictError(f"{row['id']} is {held}, not by {actor} with {fence}")


def _get(change: Change, run: str) -> Row:
    row = training.get(change.connection, run)
    if row is None:
        raise UnknownError(f"run {run}")
    return row

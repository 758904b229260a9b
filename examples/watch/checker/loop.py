"""D10 and D14: who asked for the retraining, whose data it used, and whether everything can be traced."""

from __future__ import annotations

from examples.watch.checker.finding import Finding
from examples.watch.checker.record import Record, Row, select


def run_of(record: Record, version: str) -> Row:
    """The training run that made a release."""
    return record.one(f"the run of {version}", "SELECT * FROM runs WHERE version = ? AND state = 'succeeded'", version)


def person_of(source: str) -> int | None:
    """The person in a recording's id (`p07-left-ABD`); None where it is none."""
    name = source.rsplit("/", 1)[-1]
    return int(name[1:3]) if len(name) > 3 and name[0] == "p" and name[1:3].isdigit() else None


def d10(record: Record) -> Finding:
    """The server's policy started the run, and its snapshot holds windows of the labelling people alone."""
    run = run_of(record, record.version("good"))
    snapshot = record.one("the snapshot", "SELECT * FROM snapshots WHERE digest = ?", run["snapshot"])
    rows = select(record.fleet / snapshot["file"], "SELECT source FROM samples")
    people = {person_of(row["source"]) for row in rows}
    allowed = set(record.plan["roles"]["label"])
    return Finding(
        "D10",
        "retraining",
        run["requested_by"] == "policy" and bool(people) and people <= allowed,
        f"asked for by {run['requested_by']}, {len(rows)} windows of people {sorted(map(str, people))}",
        f"policy, people {sorted(allowed)}",
        (f"reason: {run['reason']}",),
    )


def parents(record: Record, kind: str, identifier: str) -> set[tuple[str, str]]:
    """One step back in the lineage."""
    sql = "SELECT parent_kind, parent_id FROM lineage WHERE child_kind = ? AND child_id = ?"
    return {(row["parent_kind"], row["parent_id"]) for row in record.query(sql, kind, identifier)}


def children(record: Record, kind: str, identifier: str) -> set[tuple[str, str]]:
    """One step forth in the lineage."""
    sql = "SELECT child_kind, child_id FROM lineage WHERE parent_kind = ? AND parent_id = ?"
    return {(row["child_kind"], row["child_id"]) for row in record.query(sql, kind, identifier)}


def d14(record: Record) -> Finding:
    """Follow one prediction of 1.1 back to recordings, and a labelled recording forth to that prediction."""
    version, missing = record.version("good"), list[str]()
    run = run_of(record, version)
    release, run_key, snapshot = ("release", f"har/{version}"), ("run", run["id"]), ("snapshot", run["snapshot"])
    if run_key not in parents(record, *release) or snapshot not in parents(record, *run_key):
        missing.append("release → run → snapshot")
    trained = {name for kind, name in parents(record, *run_key) if kind == "recording"}
    labelled = {
        str(row["source"]) for row in record.query("SELECT source FROM snapshot_rows WHERE snapshot = ?", snapshot[1])
    }
    train_people = {person_of(source) for source in trained}
    if not set(record.plan["roles"]["train"]) <= train_people or not labelled:
        missing.append(f"run → recordings of every training person (found {sorted(map(str, train_people))})")
    if run_key not in children(record, *snapshot) or release not in children(record, *run_key):
        missing.append("snapshot → run → release")
    answered = sum(_answered(record, digest) for digest in record.digests(version))
    if not answered:
        missing.append("release → prediction")
    return Finding(
        "D14",
        "lineage, back and forth",
        not missing,
        f"{answered} predictions of {version} ← run {run['id']} ← "
        f"{len(labelled)} labelled and {len(trained)} training recordings",
        "no step missing",
        tuple(missing),
    )


def _answered(record: Record, digest: str) -> int:
    return int(record.query("SELECT count(*) AS n FROM predictions WHERE digest = ?", digest)[0]["n"])

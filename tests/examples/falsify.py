"""One lie for each claim, told in a recorded run: to its databases, files or artifacts, never to the checker."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from examples.watch.checker.layout import REPORT_FILE, blob
from examples.watch.checker.record import Record
from outrider_protocol import ids, manifest


def execute(run: Path, sql: str, *values: Any) -> None:
    """Change the server's database; at least one row must change."""
    with closing(sqlite3.connect(run / "fleet/fleet.db")) as database, database:
        assert database.execute(sql, values).rowcount > 0, sql


def put(blobs: Path, data: bytes) -> str:
    """Add a blob; its digest."""
    digest = ids.digest_of(data)
    (blobs / ids.hex_of(digest)).write_bytes(data)
    return digest


def replace_model(run: Path, version: str, model: Callable[[bytes], bytes]) -> None:
    """Another model in the exact artifact of a version, with digests that fit; the old row gets another name."""
    record = Record(run)
    blobs, exact = run / "fleet/artifacts" / manifest.BLOBS, record.plan["profiles"]["exact"]
    digest = record.digest(record.version(version), exact)
    artifact = manifest.Manifest.decode(blob(blobs, digest))
    layers = tuple(
        _layer(blobs, layer, model) if layer.role is manifest.Role.MODEL else layer for layer in artifact.layers
    )
    new = put(blobs, replace(artifact, layers=layers).encode())
    row = record.one("artifact", "SELECT * FROM artifacts WHERE digest = ?", digest)
    execute(run, "UPDATE artifacts SET profile = 'former' WHERE digest = ?", digest)
    columns = {**row, "digest": new}
    marks = ", ".join("?" * len(columns))
    execute(run, f"INSERT INTO artifacts ({', '.join(columns)}) VALUES ({marks})", *columns.values())


def _layer(blobs: Path, layer: manifest.Descriptor, model: Callable[[bytes], bytes]) -> manifest.Descriptor:
    data = model(blob(blobs, layer.digest))
    put(blobs, data)
    return manifest.device_layer(layer.role, layer.title, data)


def bias_added(data: bytes, klass: int = 0, amount: float = 20.0) -> bytes:
    """The same network, too fond of one class."""
    model = onnx.load_model_from_string(data)
    bias = next(t for t in model.graph.initializer if list(t.dims) == [7])
    values = numpy_helper.to_array(bias).copy()
    values[klass] += np.float32(amount)
    bias.CopyFrom(numpy_helper.from_array(values, bias.name))
    return bytes(model.SerializeToString())


def change_report(index: manifest.Index, blobs: Path, change: Callable[[dict[str, Any]], None]) -> manifest.Index:
    """The compiler's report in a layout, changed, with digests that fit."""
    referrers = tuple(_referrer(blobs, referrer, change) for referrer in index.referrers)
    return replace(index, referrers=referrers)


def _referrer(
    blobs: Path, referrer: manifest.Descriptor, change: Callable[[dict[str, Any]], None]
) -> manifest.Descriptor:
    if not (blobs / ids.hex_of(referrer.digest)).exists():
        return referrer
    parsed = manifest.Manifest.decode(blob(blobs, referrer.digest))
    layers = tuple(_report(blobs, layer, change) for layer in parsed.layers)
    raw = replace(parsed, layers=layers).encode()
    return replace(referrer, digest=put(blobs, raw), size=len(raw))


def _report(blobs: Path, layer: manifest.Descriptor, change: Callable[[dict[str, Any]], None]) -> manifest.Descriptor:
    if layer.annotations.get(manifest.TITLE) != REPORT_FILE:
        return layer
    value = json.loads(blob(blobs, layer.digest))
    change(value)
    data = json.dumps(value).encode()
    return replace(layer, digest=put(blobs, data), size=len(data))


def published_report(run: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the report of the first release."""
    record = Record(run)
    version = record.version("first")
    row = record.one("release", "SELECT index_json FROM releases WHERE version = ?", version)
    index = manifest.Index.decode(row["index_json"].encode())
    changed = change_report(index, run / "fleet/artifacts" / manifest.BLOBS, change)
    execute(run, "UPDATE releases SET index_json = ? WHERE version = ?", changed.encode().decode(), version)


def candidate(report: dict[str, Any], profile: str, name: str | None = None) -> dict[str, Any]:
    """A candidate of a profile: the chosen one unless it is named."""
    part = report["profiles"][profile]
    wanted = name or part["chosen"]
    return next(entry for entry in part["candidates"] if entry["name"] == wanted)


# ---------------------------------------------------------------- the lies


def d1(run: Path) -> None:
    """1.0 is worse than it was said to be."""
    replace_model(run, "first", bias_added)


def d2(run: Path) -> None:
    """The fast choice agrees too rarely."""
    fast = Record(run).plan["profiles"]["fast"]
    published_report(run, lambda report: candidate(report, fast).update(agreement=0.97))


def d3(run: Path) -> None:
    """The exact board's choice is an int8 candidate."""
    exact = Record(run).plan["profiles"]["exact"]
    published_report(run, lambda report: report["profiles"][exact].update(chosen="int8_static"))


def d4(run: Path) -> None:
    """Broken calibration was not refused."""
    fast, layout = Record(run).plan["profiles"]["fast"], run / "broken"
    path = layout / manifest.INDEX_FILE
    index = manifest.Index.decode(path.read_bytes())
    changed = change_report(
        index, layout / manifest.BLOBS, lambda report: candidate(report, fast, "int8_static").update(refusals=[])
    )
    path.write_bytes(changed.encode())


def d5(run: Path) -> None:
    """A file on a device is another one than was signed."""
    path = next((run / "devices").glob("*/var/artifacts/*/statistics.json"))
    path.write_bytes(path.read_bytes() + b" ")


def d6(run: Path) -> None:
    """A third device was exposed before the gate."""
    execute(
        run,
        """UPDATE executions SET ordered_ms = (SELECT min(ordered_ms) FROM executions e WHERE e.rollout = r)
        FROM (SELECT id AS i, rollout AS r FROM executions WHERE rollout = ? ORDER BY ordered_ms DESC LIMIT 1)
        WHERE id = i""",
        Record(run).rollout("first")["id"],
    )


def d7(run: Path) -> None:
    """A worker attests something else."""
    execute(run, "UPDATE devices SET attest_digest = ? WHERE device = ?", ids.digest_of(b""), any_device(run))


def d8(run: Path) -> None:
    """The server has lost a batch."""
    execute(run, "DELETE FROM batches WHERE kind = 'windows' AND device = ? AND seq < 9", any_device(run))


def d9(run: Path) -> None:
    """A device that stayed has alarmed."""
    execute(
        run,
        "UPDATE drift_events SET phase = 'alarm' WHERE id = (SELECT max(id) FROM drift_events WHERE device = ?)",
        Record(run).moved(moves=False)[0],
    )


def d10(run: Path) -> None:
    """A window of an evaluating person is in the snapshot."""
    record = Record(run)
    file = record.query("SELECT file FROM snapshots")[0]["file"]
    with closing(sqlite3.connect(run / "fleet" / file)) as database, database:
        source = f"p{record.plan['roles']['evaluate'][0]:02d}-left-ABD"
        database.execute("UPDATE samples SET source = ? WHERE rowid = 1", (source,))


def d11(run: Path) -> None:
    """The bad candidate began to serve on a device."""
    execute(
        run,
        """UPDATE execution_events SET state = 'probation' WHERE id = (SELECT min(v.id) FROM execution_events v
        JOIN executions e ON (e.device, e.epoch, e.seq) = (v.device, v.epoch, v.seq) WHERE e.rollout = ?)""",
        Record(run).rollout("bad")["id"],
    )


def d12(run: Path) -> None:
    """1.1 is 1.0 under another name."""
    record = Record(run)
    blobs, exact = run / "fleet/artifacts" / manifest.BLOBS, record.plan["profiles"]["exact"]
    artifact = manifest.Manifest.decode(blob(blobs, record.digest(record.version("first"), exact)))
    layer = next(layer for layer in artifact.layers if layer.role is manifest.Role.MODEL)
    replace_model(run, "good", lambda _: blob(blobs, layer.digest))


def d13(run: Path) -> None:
    """A moved device was cleared by its peers."""
    execute(run, "UPDATE drift_status SET cleared_by = 'group_test' WHERE device = ?", Record(run).moved(moves=True)[0])


def d14(run: Path) -> None:
    """Nobody knows which run made 1.1."""
    execute(run, "DELETE FROM lineage WHERE child_kind = 'release' AND parent_kind = 'run'")


def any_device(run: Path) -> str:
    """The first device of the plan."""
    return min(Record(run).devices)


LIES: dict[str, Callable[[Path], None]] = {
    lie.__name__.upper(): lie for lie in (d1, d2, d3, d4, d5, d6, d7, d8, d9, d10, d11, d12, d13, d14)
}

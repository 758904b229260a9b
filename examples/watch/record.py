"""Make a small recording of a run, for the checker's own tests: `python -m examples.watch.record RUN OUT.tar.xz`.

1. Kept: every row and file that a claim's check reads. Left out: raw windows, envelopes, keys, logs, other artifacts.
2. Databases are copied through SQLite itself, so that a run may be recorded while it stands.
3. No key, token or certificate is ever copied.
"""

from __future__ import annotations

import shutil
import sqlite3
import sys
import tarfile
import tempfile
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

from examples.watch.checker.layout import REPORT_FILE, blob
from examples.watch.checker.record import Record
from outrider_protocol import ids, manifest

EMPTIED = ("samples", "windows", "tokens", "device_keys", "idempotency", "gaps")


def record(run: Path, out: Path) -> Path:
    """Write the recording of `run` to the file `out`."""
    source = Record(run)
    with tempfile.TemporaryDirectory() as name:
        copy = Path(name) / "run"
        copy.mkdir()
        shutil.copytree(run / "truth", copy / "truth")
        _database(source, copy)
        _snapshots(source, copy)
        _artifacts(source, copy)
        _broken(source, copy)
        for device in source.devices:
            _device(source, copy, device)
        with tarfile.open(out, "w:xz", preset=9) as archive:
            for path in sorted(path for path in copy.rglob("*") if path.is_file()):
                archive.add(path, path.relative_to(copy), filter=_nobody)
    return out


def _nobody(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = entry.mtime = 0
    entry.uname = entry.gname = ""
    entry.mode = 0o644
    return entry


def _copied(source: Path, target: Path) -> sqlite3.Connection:
    target.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(f"file:{source}?mode=ro", uri=True)) as database:
        copy = sqlite3.connect(target, isolation_level=None)
        database.backup(copy)
    return copy


def _slim(database: sqlite3.Connection, statements: Iterable[str]) -> None:
    with closing(database):
        for statement in statements:
            database.execute(statement)
        database.execute("PRAGMA journal_mode = DELETE")
        database.execute("VACUUM")


def _database(source: Record, copy: Path) -> None:
    known = {row["name"] for row in source.query("SELECT name FROM sqlite_master WHERE type = 'table'")}
    statements = [f"DELETE FROM {table}" for table in EMPTIED if table in known]  # noqa: S608 - constants
    statements += ["UPDATE orders SET envelope = ''", "UPDATE releases SET role_metadata = ''"]
    statements += ["UPDATE devices SET facts = '{}', reported = NULL"]
    _slim(_copied(source.fleet / "fleet.db", copy / "fleet/fleet.db"), ["PRAGMA foreign_keys = OFF", *statements])


def _snapshots(source: Record, copy: Path) -> None:
    for row in source.query("SELECT file FROM snapshots"):
        _slim(_copied(source.fleet / row["file"], copy / "fleet" / row["file"]), ["UPDATE samples SET x = x''"])


def _artifacts(source: Record, copy: Path) -> None:
    """Manifest, config and model of the judged artifacts, and the first release's report."""
    blobs, wanted = source.fleet / "artifacts" / manifest.BLOBS, set[str]()
    for name in ("first", "good"):
        digest = source.digest(source.version(name), source.plan["profiles"]["exact"])
        artifact = manifest.Manifest.decode(blob(blobs, digest))
        models = {layer.digest for layer in artifact.device_layers() if layer.role is manifest.Role.MODEL}
        wanted |= {digest, artifact.config.digest} | models
    index = source.one("1.0", "SELECT index_json FROM releases WHERE version = ?", source.version("first"))
    wanted |= _report_blobs(manifest.Index.decode(index["index_json"].encode()), blobs)
    _copy_blobs(wanted, blobs, copy / "fleet/artifacts" / manifest.BLOBS)


def _broken(source: Record, copy: Path) -> None:
    layout, target = source.run / "broken", copy / "broken"
    raw = (layout / manifest.INDEX_FILE).read_bytes()
    _copy_blobs(
        _report_blobs(manifest.Index.decode(raw), layout / manifest.BLOBS),
        layout / manifest.BLOBS,
        target / manifest.BLOBS,
    )
    (target / manifest.INDEX_FILE).write_bytes(raw)


def _report_blobs(index: manifest.Index, blobs: Path) -> set[str]:
    found = set[str]()
    for referrer in index.referrers:
        layers = manifest.Manifest.decode(blob(blobs, referrer.digest)).layers
        reports = {layer.digest for layer in layers if layer.annotations.get(manifest.TITLE) == REPORT_FILE}
        found |= {referrer.digest} | reports
    return found


def _copy_blobs(digests: set[str], source: Path, target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    for digest in digests:
        (target / ids.hex_of(digest)).write_bytes(blob(source, digest))


def _device(source: Record, copy: Path, device: str) -> None:
    home, target = source.device_home(device) / "var", copy / "devices" / device / "var"
    _slim(_copied(home / "outbox.db", target / "outbox.db"), ())
    shutil.copy(home / "update.json", target / "update.json")
    for artifact in (path for path in (home / "artifacts").iterdir() if len(path.name) == 64):
        shutil.copytree(artifact, target / "artifacts" / artifact.name)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python -m examples.watch.record RUN OUT.tar.xz")
    print(record(Path(sys.argv[1]), Path(sys.argv[2])))

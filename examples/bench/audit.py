"""What the audit log costs: `python -m examples.bench.audit [--rounds 7]`.

1. One durable transaction (SQLite, WAL, `synchronous=FULL`) with one row, without and with an entry; then 200 rows
   without and with 200 entries, which no part of the server does: it writes one entry for all orders of a step.
2. Sealing: entries a second that the signer follows and signs, its own log on disk before the head leaves.
3. Verifying: entries a second of a copied database, hashes and links.

Rounds without and with an entry take turns; the table has medians.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from outrider_fleet.domain.audit_check import check
from outrider_fleet.signing import ceremony
from outrider_fleet.signing.offline import Offline
from outrider_fleet.signing.server import Signer
from outrider_fleet.store import audit, audit_file, sql
from outrider_fleet.store.database import Database, open_database
from outrider_fleet.store.tables import maintenance_events

TRANSACTIONS, ROWS, SEALED = 100, 200, 500
DETAIL = {"text": "entered phase 2 of 3: every gate says advance", "phase": 1, "exposed": 40}


def transactions(database: Database, count: int, rows: int, entries: int) -> tuple[float, float]:
    """Milliseconds that one of `count` transactions takes, and those of them in which this process computed."""
    row = {"device": "dev-1", "model": "har", "text": "x" * 60, "created_ms": 1}
    began, cpu = time.perf_counter(), time.process_time()
    for number in range(count):
        with database.write() as connection:
            sql.insert_all(connection, maintenance_events, [row] * rows)
            for _ in range(entries):
                audit.append(connection, number, "operator:eve", "rollout.advanced", "ro-000001", detail=DETAIL)
    return (time.perf_counter() - began) / count * 1e3, (time.process_time() - cpu) / count * 1e3


def in_turns(database: Database, rounds: int, count: int, rows: int, entries: int) -> str:
    """A line of the table: medians without and with entries."""
    found = [
        (*transactions(database, count, rows, 0), *transactions(database, count, rows, entries)) for _ in range(rounds)
    ]
    wall, cpu, wall_with, cpu_with = (statistics.median(column) for column in zip(*found, strict=True))
    each = (cpu_with - cpu) / entries * 1e3
    name = f"{rows} row{'s' * (rows > 1)}, {entries} entr{'ies' if entries > 1 else 'y'}"
    return f"| {name} | {wall:.2f} ms | {wall_with:.2f} ms | {cpu:.2f} ms | {cpu_with:.2f} ms | {each:.0f} µs |"


def rate(work: Callable[[], Any], n: int) -> float:
    """Things a second when `work` does `n` of them."""
    began = time.perf_counter()
    work()
    return n / (time.perf_counter() - began)


def sealing(directory: Path, database: Database) -> float:
    """Entries a second that the signer seals."""
    ceremony.init_trust(directory / "home", Offline(directory / "offline"), fleet="bench")
    signer = Signer(directory / "home")
    with database.read() as connection:
        rows = [row for start in (0, 500, 1000, 1500) for row in audit.after(connection, start, SEALED)]
    texts = [audit.entry_of(row).encode().decode() for row in rows]

    def seal() -> None:
        for start in range(0, len(texts), SEALED):
            answer = signer.handle({"op": "audit_seal", "entries": texts[start : start + SEALED]})
            assert answer["ok"], answer

    found = rate(seal, len(texts))
    signer.journal.close()
    return found


def verifying(path: Path) -> float:
    """Entries a second of a database that are verified."""
    with audit_file.opened(path) as log:
        began = time.perf_counter()
        report = check(log.rows, [], [])
        seconds = time.perf_counter() - began
    assert report.whole
    return report.entries / seconds


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(prog="python -m examples.bench.audit", description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "fleet.db"
        database = open_database(f"sqlite:///{path}")
        lines = [in_turns(database, rounds, TRANSACTIONS, 1, 1), in_turns(database, rounds, 10, ROWS, ROWS)]
        sealed, verified = sealing(Path(name), database), verifying(path)
        database.close()
    print("| transaction | without | with the log | CPU without | CPU with | CPU an entry |")
    print("|---|---|---|---|---|---|")
    print("\n".join(lines))
    print()
    print(f"Sealed: {sealed:,.0f} entries a second. Verified: {verified:,.0f} entries a second.\n")
    print(f"Python {platform.python_version()}, {sys.platform} {platform.machine()}, {os.cpu_count()} CPUs.")


if __name__ == "__main__":
    main()

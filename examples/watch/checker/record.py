"""What a run of the demo leaves behind, read-only.

    RUN/fleet/                 the server's home: fleet.db, artifacts/, snapshots/
    RUN/devices/<device>/      each agent's directory (var/update.json, var/outbox.db, var/artifacts/…)
    RUN/broken/                the release that was built from broken calibration data (OCI layout)
    RUN/truth/plan.json        {seed, roles: {train, label, evaluate}, versions: {first, bad, good},
                                profiles: {fast, exact, litert}, devices: {<device>: {person, moves}}}
    RUN/truth/feed/<device>.jsonl   a line a window:
                                {at_ms, part, wrist, recording, klass, prediction_id, digest, answer}
    RUN/truth/outages.jsonl    {from_ms, until_ms}: when the broker was dead

`part` is `baseline`, `quiet` (before the move), `later` (after it; right wrist for who stays), `shadow` or `after`.
The ground truth is written by whoever feeds the windows, at the moment of feeding.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from examples.watch.errors import RecordError

Row = dict[str, Any]


@dataclass(frozen=True)
class Fed:
    """One window as the feeder gave it to a device, and what came back."""

    at_ms: int
    part: str
    wrist: str
    recording: str
    klass: int
    prediction_id: str | None
    digest: str
    answer: int


@dataclass(frozen=True)
class Record:
    """One run's directory."""

    run: Path

    @property
    def fleet(self) -> Path:
        return self.run / "fleet"

    def device_home(self, device: str) -> Path:
        return self.run / "devices" / device

    @cached_property
    def plan(self) -> Row:
        """The ground truth about roles, versions and devices."""
        return dict(read_json(self.run / "truth" / "plan.json"))

    @property
    def devices(self) -> dict[str, Row]:
        return dict(self.plan["devices"])

    def moved(self, *, moves: bool) -> list[str]:
        """The devices that change wrists, or those that stay."""
        return sorted(name for name, device in self.devices.items() if bool(device["moves"]) is moves)

    def fed(self, device: str) -> list[Fed]:
        """Everything that was fed to a device, in order."""
        path = self.run / "truth" / "feed" / f"{device}.jsonl"
        return [Fed(**row) for row in read_lines(path)]

    def outages(self) -> list[Row]:
        return list(read_lines(self.run / "truth" / "outages.jsonl"))

    def query(self, sql: str, *values: Any) -> list[Row]:
        """Rows of the server's database, which is opened read-only."""
        return select(self.fleet / "fleet.db", sql, *values)

    def one(self, what: str, sql: str, *values: Any) -> Row:
        """The one row that there must be; raises `RecordError` naming `what`."""
        rows = self.query(sql, *values)
        if len(rows) != 1:
            raise RecordError(f"{what}: {len(rows)} found, one expected")
        return rows[0]

    def digest(self, version: str, profile: str) -> str:
        """The digest of one artifact."""
        sql = "SELECT digest FROM artifacts WHERE model = 'har' AND version = ? AND profile = ?"
        return str(self.one(f"artifact {version} for {profile}", sql, version, profile)["digest"])

    def digests(self, version: str) -> set[str]:
        """The digests of all of a version's artifacts."""
        sql = "SELECT digest FROM artifacts WHERE model = 'har' AND version = ?"
        return {str(row["digest"]) for row in self.query(sql, version)}

    def version(self, name: str) -> str:
        """The version label of `first`, `bad` or `good`."""
        return str(self.plan["versions"][name])

    def rollout(self, name: str) -> Row:
        """The newest rollout of `first`, `bad` or `good` to the whole fleet."""
        sql = """SELECT * FROM rollouts WHERE model = 'har' AND version = ? AND group_name = 'all'
            ORDER BY created_ms DESC LIMIT 1"""
        return self.one(f"rollout of {self.version(name)}", sql, self.version(name))

    def update_state(self, device: str) -> Row:
        return dict(read_json(self.device_home(device) / "var" / "update.json"))


def read_json(path: Path) -> Any:
    """JSON of a file; raises `RecordError`."""
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise RecordError(f"{path}: {error}") from error


def read_lines(path: Path) -> Iterator[Row]:
    """JSON lines of a file; raises `RecordError`."""
    try:
        lines = path.read_text("utf-8").splitlines()
    except OSError as error:
        raise RecordError(f"{path}: {error}") from error
    for line in lines:
        yield json.loads(line)


def select(path: Path, sql: str, *values: Any) -> list[Row]:
    """Rows of an SQLite file, opened read-only; raises `RecordError`."""
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)) as database:
            database.row_factory = sqlite3.Row
            return [dict(row) for row in database.execute(sql, values)]
    except sqlite3.Error as error:
        raise RecordError(f"{path}: {error}") from error

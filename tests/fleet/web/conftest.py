"""A fleet database as `store.tables` makes it, filled like the middle of the watch story, and a client of its pages."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import Engine, create_engine, event, insert

from outrider_fleet.store import tables as t
from outrider_fleet.web import pages

NOW_MS = 1_760_000_000_000
MINUTE_MS = 60_000
OUTBOX = "00112233aabbccdd"
MOVED = ("watch-05", "watch-06", "watch-07", "watch-08")
PROFILES = ("x86-64-vnni", "x86-64", "raspberry-pi-5")


def digest(name: str) -> str:
    """A digest that differs by name."""
    return "sha256:" + name.encode().hex().ljust(64, "0")[:64]


def ago(minutes: float) -> int:
    """A time before NOW_MS."""
    return int(NOW_MS - minutes * MINUTE_MS)


def device_row(name: str, number: int = 0, **values: Any) -> dict[str, Any]:
    """A device that runs har 1.1 and attests it."""
    artifact = digest(f"1.1{PROFILES[number % 2]}")
    return {
        "device": name,
        "profile": PROFILES[number % 2],
        "state": "enrolled",
        "pseudonym": f"p-{number:04x}",
        "enrolled_ms": ago(90),
        "facts": {"cpu": "x86-64", "memory_bytes": 8 << 30, "python": "3.11.2"},
        "session": 3,
        "online": 1,
        "seen_ms": ago(0.2),
        "agent_version": "0.1.0",
        "outbox_id": OUTBOX,
        "model": "har",
        "version": "1.1",
        "digest": artifact,
        "phase": "watching",
        "attest_digest": artifact,
        "attest_model_sha256": "ab" * 32,
        "attest_answered": 120 + number,
        "floor_epoch": 1,
        "floor_seq": 4,
        **values,
    }


def rollout_row(name: str, **values: Any) -> dict[str, Any]:
    """A rollout of har with a canary of two."""
    return {
        "id": name,
        "model": "har",
        "version": "1.1",
        "group_name": "all",
        "state": "running",
        "phase": 1,
        "phase_entered_ms": ago(3),
        "spec": {
            "phases": [{"name": "canary", "max_devices": 2}, {"name": "all", "percent": 100}],
            "gates": {
                "failures": {"max_ratio": 0.2, "min_sample": 2},
                "shadow": {"max_ratio": 0.35, "min_sample": 40},
            },
            "parameters": {"shadow_windows": 30, "probation_windows": 10},
        },
        "verdict": "wait",
        "why": "phase all: 8 of 8 devices exposed, 5 ended; failures: 0 of 5 bad; 3 executions have not ended",
        "created_by": "policy",
        "run": "run-000001",
        "created_ms": ago(5),
        "updated_ms": ago(1),
        **values,
    }


def execution_row(rollout: str, device: str, seq: int, **values: Any) -> dict[str, Any]:
    """A device's part, succeeded unless said otherwise."""
    return {
        "rollout": rollout,
        "device": device,
        "purpose": "rollout",
        "epoch": 1,
        "seq": seq,
        "phase": 1,
        "model": "har",
        "version": "1.1",
        "digest": digest("1.1x86-64"),
        "profile": "x86-64",
        "state": "succeeded",
        "error": None,
        "hint": None,
        "shadow_n": 30,
        "shadow_disagree": 3,
        "attest_digest": digest("1.1x86-64"),
        "latency_us": 212.4,
        "created_ms": ago(5),
        "ordered_ms": ago(4),
        "updated_ms": ago(2),
        **values,
    }


def put(engine: Engine, table: Any, *rows: dict[str, Any]) -> None:
    """Insert rows."""
    with engine.begin() as connection:
        for row in rows:
            connection.execute(insert(table).values(**row))


def _seed_devices(engine: Engine) -> None:
    for number in range(1, 9):
        name = f"watch-{number:02}"
        offline = {"online": 0, "seen_ms": ago(7)} if number == 4 else {}
        put(engine, t.devices, device_row(name, number, **offline))
        put(engine, t.drift_status, _status(name, number))
        put(
            engine,
            t.streams,
            {
                "device": name,
                "outbox_id": OUTBOX,
                "stream": "bulk",
                "committed_seq": 40 + number,
                "updated_ms": ago(0.3),
            },
        )
        for idx in range(60):
            confidence = 0.93 - (0.4 if name in MOVED and idx > 30 else 0) - 0.07 * ((idx * 7 + number) % 5) / 5
            put(
                engine,
                t.predictions,
                {
                    "device": name,
                    "outbox_id": OUTBOX,
                    "seq": idx // 20,
                    "idx": idx % 20,
                    "at_ms": ago(60 - idx),
                    "digest": digest("1.0x86-64"),
                    "klass": 1,
                    "confidence": confidence,
                },
            )


def _status(name: str, number: int) -> dict[str, Any]:
    row: dict[str, Any] = {
        "device": name,
        "model": "har",
        "digest": digest("1.1x86-64"),
        "phase": "watching",
        "drifted": 0,
        "since_ms": ago(30),
    }
    if name in MOVED[:2]:
        cleared = {"cleared_by": "labelled_check", "cleared_ms": ago(2), "cleared_digest": digest("1.1x86-64")}
        return {**row, **cleared}
    if name == MOVED[2]:
        return {**row, "phase": "rebaselining", "drifted": 1, "since_ms": ago(3)}
    if name == MOVED[3]:
        return {**row, "phase": "alarm", "drifted": 1, "since_ms": ago(20), "estimated_accuracy": 0.41}
    return row


def _seed_drift(engine: Engine) -> None:
    for place, name in enumerate(MOVED):
        put(
            engine,
            t.drift_events,
            {
                "device": name,
                "model": "har",
                "digest": digest("1.0x86-64"),
                "phase": "alarm",
                "score": 2113.4 + place,
                "window_index": 150 + 9 * place,
                "baseline_n": 115,
                "estimated_accuracy": 0.44 - 0.05 * place,
                "top": ["score.channels", "channel.2.mean", "score.confidence"],
                "at_ms": ago(26 - 3 * place),
                "received_ms": ago(26 - 3 * place),
            },
        )
    put(engine, t.policies, {"model": "har", "autonomy": "automatic", "spec": {}, "updated_ms": ago(80)})
    put(
        engine,
        t.maintenance_events,
        {
            "device": "watch-08",
            "model": "har",
            "text": "1 of 8 devices in alarm: a lone deviating device",
            "created_ms": ago(26),
        },
    )


def _seed_releases(engine: Engine) -> None:
    figures = {"1.0": 1, "1.1-bad": 2, "1.1": 3}
    for version, counter in figures.items():
        put(
            engine,
            t.releases,
            {
                "model": "har",
                "version": version,
                "counter": counter,
                "state": "published",
                "role_version": counter + 1,
                "role_metadata": "{}",
                "index_json": "{}",
                "run": "run-000001" if version == "1.1" else None,
                "created_by": "pipeline",
                "created_ms": ago(80 - 20 * counter),
            },
        )
        for profile, precision, size in zip(PROFILES, ("int8", "fp32", "int8"), (38_000, 104_448, 41_200), strict=True):
            put(
                engine,
                t.artifacts,
                {
                    "digest": digest(f"{version}{profile}"),
                    "model": "har",
                    "version": version,
                    "profile": profile,
                    "manifest_bytes": 2_400,
                    "engine": "litert" if profile == PROFILES[2] else "onnxruntime",
                    "precision": precision,
                    "model_sha256": "cd" * 32,
                    "model_bytes": size,
                    "reference_accuracy": 0.852,
                    "config": {},
                    "layers": [],
                },
            )


def _seed_rollouts(engine: Engine) -> None:
    aborted = rollout_row(
        "ro-000002",
        version="1.1-bad",
        state="aborted",
        phase=0,
        verdict="abort",
        why="aborted in phase canary: 2 of 2 devices exposed, 2 ended; "
        "shadow: 52 of 60 bad (86.7%, 95% bounds 78.0% to 92.2%)"
        "; above: the limit is 35.0%",
        created_by="operator:demo",
        run=None,
        created_ms=ago(12),
        ended_ms=ago(9),
    )
    put(engine, t.rollouts, rollout_row("ro-000003"), aborted)
    first = rollout_row(
        "ro-000001",
        version="1.0",
        state="completed",
        why="every gate says so",
        run=None,
        created_ms=ago(70),
        ended_ms=ago(60),
    )
    put(engine, t.rollouts, first)
    for number in range(1, 9):
        name = f"watch-{number:02}"
        phase = 0 if number in (1, 2) else 1
        state = "succeeded" if number <= 5 else "probation" if number < 8 else "downloading"
        put(engine, t.executions, execution_row("ro-000001", name, 1, version="1.0", phase=phase))
        bad: dict[str, Any] = {"version": "1.1-bad", "phase": 0, "state": "failed_unchanged", "shadow_disagree": 26}
        bad |= {
            "error": "ShadowDisagreement",
            "hint": "the candidate disagrees with what runs here",
            "attest_digest": None,
        }
        if phase:
            bad = {
                "version": "1.1-bad",
                "phase": None,
                "state": "canceled",
                "ordered_ms": None,
                "epoch": None,
                "shadow_n": 0,
            }
            bad |= {"latency_us": None, "attest_digest": None}
        put(engine, t.executions, execution_row("ro-000002", name, 3 if not phase else 0, **bad))
        put(engine, t.executions, execution_row("ro-000003", name, 4, phase=phase, state=state))
    for minutes, kind, exposed, text in (
        (5, "created", 0, "har 1.1 to all: 8 devices"),
        (5, "exposed", 2, "phase canary: watch-01, watch-02"),
        (3, "advanced", 2, "phase all: failures: 0 of 2 bad; below"),
        (3, "exposed", 8, "phase all: watch-03, watch-04, watch-05, watch-06, watch-07, watch-08"),
    ):
        event = {
            "rollout": "ro-000003",
            "at_ms": ago(minutes),
            "kind": kind,
            "phase": 0,
            "exposed": exposed,
            "text": text,
        }
        put(engine, t.rollout_events, event)
    for place, state in enumerate(("downloading", "verifying", "validating", "shadowing", "probation", "succeeded")):
        put(
            engine,
            t.execution_events,
            {
                "device": "watch-01",
                "epoch": 1,
                "seq": 4,
                "state": state,
                "detail": {"shadow": {"n": 30, "disagree": 3, "drifted": False}} if state == "probation" else {},
                "at_ms": ago(5 - 0.5 * place),
                "clock_ok": 1,
                "received_ms": ago(5 - 0.5 * place),
                "applied": 1,
            },
        )


def _seed_training(engine: Engine) -> None:
    sources = [f"person-{p}/recording-{r}" for p in (7, 8) for r in range(1, 8)]
    put(
        engine,
        t.snapshots,
        {
            "digest": digest("snap"),
            "model": "har",
            "file": "snapshots/a.db",
            "n": 480,
            "sources": sources,
            "created_by": "policy",
            "created_ms": ago(19),
        },
    )
    put(
        engine,
        t.snapshot_rows,
        {"snapshot": digest("snap"), "prediction_id": f"watch-05/{OUTBOX}/1/3", "label": "row", "source": sources[0]},
    )
    run = {
        "id": "run-000001",
        "model": "har",
        "state": "succeeded",
        "requested_by": "policy",
        "reason": {"why": "4 of 8 devices in alarm, estimated harm 47 points", "share": 0.5},
        "snapshot": digest("snap"),
        "base_version": "1.0",
        "version": "1.1",
        "counter": 3,
        "claimed_by": "runner-1",
        "progress": {"text": "signed and published", "ratio": 1.0},
        "result": {"figures": {"right_accuracy": 0.861, "left_accuracy": 0.742}},
        "rollout": "ro-000003",
        "created_ms": ago(19),
        "updated_ms": ago(14),
        "finished_ms": ago(14),
    }
    later = {
        **run,
        "id": "run-000002",
        "state": "claimed",
        "rollout": None,
        "version": "1.2",
        "counter": 4,
        "result": None,
    }
    put(engine, t.runs, run, {**later, "progress": {"text": "epoch 12 of 30", "ratio": 0.4}, "created_ms": ago(1)})
    edges = [
        ("rollout", "ro-000001", "release", "har/1.0"),
        ("rollout", "ro-000002", "release", "har/1.1-bad"),
        ("rollout", "ro-000003", "release", "har/1.1"),
        ("release", "har/1.1", "run", "run-000001"),
        ("run", "run-000001", "snapshot", digest("snap")),
        ("run", "run-000001", "release", "har/1.0"),
        *(("run", "run-000001", "device", f"p-{n:04x}") for n in (5, 6, 7, 8)),
        *(("run", "run-000001", "recording", f"person-{p}/recording-1") for p in (1, 2, 3)),
    ]
    for child_kind, child, parent_kind, parent in edges:
        edge = {
            "child_kind": child_kind,
            "child_id": child,
            "parent_kind": parent_kind,
            "parent_id": parent,
            "at_ms": ago(14),
        }
        put(engine, t.lineage, edge)


def seed(engine: Engine) -> None:
    """The watch story, five minutes after the second rollout of 1.1 began."""
    _seed_devices(engine)
    _seed_drift(engine)
    _seed_releases(engine)
    _seed_rollouts(engine)
    _seed_training(engine)


def _opened(file: Path) -> Engine:
    """A database that need not outlive the machine."""
    engine = create_engine(f"sqlite:///{file}")

    @event.listens_for(engine, "connect")
    def _hurry(connection: Any, _record: object) -> None:
        connection.execute("PRAGMA synchronous=OFF")

    return engine


@pytest.fixture(scope="session")
def databases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two files: `bare.db` with every table and no row, and `full.db` in the middle of the story."""
    folder = tmp_path_factory.mktemp("web")
    for name in ("bare", "full"):
        engine = _opened(folder / f"{name}.db")
        t.metadata.create_all(engine)
        if name == "full":
            seed(engine)
        engine.dispose()
    return folder


def _copy(source: Path, folder: Path) -> Iterator[Engine]:
    engine = _opened(Path(shutil.copy(source, folder / "fleet.db")))
    yield engine
    engine.dispose()


@pytest.fixture
def bare_engine(databases: Path, tmp_path: Path) -> Iterator[Engine]:
    """A database without a row."""
    yield from _copy(databases / "bare.db", tmp_path)


@pytest.fixture
def engine(databases: Path, tmp_path: Path) -> Iterator[Engine]:
    """A database in the middle of the story."""
    yield from _copy(databases / "full.db", tmp_path)


def application(engine: Engine, fleet: str = "watch fleet") -> FastAPI:
    """The pages alone, with a clock that stands still."""
    app = FastAPI()
    app.include_router(pages.router(engine, fleet, now_ms=lambda: NOW_MS))
    return app


class Client:
    """Asks the application without a network, as a browser would."""

    def __init__(self, app: FastAPI) -> None:
        self._app = app

    def get(self, path: str) -> httpx.Response:
        """One request; redirects are not followed."""
        return asyncio.run(self._ask(path))

    async def _ask(self, path: str) -> httpx.Response:
        transport = httpx.ASGITransport(self._app)
        async with httpx.AsyncClient(transport=transport, base_url="http://fleet.test") as client:
            return await client.get(path)


@pytest.fixture
def client(engine: Engine) -> Client:
    """Asks for pages of the filled database."""
    return Client(application(engine))


@pytest.fixture
def bare_client(bare_engine: Engine) -> Client:
    """Asks for pages of the empty database."""
    return Client(application(bare_engine))

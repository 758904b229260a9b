"""A home, a listening socket and workers that are ended with the test."""

from __future__ import annotations

import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.agent.worker.kit import RunningWorker, Settings, Spec, listen, start_worker, write_artifact


@pytest.fixture
def home() -> Iterator[Path]:
    """An agent's home under a short path: a Unix socket's name has at most 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="orw") as name:
        path = Path(name)
        (path / "run").mkdir()
        Settings().write(path)
        yield path


@pytest.fixture
def address(home: Path) -> Path:
    return home / "run" / "har.sock"


@pytest.fixture
def listener(address: Path) -> Iterator[socket.socket]:
    with listen(address) as sock:
        yield sock


@pytest.fixture
def workers(home: Path, listener: socket.socket) -> Iterator[Callable[..., RunningWorker]]:
    """Start a worker on a new artifact; `serving` waits for it and begins to accept with lease 1."""
    running: list[RunningWorker] = []

    def start(spec: Spec = Spec(), role: str = "serve", serving: bool = True) -> RunningWorker:  # noqa: B008
        directory = home / "artifacts" / f"{spec.version}-{spec.seed}-{spec.slow_loops}"
        if not directory.exists():
            write_artifact(directory, spec)
        worker = start_worker(home, directory, listener, role)
        running.append(worker)
        if serving:
            worker.wait_for("ready")
            worker.lease(1)
            worker.tell("serve")
        return worker

    yield start
    for worker in running:
        worker.end()

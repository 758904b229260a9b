"""Releases built once for the whole session, one fleet and one device a test."""

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.harness import MOSQUITTO, Device, Fleet, build, running

# Without one, the broker suite says in one line that its column was not run, this file included.
collect_ignore = [] if MOSQUITTO else ["test_mosquitto.py"]
PADDING = 90_000  # 6.5 MB of weights: some fifty chunks, so that a download can be interrupted


@pytest.fixture(scope="session")
def releases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Version → OCI layout; 1.1 is large. Built once, by whichever of several test processes comes first."""
    base = tmp_path_factory.getbasetemp()
    directory = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "releases"
    directory.mkdir(exist_ok=True)
    with (directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (directory / "built").exists():
            build(directory, "1.0", 1)
            build(directory, "1.1", 2, padding=PADDING)
            (directory / "built").touch()
    return {version: directory / f"release-{version}" for version in ("1.0", "1.1")}


@pytest.fixture
def fleet(tmp_path: Path, releases: dict[str, Path]) -> Iterator[Fleet]:
    """A running fleet server that holds release 1.0."""
    made = Fleet(tmp_path)
    with running(made.process):
        made.start()
        made.publish(releases["1.0"])
        yield made


@pytest.fixture
def device(tmp_path: Path, fleet: Fleet) -> Iterator[Device]:
    """An enrolled device whose agent runs."""
    made = Device(tmp_path, fleet, "dev-1")
    with running(made.process):
        made.start()
        yield made

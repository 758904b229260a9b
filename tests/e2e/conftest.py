"""Releases built once for the whole session, one fleet and one device a test."""

import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.harness import MOSQUITTO, Device, Fleet, build, running

# Without one, the broker suite says in one line that its column was not run, this file included.
collect_ignore = [] if MOSQUITTO else ["test_mosquitto.py"]
PADDING = 90_000  # 6.5 MB of weights: some fifty chunks, so that a download can be interrupted


Make = Callable[[Path], None]
Once = Callable[[str, Make], Path]


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory) -> Once:
    """A folder of this name, filled once a session by whichever of several test processes comes first."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base

    def filled(name: str, make: Make) -> Path:
        with (shared / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (shared / name).exists():
                (shared / f"{name}.part").mkdir()
                make(shared / f"{name}.part")
                (shared / f"{name}.part").rename(shared / name)
        return shared / name

    return filled


@pytest.fixture(scope="session")
def releases(once: Once) -> dict[str, Path]:
    """Version → OCI layout; 1.1 is large."""

    def make(directory: Path) -> None:
        build(directory, "1.0", 1)
        build(directory, "1.1", 2, padding=PADDING)

    directory = once("releases", make)
    return {version: directory / f"release-{version}" for version in ("1.0", "1.1")}


@pytest.fixture(scope="session")
def founded(once: Once) -> Path:
    """The directory of a fleet that was never started."""

    def make(directory: Path) -> None:
        Fleet(directory)

    return once("founded", make)


@pytest.fixture(scope="session")
def published(once: Once, founded: Path, releases: dict[str, Path]) -> Path:
    """The directory of a stopped fleet that holds release 1.0."""

    def make(directory: Path) -> None:
        made = Fleet(directory, like=founded)
        with running(made.process):
            made.start()
            made.publish(releases["1.0"])

    return once("published", make)


@pytest.fixture
def fleet(tmp_path: Path, published: Path) -> Iterator[Fleet]:
    """A running fleet server that holds release 1.0."""
    made = Fleet(tmp_path, like=published)
    with running(made.process):
        made.start()
        yield made


@pytest.fixture
def device(tmp_path: Path, fleet: Fleet) -> Iterator[Device]:
    """An enrolled device whose agent runs."""
    made = Device(tmp_path, fleet, "dev-1")
    with running(made.process):
        made.start()
        yield made

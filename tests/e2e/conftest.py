"""Releases built once for the whole session, one fleet and one device a test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.harness import Device, Fleet, build, running

PADDING = 90_000  # 6.5 MB of weights: some fifty chunks, so that a download can be interrupted


class Releases(dict[str, Path]):
    """Version → OCI layout, built when it is asked for; 1.1 is large."""

    def __init__(self, directory: Path) -> None:
        super().__init__()
        self._directory = directory

    def __missing__(self, version: str) -> Path:
        counter, padding = {"1.0": (1, 0), "1.1": (2, PADDING)}[version]
        self[version] = build(self._directory, version, counter, padding=padding)
        return self[version]


@pytest.fixture(scope="session")
def releases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Built once a session and process."""
    return Releases(tmp_path_factory.mktemp("releases"))


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

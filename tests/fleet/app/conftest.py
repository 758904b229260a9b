"""A fleet server without processes, and eight enrolled devices."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from outrider_fleet.app import create_rollout
from outrider_fleet.app.create_rollout import Wanted
from tests.fleet.app.house import ALL, House

DEVICES = tuple(f"watch-{n}" for n in range(1, 9))


@pytest.fixture(scope="session")
def empty_house(tmp_path_factory: pytest.TempPathFactory) -> House:
    """Founded once, copied for each test."""
    made = House(tmp_path_factory.mktemp("house"))
    made.close()
    return made


@pytest.fixture(scope="session")
def running_house(tmp_path_factory: pytest.TempPathFactory, empty_house: House) -> House:
    """Eight devices run release 1.0 here; made once, copied for each test."""
    made = House(tmp_path_factory.mktemp("running"), empty_house)
    made.enrol(*DEVICES)
    made.publish("1.0", 1)
    create_rollout.create(made.fleet, Wanted("har", "1.0", "all", ALL), "operator:test")
    for device in DEVICES:
        made.succeed(device)
    made.close()
    return made


@pytest.fixture
def house(tmp_path: Path, empty_house: House) -> Iterator[House]:
    """A fleet without devices and releases."""
    made = House(tmp_path, empty_house)
    yield made
    made.close()


@pytest.fixture
def running(tmp_path: Path, running_house: House) -> Iterator[House]:
    """Eight devices that run release 1.0."""
    made = House(tmp_path, running_house)
    yield made
    made.close()

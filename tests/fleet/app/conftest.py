"""A fleet server without processes, and eight enrolled devices."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fleet.app.house import House

DEVICES = tuple(f"watch-{n}" for n in range(1, 9))


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path)
    yield made
    made.close()


@pytest.fixture
def running(house: House) -> House:
    """Eight devices that run release 1.0."""
    from outrider_fleet.app import create_rollout
    from outrider_fleet.app.create_rollout import Wanted
    from tests.fleet.app.house import ALL

    house.enrol(*DEVICES)
    house.publish("1.0", 1)
    create_rollout.create(house.fleet, Wanted("har", "1.0", "all", ALL), "operator:test")
    for device in DEVICES:
        house.succeed(device)
    return house

"""Orders before they are signed. Rules: docs/spec/trust.md."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from outrider_fleet.app import create_rollout, orders
from outrider_fleet.app.create_rollout import Wanted
from outrider_fleet.app.orders import Wish
from outrider_fleet.signing import rotation
from outrider_fleet.store import releases, rollouts
from outrider_protocol import topics
from outrider_protocol.director import Director
from outrider_protocol.errors import ParameterRangeError
from outrider_protocol.messages import TrustOnline
from tests.fleet.app.house import ALL, House


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path)
    made.enrol("watch-1")
    made.publish("1.0", 1)
    create_rollout.create(made.fleet, Wanted("har", "1.0", "all", ALL), "operator:test")
    yield made
    made.close()


@pytest.mark.parametrize("parameters", [{"probation_windows": 1e9}, {"unknown": 1.0}, {"probation_windows": -1.0}])
def test_parameters_are_looked_at_once_more(house: House, parameters: dict[str, float]) -> None:
    """ORD-1: a parameter that the ordered artifact does not declare, or out of its range, never reaches the signer."""
    signed = house.signer.journal.entries()

    def order() -> None:
        with house.fleet.change() as change:
            digest = str(house.value("SELECT digest FROM artifacts"))
            artifact = releases.artifact(change.connection, digest)
            last = rollouts.last_order(change.connection, "watch-1")
            assert artifact is not None
            assert last is not None
            wish = Wish("watch-1", artifact, last["execution"], parameters)
            orders.issue(house.fleet, change, [wish], "operator:test")

    with pytest.raises(ParameterRangeError):
        order()
    assert house.signer.journal.entries() == signed


def test_devices_hear_of_a_new_director_first(house: House) -> None:
    """ORD-2: the first order of an epoch is published after the metadata that announces its director."""
    house.publish("1.1", 2)
    rotation.rotate_director(house.home.path, house.offline)
    house.broker.sent.clear()
    create_rollout.create(house.fleet, Wanted("har", "1.1", "all", ALL), "operator:test")
    sent = [topic for topic, _, _ in house.broker.sent]
    ordered = house.order("watch-1")
    assert ordered is not None
    assert ordered.epoch == 2
    assert sent.index(topics.TRUST_ONLINE) < sent.index(topics.desired("watch-1"))
    online = TrustOnline.decode(house.broker.retained()[topics.TRUST_ONLINE])
    assert Director.decode(online.files["fleet/director.json"].encode()).epoch == 2

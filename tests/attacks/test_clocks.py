"""A clock that is wrong, by a battery or by whoever answers for the time: 1970 and 2099, on the real agent."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from outrider_protocol import limits
from outrider_protocol.order import Order
from tests.agent.supervisor.house import until
from tests.attacks.attacker import NOTHING, Attacker, Offer, now_ms
from tests.attacks.clocks import clock_at
from tests.attacks.siege import Refusal, Siege

TIME, EXPIRED = Refusal("OrderTimeError"), Refusal("TrustExpiredError", None)
DAY_MS = 86_400_000
DIRECTOR = frozenset({"director"})


def started_at(siege: Siege, year: int) -> Siege:
    """The agent, started anew with its clock in that year."""
    moment = dt.datetime(year, 1, 2, tzinfo=dt.UTC)
    siege.world.agent.stop()
    siege.world.agent.start(**clock_at(moment, siege.world.directory / f"clock-{year}"))
    until(siege.world.status, "status")
    return siege


def connected(siege: Siege) -> bool:
    return bool(until(siege.world.status, "status")["connected"])


@pytest.fixture(scope="module")
def in_1970(siege: Siege) -> Siege:
    """Connected all the same."""
    started_at(siege, 1970)
    until(lambda: connected(siege), "a connection")
    assert not until(siege.world.status, "status")["clock_ok"]
    return siege


def held_back(attacker: Attacker, order: Order) -> bytes:
    """The fleet's own order of two months ago: for a clock at 1970 it is not expired."""
    iat_ms = now_ms() - 60 * DAY_MS
    return attacker.world.trust.order(replace(order, iat_ms=iat_ms, exp_ms=iat_ms + limits.ORDER_LIFETIME_MS))


def of_yesterday(attacker: Attacker, order: Order) -> bytes:
    """A stolen director's, of a moment before the last accepted one."""
    return attacker.order(replace(order, iat_ms=now_ms() - DAY_MS, exp_ms=now_ms() - DAY_MS // 2), "director")


def of_2099(attacker: Attacker, order: Order) -> bytes:
    iat_ms = 4_070_908_800_000
    return attacker.order(replace(order, iat_ms=iat_ms, exp_ms=iat_ms + DAY_MS), "director")


ORDERS: list[tuple[frozenset[str], Callable[[Attacker, Order], bytes]]] = [
    (NOTHING, held_back),
    (DIRECTOR, of_yesterday),
    (DIRECTOR, of_2099),
]


@pytest.mark.parametrize(("keys", "make"), ORDERS, ids=[make.__name__ for _, make in ORDERS])
def test_orders_at_1970(in_1970: Siege, keys: frozenset[str], make: Callable[[Attacker, Order], bytes]) -> None:
    """ATK-11: TRU-6: with the clock at 1970 the last verified order's date is the time that counts."""
    order = in_1970.order(in_1970.first)
    with in_1970.withstands():
        in_1970.desire(make(in_1970.attacker(keys), order))
        in_1970.refused(TIME, order.seq)


def test_a_freeze_at_1970(in_1970: Siege) -> None:
    """ATK-11: TRU-2: metadata that expired before the last verified order are expired, whatever the clock says."""
    fleet = in_1970.world.trust
    fleet.expires_s = -3600.0
    in_1970.world.publish()
    with in_1970.withstands():
        in_1970.desire(fleet.order(order := in_1970.list_release()))
        in_1970.refused(EXPIRED, order.seq)
    fleet.expires_s = 7 * 24 * 3600
    in_1970.heal()
    in_1970.obeys()


def test_everything_has_expired_in_2099(siege: Siege, tmp_path: Path) -> None:
    """ATK-11: a clock at 2099 cuts the device off and expires what is brought: named, transient, and it serves on."""
    started_at(siege, 2099)
    until(lambda: "ended" in siege.world.agent.log(), "a refused connection")
    siege.heal()
    envelope = siege.world.trust.order(siege.order(siege.first))
    stick = siege.stick(envelope, Offer(siege.world.offered[-1]), tmp_path / "stick")
    with siege.withstands():
        done = siege.command("import", str(stick))
        assert (done.returncode, "TrustExpiredError" in done.stderr, "clock" in done.stderr) == (4, True, True)
        assert not connected(siege)


def test_2099_leaves_nothing_behind(siege: Siege) -> None:
    """ATK-11: once the clock is right again the device connects and obeys: no floor was taken from a clock."""
    siege.world.agent.stop()
    siege.world.agent.start()
    until(lambda: connected(siege), "a connection")
    siege.obeys()
    assert siege.standing().floors["time_ms"] < now_ms() + DAY_MS

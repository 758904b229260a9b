"""What a device believes of an order."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider_protocol import canonical, dsse, errors, limits, signing, trust
from outrider_protocol.director import Director
from outrider_protocol.order import Order
from tests.protocol.samples import DIRECTOR, KEY, NOW_MS, ORDER

DAY_MS = 86_400_000
IDENTITY = trust.Identity("dev-1", ORDER.aud.key_sha256, "demo", "raspberry-pi-5")
CLOCK = trust.Clock(now_ms=NOW_MS + 1000, build_ms=NOW_MS - DAY_MS, trusted_until_ms=NOW_MS + 7 * DAY_MS)
FRESH = trust.Floors()
TARGET = trust.Target(ORDER.target, ORDER.manifest[7:], ORDER.manifest_bytes, ORDER.counter)


def accept(order: Order = ORDER, floors: trust.Floors = FRESH, **change: Any) -> tuple[Order, trust.Floors, bool]:
    """Sign `order` and offer it; `change` replaces director, identity, clock or the signing key."""
    envelope = change.get("envelope") or signing.sign_order(order, [change.get("key", KEY)])
    return trust.accept(
        envelope,
        change.get("director", DIRECTOR),
        floors,
        change.get("identity", IDENTITY),
        change.get("clock", CLOCK),
    )


def test_accepts_and_raises_floors() -> None:
    """PRO-ORD-1: a well signed order for this device passes and its floors are returned."""
    order, floors, resumed = accept()
    assert (order, resumed) == (ORDER, False)
    assert (floors.epoch, floors.seq, floors.time_ms) == (1, 5, NOW_MS)


def test_foreign_key_is_refused() -> None:
    """PRO-ORD-1: a signature by an unlisted key is none."""
    with pytest.raises(errors.SignatureError):
        accept(key=signing.generate())


def test_changed_payload_is_refused() -> None:
    """PRO-ORD-1: one changed field breaks the signature."""
    parsed = dsse.Envelope.decode(signing.sign_order(ORDER, [KEY]), 10**5)
    forged = replace(parsed, payload=replace(ORDER, counter=9).encode())
    with pytest.raises(errors.SignatureError):
        accept(envelope=forged.encode())


def test_other_payload_type_is_refused() -> None:
    """PRO-ORD-1: a signature over another type cannot be reused as an order."""
    data, kind = ORDER.encode(), "application/other"
    signature = KEY.sign(dsse.pae(kind, data))
    envelope = dsse.Envelope(kind, data, ((dsse.key_id(signing.public_bytes(KEY)), signature),))
    with pytest.raises(errors.SignatureError):
        accept(envelope=envelope.encode())


def test_few_signatures_are_looked_at() -> None:
    """PRO-ORD-1: whoever sends an envelope does not decide how many signatures are verified: the first eight count."""
    parsed = dsse.Envelope.decode(signing.sign_order(ORDER, [KEY]), 10**5)
    (keyid, signature), wrong = parsed.signatures[0], bytes(64)
    padded = [replace(parsed, signatures=((keyid, wrong),) * n + ((keyid, signature),)) for n in (7, 8)]
    assert accept(envelope=padded[0].encode())[0] == ORDER
    with pytest.raises(errors.SignatureError):
        accept(envelope=padded[1].encode())


@pytest.mark.parametrize("change", [{"device": "dev-2"}, {"key_sha256": "00" * 32}, {"fleet": "other"}])
def test_audience(change: dict[str, str]) -> None:
    """PRO-ORD-2: id, key and fleet must all be this device's."""
    with pytest.raises(errors.WrongAudienceError):
        accept(identity=replace(IDENTITY, **change))


@pytest.mark.parametrize(
    ("floors", "clock"),
    [
        (FRESH, replace(CLOCK, now_ms=ORDER.exp_ms)),
        (FRESH, replace(CLOCK, now_ms=None, build_ms=ORDER.exp_ms)),
        (replace(FRESH, time_ms=NOW_MS + 1), CLOCK),
        (FRESH, replace(CLOCK, trusted_until_ms=NOW_MS - 1)),
    ],
    ids=["expired", "expired at build time", "older than the last", "from the future"],
)
def test_time(floors: trust.Floors, clock: trust.Clock) -> None:
    """PRO-ORD-3: each of the four ways of being out of time is refused."""
    with pytest.raises(errors.OrderTimeError):
        accept(floors=floors, clock=clock)


def test_wrong_clock_does_not_lock_out() -> None:
    """PRO-ORD-3: at 1970, or with no clock at all, a fresh order is still accepted."""
    assert accept(clock=replace(CLOCK, now_ms=0))[0] == accept(clock=replace(CLOCK, now_ms=None))[0] == ORDER


def test_sequence() -> None:
    """PRO-ORD-4: resume, conflict and replay are told apart."""
    _, floors, _ = accept()
    assert accept(floors=floors)[2] is True
    with pytest.raises(errors.OrderConflictError):
        accept(replace(ORDER, counter=4), floors)
    with pytest.raises(errors.OrderSequenceError, match="already accepted 1/5"):
        accept(replace(ORDER, seq=4), floors)


def test_an_order_of_another_epoch_is_refused() -> None:
    """PRO-ORD-4: an order counts in the director's present epoch alone, neither in an earlier nor in a later one."""
    with pytest.raises(errors.OrderSequenceError):
        accept(director=replace(DIRECTOR, epoch=2))
    with pytest.raises(errors.OrderSequenceError):
        accept(replace(ORDER, epoch=2))


def test_new_epoch() -> None:
    """PRO-ORD-5: seq starts again; a poisoned time floor goes only where the director file says so."""
    poisoned = trust.Floors(epoch=1, seq=2**53 - 1, time_ms=NOW_MS + 10 * DAY_MS)
    order = replace(ORDER, epoch=2, seq=1)
    with pytest.raises(errors.OrderTimeError):
        accept(order, poisoned, director=replace(DIRECTOR, epoch=2))
    assert accept(order, poisoned, director=replace(DIRECTOR, epoch=2, reset_time_floor=True))[1].seq == 1
    with pytest.raises(errors.OrderSequenceError):
        accept(floors=trust.Floors(epoch=2))


@pytest.mark.parametrize(
    "change", [{"path": "har/1.1/raspberry-pi-5"}, {"sha256": "00" * 32}, {"length": 1}, {"counter": 4}]
)
def test_target(change: dict[str, Any]) -> None:
    """PRO-ORD-6: path, hash, length and counter must be what the pipeline signed."""
    with pytest.raises(errors.WrongTargetError):
        trust.check_artifact(ORDER, replace(TARGET, **change), IDENTITY, 0)


def test_hardware_and_floor() -> None:
    """PRO-ORD-7: the right artifact for other hardware, or below the floor, is refused."""
    trust.check_artifact(ORDER, TARGET, IDENTITY, min_counter=3)
    with pytest.raises(errors.WrongHardwareError):
        trust.check_artifact(ORDER, TARGET, replace(IDENTITY, profile="x86-64"), 0)
    with pytest.raises(errors.BelowFloorError):
        trust.check_artifact(ORDER, TARGET, IDENTITY, min_counter=4)


@pytest.mark.parametrize("ordered", [{"path": 1}, {"shadow_windows": -1}, {"shadow_windows": 1e9}])
def test_parameters(ordered: dict[str, float]) -> None:
    """PRO-ORD-8: unknown names and values outside the range are refused."""
    declared = {"shadow_windows": (0.0, 100.0, 0.0)}
    assert trust.resolve_parameters({"shadow_windows": 5}, declared) == {"shadow_windows": 5}
    assert trust.resolve_parameters({}, declared) == {"shadow_windows": 0}
    with pytest.raises(errors.ParameterRangeError):
        trust.resolve_parameters(ordered, declared)


@given(st.lists(st.tuples(st.integers(1, 6), st.integers(-3, 3), st.integers(1, 3)), max_size=12))
def test_floors_never_fall(offers: list[tuple[int, int, int]]) -> None:
    """PRO-ORD-9: whatever sequence of orders is offered, (seq, time) within an epoch never decrease."""
    floors = FRESH
    for seq, days, counter in offers:
        iat_ms = NOW_MS + days * DAY_MS
        order = replace(ORDER, seq=seq, iat_ms=iat_ms, exp_ms=iat_ms + 20 * DAY_MS, counter=counter)
        try:
            _, raised, _ = accept(order, floors)
        except errors.UntrustedError:
            continue
        assert raised.seq >= floors.seq
        assert raised.time_ms >= floors.time_ms
        floors = raised


@pytest.mark.parametrize(
    "change",
    [
        {"exp_ms": ORDER.iat_ms + limits.ORDER_LIFETIME_MS + 1},
        {"exp_ms": ORDER.iat_ms},
        {"action": "format"},
        {"seq": 0},
        {"manifest_bytes": limits.MANIFEST_BYTES + 1},
        {"manifest": "sha256:00"},
        {"model": "../har"},
        {"aud": {"device": "_fleet", "key_sha256": "00"}},
    ],
    ids=str,
)
def test_orders_that_cannot_be(change: dict[str, Any]) -> None:
    """PRO-ORD-10: whoever signed it: an order that lives too long, or whose fields are none, is refused when read."""
    value = canonical.decode(ORDER.encode(), limits.ORDER_BYTES)
    assert Order.decode(canonical.encode(value)) == ORDER
    with pytest.raises(errors.ProtocolError):
        Order.decode(canonical.encode({**value, **change}))


@pytest.mark.parametrize("change", [{"keys": []}, {"keys": ["00" * 31]}, {"keys": ["zz"]}, {"epoch": 0}], ids=str)
def test_director_files_that_cannot_be(change: dict[str, Any]) -> None:
    """PRO-ORD-11: a director file names at least one key, of 32 bytes, and an epoch from 1."""
    value = canonical.decode(DIRECTOR.encode(), limits.DIRECTOR_BYTES)
    assert Director.decode(canonical.encode(value)).public_keys()
    with pytest.raises(errors.MalformedError):
        Director.decode(canonical.encode({**value, **change})).public_keys()

"""What a device believes of an order: pure decisions, in the order of the design.

1. Nothing here reads a clock, a disk or the network: they are arguments.
2. `accept` runs after the TUF refresh; `check_artifact` after the target was looked up.
3. Floors only rise, except that a new epoch resets the sequence and, where the signed
   director file says so, the time floor.
4. The same (epoch, seq) with the same payload resumes; with another it is an error.

    floors = Floors(epoch=1, seq=4, time_ms=..., payload_sha256="…")
    order, raised = accept(envelope, director, floors, device, now_ms=..., build_ms=..., trusted_until_ms=...)
    check_artifact(order, target, device, min_counter)
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

from outrider_protocol import dsse, limits
from outrider_protocol.director import Director
from outrider_protocol.errors import (
    BelowFloorError,
    OrderConflictError,
    OrderSequenceError,
    OrderTimeError,
    ParameterRangeError,
    WrongAudienceError,
    WrongHardwareError,
    WrongTargetError,
)
from outrider_protocol.order import TYPE, Order


@dataclass(frozen=True)
class Identity:
    """Who this device is."""

    device: str
    key_sha256: str
    fleet: str
    profile: str


@dataclass(frozen=True)
class Floors:
    """What a device never goes below. `time_ms` is the last verified `iat_ms`."""

    epoch: int = 0
    seq: int = 0
    time_ms: int = 0
    payload_sha256: str = ""


@dataclass(frozen=True)
class Target:
    """What verified targets metadata says of one artifact's manifest."""

    path: str
    sha256: str
    length: int
    counter: int


@dataclass(frozen=True)
class Clock:
    """The device's time and how far orders may move it; `now_ms` is None when the clock is known to be wrong.

    `trusted_until_ms` is where the trusted metadata end: the earliest end of root, targets and timestamp.
    """

    now_ms: int | None
    build_ms: int
    trusted_until_ms: int


def accept(
    envelope: bytes, director: Director, floors: Floors, identity: Identity, clock: Clock
) -> tuple[Order, Floors, bool]:
    """Return (order, floors to commit, resumed) or raise the first rule that failed."""
    if director.epoch < floors.epoch:  # [TRU-3]
        raise OrderSequenceError(f"director epoch {director.epoch}, already trust {floors.epoch}")
    parsed = dsse.Envelope.decode(envelope, limits.ORDER_BYTES)  # [TRU-1]
    order = Order.decode(dsse.verify(parsed, TYPE, director.public_keys()))  # [TRU-4]
    _check_audience(order, identity)  # [TRU-5]
    floors = _enter_epoch(director, floors)
    _check_time(order, floors, clock)  # [TRU-6]
    payload_sha256 = hashlib.sha256(parsed.payload).hexdigest()
    resumed = _check_sequence(order, director, floors, payload_sha256)  # [TRU-7]
    raised = Floors(order.epoch, order.seq, max(floors.time_ms, order.iat_ms), payload_sha256)
    return order, raised, resumed


def _check_audience(order: Order, identity: Identity) -> None:
    for name, said, own in (
        ("device", order.aud.device, identity.device),
        ("key", order.aud.key_sha256, identity.key_sha256),
        ("fleet", order.fleet, identity.fleet),
    ):
        if said != own:
            raise WrongAudienceError(f"order for {name} {said[:80]!r}, this one is {own!r}")


def _enter_epoch(director: Director, floors: Floors) -> Floors:
    if director.epoch == floors.epoch:
        return floors
    fresh = replace(floors, epoch=director.epoch, seq=0, payload_sha256="")
    return replace(fresh, time_ms=0) if director.reset_time_floor else fresh


def _check_time(order: Order, floors: Floors, clock: Clock) -> None:
    floor_ms = max(clock.build_ms, floors.time_ms)
    if order.iat_ms > clock.trusted_until_ms:
        raise OrderTimeError("the order claims to be younger than the trusted metadata allow")
    if order.iat_ms < floors.time_ms:
        raise OrderTimeError("the order is older than the last accepted one")
    if order.exp_ms <= max(floor_ms, clock.now_ms or 0):
        raise OrderTimeError("the order has expired")


def _check_sequence(order: Order, director: Director, floors: Floors, payload_sha256: str) -> bool:
    if order.epoch != director.epoch:
        raise OrderSequenceError(f"order of epoch {order.epoch}, the director is in {director.epoch}")
    if order.seq < floors.seq:
        raise OrderSequenceError(f"order {order.epoch}/{order.seq}, already accepted {floors.epoch}/{floors.seq}")
    if order.seq > floors.seq:
        return False
    if payload_sha256 != floors.payload_sha256:
        raise OrderConflictError(f"two different orders carry {order.epoch}/{order.seq}")
    return True


def check_artifact(order: Order, target: Target, identity: Identity, min_counter: int) -> None:
    """Hold an accepted order against the trusted targets, this hardware and the model's floor."""
    named = (order.target, order.manifest, order.manifest_bytes, order.counter)
    if named != (target.path, f"sha256:{target.sha256}", target.length, target.counter):  # [TRU-8]
        raise WrongTargetError(f"{order.target}: the order and the trusted targets name different artifacts")
    if order.profile != identity.profile:  # [TRU-9]
        raise WrongHardwareError(f"artifact for {order.profile}, this device is {identity.profile}")
    if order.counter < min_counter:  # [TRU-10]
        raise BelowFloorError(f"{order.model} {order.release} has counter {order.counter}, the floor is {min_counter}")


def resolve_parameters(order: dict[str, float], declared: dict[str, tuple[float, float, float]]) -> dict[str, float]:
    """Merge ordered numbers over the artifact's defaults; `declared` is name → (min, max, default)."""
    resolved = {name: default for name, (_, _, default) in declared.items()}
    for name, value in order.items():
        if name not in declared:  # [TRU-11]
            raise ParameterRangeError(f"the artifact declares no parameter {name!r}")
        low, high, _ = declared[name]
        if not low <= value <= high:
            raise ParameterRangeError(f"{name} = {value} is outside {low}..{high}")
        resolved[name] = value
    return resolved

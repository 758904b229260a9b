"""Orders: built for one device, signed by the signer, stored with the change that asks for them, published after it.

1. The sequence is drawn above everything this server drew before and above what the device reports.
2. An order names the device's present key: one that was re-enrolled gets its own.
3. The envelope is stored before it is published, so a restarted server publishes the same bytes again.
4. Parameters lie in the ranges of the very artifact that is ordered, or the signer is not asked.
5. Devices have heard of a new director before they get its first order.
6. What was ordered, and by whom, is in the audit log: one entry for all orders of a step.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final

from outrider_fleet.app import announce
from outrider_fleet.app.fleet import Change, Fleet
from outrider_fleet.errors import ConflictError
from outrider_fleet.signing.repository import TrustRepository
from outrider_fleet.store import devices, releases, rollouts, sql
from outrider_fleet.store.sql import Row
from outrider_fleet.store.tables import orders
from outrider_protocol import dsse, limits, topics
from outrider_protocol.order import Audience, Order
from outrider_protocol.trust import resolve_parameters

DEVICES_TOLD: Final = 20


@dataclass(frozen=True)
class Wish:
    """One device shall run one artifact, as execution number `execution`; with `remove`, erase itself instead."""

    device: str
    artifact: Row
    execution: int
    parameters: dict[str, float]
    remove: bool = False


def issue(fleet: Fleet, change: Change, wishes: Sequence[Wish], actor: str = "server") -> None:
    """Sign, store and publish; sets epoch and seq of each execution. All or none.

    A device that is not enrolled any more is ordered nothing: its execution stays without an order.
    """
    wishes = [wish for wish in wishes if wish.remove or devices.enrolled(change.connection, wish.device)]
    if not wishes:
        return
    epoch = TrustRepository(fleet.home.trust).director().epoch
    if epoch != fleet.epoch_published:  # [ORD-2]
        announce.publish_trust(fleet, change=change)
    made = [_order(fleet, change, wish, epoch) for wish in wishes]
    envelopes = fleet.signer.sign_orders(made)
    for wish, order, envelope in zip(wishes, made, envelopes, strict=True):
        sql.insert(change.connection, orders, _row(wish, order, envelope))
        rollouts.update_execution(change.connection, wish.execution, {"epoch": order.epoch, "seq": order.seq})
        change.publish(topics.desired(wish.device), envelope, retain=True)
    change.audit(actor, "order.issue", f"{len(made)} orders", _told(made))


def _told(made: Sequence[Order]) -> dict[str, Any]:
    """What the log says of orders: enough to tell each of them from any other."""
    lines = (f"{o.aud.device} {o.epoch} {o.seq} {sha256(o.encode()).hexdigest()}\n" for o in made)
    return {
        "epoch": made[0].epoch,
        "first_seq": made[0].seq,
        "last_seq": made[-1].seq,
        "targets": sorted({order.target for order in made}),
        "devices": [order.aud.device for order in made[:DEVICES_TOLD]],
        "orders_sha256": sha256("".join(lines).encode()).hexdigest(),
    }


def _order(fleet: Fleet, change: Change, wish: Wish, epoch: int) -> Order:
    device, artifact = devices.get(change.connection, wish.device), wish.artifact
    key_sha256 = devices.current_key(change.connection, wish.device)
    release = releases.get(change.connection, artifact["model"], artifact["version"])
    if device is None or key_sha256 is None or release is None:
        raise ConflictError(f"{wish.device}: no key or no release to order")
    resolve_parameters(wish.parameters, releases.parameter_ranges(artifact))  # [ORD-1]
    return Order(
        aud=Audience(wish.device, key_sha256),
        fleet=fleet.config.name,
        epoch=epoch,
        seq=_sequence(fleet, device, epoch),
        iat_ms=change.now_ms,
        exp_ms=change.now_ms + int(fleet.config.engine.order_lifetime_s * 1000),
        model=artifact["model"],
        release=artifact["version"],
        counter=release["counter"],
        profile=artifact["profile"],
        manifest=artifact["digest"],
        manifest_bytes=artifact["manifest_bytes"],
        parameters=wish.parameters,
        action="remove" if wish.remove else "run",
    )


def _sequence(fleet: Fleet, device: Row, epoch: int) -> int:
    reported: int = device["floor_seq"] if device["floor_epoch"] == epoch else 0
    while (drawn := next(fleet.sequences)) <= reported:
        pass
    return drawn


def _row(wish: Wish, order: Order, envelope: bytes) -> dict[str, Any]:
    return {
        "device": wish.device,
        "epoch": order.epoch,
        "seq": order.seq,
        "execution": wish.execution,
        "model": order.model,
        "version": order.release,
        "digest": order.manifest,
        "envelope": envelope,
        "iat_ms": order.iat_ms,
        "exp_ms": order.exp_ms,
    }


def withdraw(change: Change, device: str) -> None:
    """Nothing is ordered any more: a device that has not read the order never will."""
    last = rollouts.last_order(change.connection, device)
    if last is not None:
        rollouts.withdraw(change.connection, device, last["epoch"], last["seq"], change.now_ms)
        change.publish(topics.desired(device), b"", retain=True)


def live(fleet: Fleet, change: Change, device: str) -> Row | None:
    """The order that a device may take now, renewed where it has expired and its execution waits; None without one."""
    last = rollouts.last_order(change.connection, device)
    if last is None or last["withdrawn_ms"] is not None or not devices.enrolled(change.connection, device):
        return None
    if last["exp_ms"] > change.now_ms:
        return last
    return rollouts.last_order(change.connection, device) if _renewed(fleet, change, last) else None


def republish(fleet: Fleet) -> int:
    """Publish every device's desired state again; returns how many.

    An execution that still waits gets a new order where the former expired, or is of a former director.
    """
    count, epoch = 0, TrustRepository(fleet.home.trust).director().epoch
    with fleet.change() as change:
        for device in rollouts.devices_with_orders(change.connection):
            last = rollouts.last_order(change.connection, device)
            if last is None or last["withdrawn_ms"] is not None or not devices.connects(change.connection, device):
                continue
            count += 1
            holds = last["exp_ms"] > change.now_ms and last["epoch"] == epoch
            if holds or not _renewed(fleet, change, last):
                change.publish(topics.desired(device), last["envelope"], retain=True)
    return count


def _renewed(fleet: Fleet, change: Change, last: Row) -> bool:
    """Order the same anew where the execution still waits for it."""
    execution = rollouts.execution(change.connection, last["device"], last["epoch"], last["seq"])
    artifact = releases.artifact(change.connection, last["digest"])
    if execution is None or execution["ended_ms"] is not None or artifact is None:
        return False
    expired = Order.decode(_payload(last["envelope"]))
    wish = Wish(last["device"], artifact, execution["id"], expired.parameters, expired.action == "remove")
    issue(fleet, change, [wish])
    return True


def _payload(envelope: bytes) -> bytes:
    return dsse.Envelope.decode(envelope, limits.ORDER_BYTES).payload

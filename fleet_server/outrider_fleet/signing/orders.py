"""Signs orders, and remembers what it signed for each device.

1. An order is signed for this fleet, in the director's present epoch, by the key that the director file lists, and not
   dated ahead of the signer's own clock. Its parameters are numbers; which of them an artifact takes, in what range,
   the server and the device check: the signer reads no artifact.
2. For one device the sequence never goes back; the same (epoch, seq) is signed again only with the same payload.
3. Each signature is in the journal before it leaves.
"""

import datetime as dt
import hashlib
from collections.abc import Callable, Sequence
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from outrider_fleet.signing.errors import OrderRefusedError
from outrider_fleet.signing.journal import Entry, Journal
from outrider_protocol import dsse, signing
from outrider_protocol.director import Director
from outrider_protocol.order import Order

AHEAD_MS: Final = 5 * 60 * 1000
Last = tuple[int, int, str]


class OrderSigner:
    """Asks `key_of` for the director's key; remembers the last (epoch, seq, payload hash) signed for each device."""

    def __init__(
        self, key_of: Callable[[Director], Ed25519PrivateKey | None], journal: Journal, past: Sequence[Entry]
    ) -> None:
        self._key_of, self._journal = key_of, journal
        self._last = _replay(past)

    def sign(self, orders: Sequence[Order], director: Director, now: dt.datetime) -> list[bytes]:
        """Return one envelope an order, or refuse them all with `OrderRefusedError`."""
        now_ms = int(now.timestamp() * 1000)
        key = self._key_of(director)
        if key is None:
            raise OrderRefusedError("the director file does not list this signer's key")
        key_id = dsse.key_id(signing.public_bytes(key))
        last, entries = dict(self._last), []
        for order in orders:
            _check(order, director, now_ms)
            payload_sha256 = hashlib.sha256(order.encode()).hexdigest()
            _check_sequence(order, payload_sha256, last.get(order.aud.device, (0, 0, "")))
            last[order.aud.device] = (order.epoch, order.seq, payload_sha256)
            entries.append({**_entry(order, payload_sha256, now_ms), "keyid": key_id})
        envelopes = [signing.sign_order(order, [key]) for order in orders]
        self._journal.append(entries)
        self._last = last
        return envelopes


def _check(order: Order, director: Director, now_ms: int) -> None:
    if (order.fleet, order.epoch) != (director.fleet, director.epoch):
        raise OrderRefusedError(
            f"order for fleet {order.fleet!r} epoch {order.epoch}, the director serves {director.fleet!r} "
            f"in epoch {director.epoch}"
        )
    if order.iat_ms > now_ms + AHEAD_MS:
        raise OrderRefusedError(f"order dated {(order.iat_ms - now_ms) // 1000} s ahead of the signer's clock")


def _entry(order: Order, payload_sha256: str, now_ms: int) -> Entry:
    return {
        "at_ms": now_ms,
        "kind": "order",
        "device": order.aud.device,
        "epoch": order.epoch,
        "seq": order.seq,
        "payload_sha256": payload_sha256,
        "model": order.model,
        "release": order.release,
    }


def _check_sequence(order: Order, payload_sha256: str, last: Last) -> None:
    epoch, seq, signed = last
    if (order.epoch, order.seq) < (epoch, seq):
        raise OrderRefusedError(f"{order.aud.device}: {order.epoch}/{order.seq} after {epoch}/{seq}")
    if (order.epoch, order.seq) == (epoch, seq) and payload_sha256 != signed:
        raise OrderRefusedError(f"{order.aud.device}: {epoch}/{seq} was signed with another payload")


def _replay(entries: Sequence[Entry]) -> dict[str, Last]:
    last: dict[str, Last] = {}
    for entry in entries:
        if entry["kind"] == "order":
            last[entry["device"]] = (entry["epoch"], entry["seq"], entry["payload_sha256"])
    return last

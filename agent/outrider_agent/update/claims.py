"""What an order's envelope says before any of it is believed: it chooses what to fetch, and names a refusal."""

from __future__ import annotations

from typing import Any

from outrider_protocol import dsse, limits
from outrider_protocol.errors import TooLargeError
from outrider_protocol.order import Order


def claimed_order(envelope: bytes) -> Order:
    """The unverified order; raises `TooLargeError` before parsing, or `MalformedError`."""
    if len(envelope) > limits.ORDER_BYTES:
        raise TooLargeError("order", len(envelope), limits.ORDER_BYTES)
    return Order.decode(dsse.Envelope.decode(envelope, limits.ORDER_BYTES).payload)


def claim(order: Order) -> dict[str, Any]:
    """How a refused order is named in a report."""
    return {
        "epoch": order.epoch,
        "seq": order.seq,
        "model": order.model,
        "release": order.release,
        "digest": order.manifest,
    }

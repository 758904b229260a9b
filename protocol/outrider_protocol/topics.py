"""MQTT topics of version 1 (`o1`), built and parsed in one place.

1. A device's topics carry its shard; `parse` refuses a wrong one.
2. Blob chunks and trust metadata are the same topics for every device.

>>> desired("dev-1")
'o1/03/dev-1/dn/desired'
>>> parse("o1/03/dev-1/up/bulk")
('dev-1', 'bulk')
"""

from __future__ import annotations

from typing import Final

from outrider_protocol.errors import MalformedError
from outrider_protocol.ids import device_id, model_name, shard

ROOT: Final = "o1"
TRUST_ONLINE: Final = "o1/trust/online"
ALL_UP: Final = "o1/+/+/up/#"
UP_LEAVES: Final = frozenset({"presence", "state", "bulk", "event", "renew"})


def desired(device: str) -> str:
    """Retained: the full signed order."""
    return _down(device, "desired")


def ack(device: str) -> str:
    """Server: committed up to this sequence of this stream."""
    return _down(device, "ack")


def certificate(device: str) -> str:
    """Server: the answer to `renew`."""
    return _down(device, "certificate")


def renew(device: str) -> str:
    """A request for the next certificate."""
    return up(device, "renew")


def presence(device: str) -> str:
    """Retained {session, online}; also the last will."""
    return up(device, "presence")


def state(device: str) -> str:
    """Reported state."""
    return up(device, "state")


def bulk(device: str) -> str:
    """Telemetry batches."""
    return up(device, "bulk")


def event(device: str) -> str:
    """Rollout and drift events, never dropped."""
    return up(device, "event")


def up(device: str, leaf: str) -> str:
    """Any upward topic of a device."""
    return f"{ROOT}/{shard(device)}/{device_id(device)}/up/{leaf}"


def _down(device: str, leaf: str) -> str:
    return f"{ROOT}/{shard(device)}/{device_id(device)}/dn/{leaf}"


def all_down(device: str) -> str:
    """The filter of everything the server sends to one device."""
    return _down(device, "#")


def trust_root(number: int) -> str:
    """TUF root metadata, version `number`."""
    return f"{ROOT}/trust/roots/{number}"


def trust_model(model: str) -> str:
    """The delegated targets role of one model."""
    return f"{ROOT}/trust/{model_name(model)}"


def blob(hex_digest: str, number: int) -> str:
    """Chunk `number` (from 0) of the blob with this digest."""
    return f"{ROOT}/blob/{hex_digest}/{number}"


def parse(topic: str) -> tuple[str, str]:
    """Return (device, leaf) of an upward topic; `MalformedError` for any other or a wrong shard."""
    parts = topic.split("/")
    if len(parts) != 5 or parts[0] != ROOT or parts[3] != "up" or parts[4] not in UP_LEAVES:
        raise MalformedError(f"{topic[:200]!r} is not an upward topic of a device")
    device = device_id(parts[2])
    if parts[1] != shard(device):
        raise MalformedError(f"{topic}: {device} belongs to shard {shard(device)}")
    return device, parts[4]

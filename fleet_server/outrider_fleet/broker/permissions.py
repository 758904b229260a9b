"""What each client may publish and subscribe, as NATS subjects; pure.

1. A device reaches its own topics, and reads blobs and trust metadata; nothing else.
2. `_fleet` writes downwards, blobs and trust, and reads what devices send; it may delete a presence that is retained.
3. Nobody reads another's topics, nobody but `_fleet` writes downwards.

>>> permissions("dev-1").publish
('o1.03.dev-1.up.>',)
"""

from dataclasses import dataclass
from typing import Final

from outrider_fleet.pki.ca import FLEET_NAME
from outrider_protocol import ids, topics


@dataclass(frozen=True)
class Permissions:
    """Allowed subjects; everything else is denied."""

    publish: tuple[str, ...]
    subscribe: tuple[str, ...]


_O: Final = topics.ROOT
FLEET: Final = Permissions(
    publish=(f"{_O}.*.*.dn.>", f"{_O}.*.*.up.presence", f"{_O}.blob.>", f"{_O}.trust.>"),
    subscribe=(f"{_O}.*.*.up.>", f"{_O}.*.*.up", f"{_O}.blob.>"),
)


def permissions(client: str) -> Permissions:
    """Permissions of `_fleet` or of a device; raises `MalformedError` for any other name."""
    return FLEET if client == FLEET_NAME else _of_device(ids.device_id(client))


def _of_device(device: str) -> Permissions:
    own = f"{_O}.{ids.shard(device)}.{device}"
    return Permissions(
        publish=(f"{own}.up.>",),
        # A filter that ends in `#` needs its parent too.
        subscribe=(f"{own}.dn.>", f"{own}.dn", f"{_O}.blob.*.*", f"{_O}.trust.>", f"{_O}.trust"),
    )

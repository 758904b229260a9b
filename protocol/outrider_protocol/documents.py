"""Trust documents by name, and the folder that carries a release and its orders without a network.

1. A document has one name and the same bytes wherever it comes from: a retained topic, HTTP, or a folder.
2. A folder holds `outrider-air-gap.json`, `trust/<document>`, `orders/<device>.json` and `blobs/sha256/<hex digest>`.
3. Nothing in a folder is believed because it is there: a device holds all of it against what it trusts already.

    trust document          topic                   HTTP                            folder
    online.json             o1/trust/online         /api/v1/trust/online.json       trust/online.json
    <n>.root.json           o1/trust/roots/<n>      /api/v1/trust/<n>.root.json     trust/<n>.root.json
    <model>.json            o1/trust/<model>        /api/v1/trust/<model>.json      trust/<model>.json

>>> topic_of("3.root.json"), topic_of("har.json"), topic_of("online.json")
('o1/trust/roots/3', 'o1/trust/har', 'o1/trust/online')
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Final

from outrider_protocol import canonical, ids, limits, topics
from outrider_protocol.fields import VERSION, Fields
from outrider_protocol.manifest import BLOBS

ONLINE: Final = "online.json"
SUFFIX: Final = ".json"
_ROOT: Final = ".root.json"

FOLDER_FILE: Final = "outrider-air-gap.json"
TRUST: Final = "trust"
ORDERS: Final = "orders"


def root(number: int) -> str:
    """The name of root metadata, version `number`."""
    return f"{number}{_ROOT}"


def role(model: str) -> str:
    """The name of one model's delegated targets role."""
    return ids.model_name(model) + SUFFIX


def root_number(name: str) -> int | None:
    """Which root a document is; None for any other document."""
    number = name.removesuffix(_ROOT)
    return int(number) if name.endswith(_ROOT) and number.isascii() and number.isdigit() and len(number) < 10 else None


def topic_of(name: str) -> str:
    """The retained topic of a document; raises `MalformedError` where there is none."""
    number = root_number(name)
    if number is not None:
        return topics.trust_root(number)
    return topics.TRUST_ONLINE if name == ONLINE else topics.trust_model(name.removesuffix(SUFFIX))


def trust_path(name: str) -> str:
    """Where a document lies in a folder."""
    return f"{TRUST}/{name}"


def order_path(device: str) -> str:
    """Where one device's order lies in a folder."""
    return f"{ORDERS}/{ids.device_id(device)}{SUFFIX}"


def blob_path(hex_digest: str) -> str:
    """Where a blob lies in a folder, as in an OCI layout."""
    return f"{BLOBS}/{hex_digest}"


@dataclass(frozen=True)
class AirGap:
    """`outrider-air-gap.json`: what a folder says of itself, for people; `devices` have an order in it."""

    fleet: str
    made_ms: int
    devices: tuple[str, ...]

    def encode(self) -> bytes:
        """Canonical bytes."""
        return canonical.encode({"v": VERSION, **asdict(self)})

    @classmethod
    def decode(cls, data: bytes) -> AirGap:
        """Parse; nothing in it is trusted. Raises `MalformedError`."""
        fields = Fields(canonical.decode(data, limits.INDEX_BYTES, FOLDER_FILE), FOLDER_FILE)
        fields.versioned(frozenset(cls.__dataclass_fields__) | {"v"})
        devices = tuple(map(ids.device_id, fields.texts("devices")))
        return cls(fields.text("fleet"), fields.integer("made_ms"), devices)

"""Who attacks: the broker in hand, a named set of keys, and nothing else.

1. Any bytes may be published on any topic, and everything that was ever published is known.
2. Only keys that are held sign; one that is not held is a fault in the test. An own key signs as well: nobody lists it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tuf.api.metadata import Metadata, MetaFile, Root, Snapshot, Targets, Timestamp

from outrider_protocol import documents, ids, signing, topics
from outrider_protocol.messages import TrustOnline
from outrider_protocol.order import TYPE, Order
from tests.agent.supervisor.house import PROFILE
from tests.agent.supervisor.world import World

Role = TypeVar("Role", Root, Targets, Snapshot, Timestamp)
NOTHING: Final[frozenset[str]] = frozenset()
ONLINE: Final = frozenset({"snapshot", "timestamp"})
SERVER: Final = ONLINE | {"director"}
OWN: Final = "own"
KINDS: Final = {"timestamp": Timestamp, "snapshot": Snapshot, "targets": Targets}
FOREIGN: Final = b'{"a manifest":"of the attacker"}'


@dataclass(frozen=True)
class Offer:
    """Trust documents as they stand on the broker, topic → bytes; changed copies of it are what attacks are made of."""

    messages: dict[str, bytes]

    @property
    def online(self) -> TrustOnline:
        """The document that changes often."""
        return TrustOnline.decode(self.messages[topics.TRUST_ONLINE])

    def with_online(self, **changes: Any) -> Offer:
        """Other fields in `online.json`."""
        return self.with_message(topics.TRUST_ONLINE, replace(self.online, **changes).encode())

    def with_file(self, name: str, text: str) -> Offer:
        """Another fleet file."""
        return self.with_online(files={**self.online.files, name: text})

    def with_message(self, topic: str, data: bytes) -> Offer:
        """Other bytes on a topic."""
        return Offer({**self.messages, topic: data})

    def with_root(self, number: int, data: bytes) -> Offer:
        """Another root, which `online.json` names as the newest."""
        return self.with_message(topics.trust_root(number), data).with_online(root_version=number)

    def without(self, topic: str) -> Offer:
        """A document held back."""
        return Offer({name: data for name, data in self.messages.items() if name != topic})

    def role(self, kind: type[Role], name: str) -> Role:
        """A copy of one role, to be changed and signed anew."""
        text = self.messages[topics.trust_model(name)] if name not in KINDS else getattr(self.online, name).encode()
        metadata: Metadata[Role] = Metadata.from_bytes(text)
        return metadata.signed


@dataclass
class Keyring:
    """Keys that were stolen, by their names, and `own`, which nobody lists."""

    stolen: dict[str, Ed25519PrivateKey]
    own: Ed25519PrivateKey = field(default_factory=signing.generate, kw_only=True)

    def key(self, name: str) -> Ed25519PrivateKey:
        """One that is held."""
        if name == OWN:
            return self.own
        assert name in self.stolen, f"this attacker does not hold {name!r}, only {sorted(self.stolen)}"
        return self.stolen[name]

    def sign(self, role: Root | Targets | Snapshot | Timestamp, *names: str) -> bytes:
        """A role's file."""
        return signing.sign_role(role, [self.key(name) for name in names])

    def envelope(self, payload: bytes, *names: str, kind: str = TYPE) -> bytes:
        """Any payload as an order."""
        return signing.sign_envelope(kind, payload, [self.key(name) for name in names])

    def order(self, order: Order, *names: str) -> bytes:
        """An order."""
        return self.envelope(order.encode(), *names)

    def pin(
        self, offer: Offer, *, timestamp: str = "timestamp", snapshot: str = "snapshot", **meta: int | None
    ) -> Offer:
        """New snapshot and timestamp that list these versions (`None`: no longer); by those keys."""
        listed = offer.role(Snapshot, "snapshot")
        listed.version += 1
        for name, version in meta.items():
            listed.meta.pop(f"{name}.json", None)
            if version is not None:
                listed.meta[f"{name}.json"] = MetaFile(version)
        signed = offer.with_online(snapshot=self.sign(listed, snapshot).decode())
        return signed.with_online(timestamp=self.sign(self.stamp(signed, listed.version), timestamp).decode())

    def stamp(self, offer: Offer, snapshot: int) -> Timestamp:
        """The next timestamp, which names a version of the snapshot; not signed yet."""
        role = offer.role(Timestamp, "timestamp")
        role.version += 1
        role.snapshot_meta = MetaFile(snapshot)
        return role


@dataclass
class Attacker(Keyring):
    """Holds the broker of a world as well."""

    world: World

    @classmethod
    def of(cls, world: World, held: frozenset[str]) -> Attacker:
        """One with a copy of these keys, as they are now."""
        return cls({name: world.trust.keys[name] for name in held}, world)

    def publish(self, offer: Offer) -> None:
        """Put it on the broker; what it lacks is taken away."""
        gone = {topic: b"" for topic in self.world.offered[-1] if topic not in offer.messages}
        self.world.server.publish({**gone, **offer.messages})

    def release(self, version: str, encoded: bytes = FOREIGN, counter: int = 9, model: str = "har") -> None:
        """List any artifact under a version, as pipeline and online keys together can."""
        for name in ("pipeline", "snapshot", "timestamp"):
            self.key(name)
        self.world.trust.release(ids.target_path(model, version, PROFILE), encoded, counter)
        self.world.publish()


Forge = Callable[[Attacker, Offer], Offer]


def newest_root(offer: Offer) -> Root:
    """A copy of the newest root, one version on."""
    names = {topic: documents.root(int(topic.rsplit("/", 1)[1])) for topic in offer.messages if "/roots/" in topic}
    last = max(names, key=lambda topic: documents.root_number(names[topic]) or 0)
    root: Root = Metadata[Root].from_bytes(offer.messages[last]).signed
    root.version += 1
    return root


def now_ms() -> int:
    """The attacker's clock is right."""
    return time.time_ns() // 1_000_000

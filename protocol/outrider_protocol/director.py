"""`fleet/director.json` and `fleet/floors.json`: targets of the top-level targets role.

1. They are believed only when their length and hash stand in verified targets metadata.
2. A new epoch resets the sequence of orders; with `reset_time_floor` also a poisoned time floor.
3. `min_counter` per model is the lowest release counter a device may run.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Final

from outrider_protocol import canonical, dsse, ids, limits
from outrider_protocol.errors import MalformedError
from outrider_protocol.fields import VERSION, Fields

DIRECTOR_TARGET: Final = "fleet/director.json"
FLOORS_TARGET: Final = "fleet/floors.json"


@dataclass(frozen=True)
class Director:
    """Who may sign orders for `fleet`, in which epoch; `keys` are hex raw Ed25519 public keys."""

    fleet: str
    epoch: int
    keys: tuple[str, ...]
    reset_time_floor: bool = False

    def encode(self) -> bytes:
        """The canonical bytes: what the targets metadata hashes."""
        return canonical.encode({"v": VERSION, **asdict(self)})

    @classmethod
    def decode(cls, data: bytes) -> Director:
        """Parse a file whose hash was verified."""
        fields = Fields(canonical.decode(data, limits.DIRECTOR_BYTES, "director"), "director")
        fields.versioned(frozenset({"v", "fleet", "epoch", "keys", "reset_time_floor"}))
        keys = fields.texts("keys")
        if not keys:
            raise MalformedError("director.keys: at least one key is needed")
        return cls(fields.text("fleet"), fields.integer("epoch", low=1), keys, fields.flag("reset_time_floor"))

    def public_keys(self) -> dict[str, bytes]:
        """Key id → raw public key, as `dsse.verify` takes it."""
        return {dsse.key_id(public): public for public in map(_public, self.keys)}


@dataclass(frozen=True)
class Floors:
    """The lowest release counter of each model."""

    min_counter: dict[str, int] = field(default_factory=dict)

    def encode(self) -> bytes:
        """The canonical bytes: what the targets metadata hashes."""
        return canonical.encode({"v": VERSION, "min_counter": self.min_counter})

    @classmethod
    def decode(cls, data: bytes) -> Floors:
        """Parse a file whose hash was verified."""
        fields = Fields(canonical.decode(data, limits.DIRECTOR_BYTES, "floors"), "floors")
        counters = fields.versioned(frozenset({"v", "min_counter"})).integers("min_counter")
        return cls({ids.model_name(model): counter for model, counter in counters.items()})


def _public(text: str) -> bytes:
    try:
        public = bytes.fromhex(text)
    except ValueError as error:
        raise MalformedError(f"director.keys: {error}") from error
    if len(public) != 32:
        raise MalformedError("director.keys: an Ed25519 public key has 32 bytes")
    return public

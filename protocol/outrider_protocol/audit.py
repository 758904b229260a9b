"""The audit log's form: entries in a chain of hashes, signed heads, and the keys that sign them; pure.

1. An entry holds the hash of the one before it; its own is the SHA-256 of its canonical bytes.
2. A head says how far the chain had come. It is a DSSE envelope of type `HEAD_TYPE`, signed by a key of
   `fleet/audit.json`, a target of the top-level targets role.
3. Whoever knows one head can tell every earlier entry that was changed, removed, moved or inserted.
4. A head names what was given up: where a restored backup cut the log, the lost end stays visible.

>>> first = Entry(1, 0, "cli:eve", None, "token.create", "viewer:x", None, None, START.hash)
>>> follow(START, first).seq
1
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Final

from outrider_protocol import canonical, dsse, limits
from outrider_protocol.errors import ChainError, MalformedError
from outrider_protocol.fields import VERSION, Fields

AUDIT_TARGET: Final = "fleet/audit.json"
HEAD_TYPE: Final = "application/vnd.outrider.audit-head.v1+json"
ABANDONED: Final = 100


@dataclass(frozen=True)
class Link:
    """A point of the chain: the sequence and hash of its last entry."""

    seq: int
    hash: str


START: Final = Link(0, "0" * 64)


@dataclass(frozen=True)
class Entry:
    """Who did what, when. `token` is the id of the token that was shown, `request_sha256` what was asked for."""

    seq: int
    at_ms: int
    actor: str
    token: str | None
    action: str
    object: str
    request_sha256: str | None
    detail: dict[str, Any] | None
    prev: str

    def encode(self) -> bytes:
        """The canonical bytes: what the hash is of."""
        return canonical.encode({"v": VERSION, **{name: getattr(self, name) for name in _FIELDS}})

    @cached_property
    def link(self) -> Link:
        """The chain's point after this entry."""
        return Link(self.seq, hashlib.sha256(self.encode()).hexdigest())

    @classmethod
    def decode(cls, data: bytes) -> Entry:
        """Read canonical bytes; raises `MalformedError`."""
        fields = Fields(canonical.decode(data, limits.AUDIT_ENTRY_BYTES, "audit entry"), "audit entry")
        detail = fields.versioned(_ENTRY).optional_object("detail")
        entry = cls(
            seq=fields.integer("seq", low=1),
            at_ms=fields.integer("at_ms"),
            actor=fields.text("actor"),
            token=fields.optional_text("token"),
            action=fields.text("action"),
            object=fields.text("object"),
            request_sha256=fields.optional_text("request_sha256"),
            detail=detail.value if detail else None,
            prev=fields.text("prev"),
        )
        if entry.encode() != data:
            raise MalformedError(f"audit entry {entry.seq}: not the canonical form")
        return entry


def follow(last: Link, entry: Entry) -> Link:
    """The point after `entry`, if it follows `last`; raises `ChainError`."""
    if entry.seq != last.seq + 1:
        raise ChainError(f"entry {entry.seq} after {last.seq}")
    if entry.prev != last.hash:
        raise ChainError(f"entry {entry.seq} does not follow entry {last.seq} as it stands here")
    return entry.link


@dataclass(frozen=True)
class Abandoned:
    """A signed end that a restored backup had not: entries after `kept_seq` up to `seq` are lost since `at_ms`."""

    seq: int
    hash: str
    kept_seq: int
    at_ms: int

    def covers(self, head: Head) -> bool:
        """Whether a head was signed for entries that are lost."""
        return head.at_ms <= self.at_ms and head.seq > self.kept_seq


@dataclass(frozen=True)
class Head:
    """What a signed head says: the log of `fleet` had come to `seq` with `hash` at `at_ms`."""

    fleet: str
    seq: int
    hash: str
    at_ms: int
    abandoned: tuple[Abandoned, ...] = ()

    @property
    def link(self) -> Link:
        """The chain's point that it fixes."""
        return Link(self.seq, self.hash)

    def encode(self) -> bytes:
        """The canonical payload of the envelope."""
        return canonical.encode({"v": VERSION, **asdict(self)})

    @classmethod
    def decode(cls, payload: bytes) -> Head:
        """Read a payload whose signature was verified."""
        fields = Fields(canonical.decode(payload, limits.AUDIT_HEAD_BYTES, "audit head"), "audit head")
        fields.versioned(frozenset({"v", *cls.__dataclass_fields__}))
        given_up = tuple(
            Abandoned(item.integer("seq"), item.text("hash"), item.integer("kept_seq"), item.integer("at_ms"))
            for item in fields.objects("abandoned")[:ABANDONED]
        )
        return cls(fields.text("fleet"), fields.integer("seq"), fields.text("hash"), fields.integer("at_ms"), given_up)


@dataclass(frozen=True)
class AuditKeys:
    """Who may sign heads for `fleet`: hex raw Ed25519 public keys, former ones included."""

    fleet: str
    keys: tuple[str, ...]

    def encode(self) -> bytes:
        """The canonical bytes: what the targets metadata hashes."""
        return canonical.encode({"v": VERSION, **asdict(self)})

    @classmethod
    def decode(cls, data: bytes) -> AuditKeys:
        """Read a file whose hash was verified."""
        fields = Fields(canonical.decode(data, limits.DIRECTOR_BYTES, "audit keys"), "audit keys")
        fields.versioned(frozenset({"v", "fleet", "keys"}))
        return cls(fields.text("fleet"), fields.texts("keys"))

    def verify(self, envelope: bytes) -> Head:
        """The head in an envelope; raises `SignatureError` or `MalformedError`."""
        parsed = dsse.Envelope.decode(envelope, limits.AUDIT_HEAD_BYTES)
        head = Head.decode(dsse.verify(parsed, HEAD_TYPE, {dsse.key_id(key): key for key in self._public()}))
        if head.fleet != self.fleet:
            raise ChainError(f"a head of the fleet {head.fleet[:80]!r}, this one is {self.fleet!r}")
        return head

    def _public(self) -> list[bytes]:
        try:
            return [bytes.fromhex(key) for key in self.keys]
        except ValueError as error:
            raise MalformedError(f"audit keys: {error}") from error


_FIELDS: Final = tuple(Entry.__dataclass_fields__)
_ENTRY: Final = frozenset({"v", "crit", *_FIELDS})

"""Names and identifiers, and the one way to write each.

1. A device id is `[a-z0-9-]{1,64}`: a server name such as `_fleet` can never be one.
2. A digest is `sha256:` and 64 lowercase hex digits.
3. A prediction id is `<device>/<outbox id>/<seq>/<index>`: unique for ever, and it says where to look.
4. The shard of a device is the first byte of SHA-256(device id) mod 64, two digits.

>>> shard("dev-1")
'03'
>>> str(PredictionId.parse("dev-1/00112233aabbccdd/5/12"))
'dev-1/00112233aabbccdd/5/12'
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Final

from outrider_protocol import limits
from outrider_protocol.errors import MalformedError

SHARDS: Final = 64
_DEVICE = re.compile(r"[a-z0-9-]{1,64}")
_MODEL = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
_VERSION = re.compile(r"[0-9A-Za-z][0-9A-Za-z.+-]{0,63}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_RESERVED: Final = frozenset({"online", "roots", "root", "targets", "snapshot", "timestamp", "fleet"})
_OUTBOX = re.compile(r"[0-9a-f]{16}")
_DIGITS: Final = len(str(limits.SEQ_MAX))


def _checked(pattern: re.Pattern[str], what: str, value: str) -> str:
    if not pattern.fullmatch(value):
        raise MalformedError(f"{value[:80]!r} is not a {what} ({pattern.pattern})")
    return value


def device_id(value: str) -> str:
    """Return `value` if it is a device id, else raise `MalformedError`."""
    return _checked(_DEVICE, "device id", value)


def model_name(value: str) -> str:
    """Return `value` if it is the name of a model; words that topics use are reserved."""
    if value in _RESERVED:
        raise MalformedError(f"{value!r} is reserved and cannot name a model")
    return _checked(_MODEL, "model name", value)


def profile_name(value: str) -> str:
    """Return `value` if it is the name of a hardware profile."""
    return _checked(_MODEL, "profile name", value)


def version(value: str) -> str:
    """Return `value` if it is a release's version label."""
    return _checked(_VERSION, "version", value)


def digest(value: str) -> str:
    """Return `value` if it is a digest."""
    return _checked(_DIGEST, "digest", value)


def outbox_id(value: str) -> str:
    """Return `value` if it is an outbox id."""
    return _checked(_OUTBOX, "outbox id", value)


def digest_of(data: bytes) -> str:
    """The digest of bytes."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def hex_of(value: str) -> str:
    """The 64 hex digits of a digest."""
    return digest(value)[7:]


def shard(device: str) -> str:
    """The two-digit shard of a device."""
    return f"{hashlib.sha256(device.encode()).digest()[0] % SHARDS:02d}"


def target_path(model: str, label: str, profile: str) -> str:
    """The TUF target name of one artifact."""
    return f"{model_name(model)}/{version(label)}/{profile_name(profile)}"


@dataclass(frozen=True, order=True)
class PredictionId:
    """Where one prediction stands: batch `seq` of an outbox, row `index`."""

    device: str
    outbox_id: str
    seq: int
    index: int

    def __str__(self) -> str:
        return f"{self.device}/{self.outbox_id}/{self.seq}/{self.index}"

    @classmethod
    def parse(cls, text: str) -> PredictionId:
        """Read the written form; `MalformedError` if it is none."""
        parts = text.split("/")
        if len(parts) != 4 or not (_is_number(parts[2]) and _is_number(parts[3])):
            raise MalformedError(f"{text[:120]!r} is not a prediction id (device/outbox/seq/index)")
        return cls(device_id(parts[0]), outbox_id(parts[1]), int(parts[2]), int(parts[3]))


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= _DIGITS and int(text) <= limits.SEQ_MAX

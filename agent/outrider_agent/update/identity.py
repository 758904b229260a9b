"""Who this device is, as enrolment recorded it."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from outrider_agent.errors import NotEnrolledError, StateError
from outrider_protocol import canonical, limits
from outrider_protocol.errors import ProtocolError
from outrider_protocol.fields import VERSION, Fields
from outrider_protocol.trust import Identity

FILE: Final = "identity.json"
ROOT: Final = "root.json"


def encode(identity: Identity) -> bytes:
    """The file's bytes."""
    return canonical.encode({"v": VERSION, **vars(identity)})


def decode(data: bytes) -> Identity:
    """Parse the file's bytes; raises a `ProtocolError`."""
    fields = Fields(canonical.decode(data, limits.CONTROL_BYTES, FILE), FILE)
    return Identity(*(fields.text(name) for name in ("device", "key_sha256", "fleet", "profile")))


def load(directory: Path) -> Identity:
    """Read `identity.json`; raises `NotEnrolledError` or `StateError`."""
    path = directory / FILE
    try:
        return decode(path.read_bytes())
    except FileNotFoundError:
        raise NotEnrolledError(f"{path}: no such file") from None
    except (OSError, ProtocolError) as error:
        raise StateError(f"{path}: {error}") from error

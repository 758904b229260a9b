"""Canonical JSON and the messages written in it."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider_protocol import canonical, messages
from outrider_protocol.errors import MalformedError, TooLargeError, UnsupportedError
from outrider_protocol.fields import finite
from tests.protocol import samples

DOCUMENTS: dict[Any, Any] = {type(m): m for m in (*samples.MESSAGES, samples.ORDER, samples.DIRECTOR, samples.FLOORS)}
KINDS: list[Any] = sorted(DOCUMENTS, key=lambda kind: kind.__name__)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(st.text(max_size=4), JSON, max_size=4))
def test_one_byte_string(value: dict[str, Any]) -> None:
    """PRO-JSON-1: key order does not matter, and decoding gives the value back."""
    backwards = dict(reversed(value.items()))
    assert canonical.encode(value) == canonical.encode(backwards)
    assert canonical.decode(canonical.encode(value), 10**6) == value


def test_not_a_number_is_refused() -> None:
    """PRO-JSON-1: NaN and infinity are written by nobody and read by nobody."""
    with pytest.raises(MalformedError):
        canonical.encode({"x": float("nan")})
    with pytest.raises(MalformedError):
        canonical.decode(b'{"x":NaN}', 100)


def test_limit_before_parsing() -> None:
    """PRO-JSON-2: an oversized document is refused by its length, even when it is no JSON."""
    with pytest.raises(TooLargeError):
        canonical.decode(b"{" * 101, 100)


@pytest.mark.parametrize("data", [b'{"a":1,"a":2}', b"[]", b"1", b"", b"\xff", b'{"a":' * 40 + b"1" + b"}" * 40])
def test_odd_documents_refused(data: bytes) -> None:
    """PRO-JSON-3: duplicates, depth, other types and broken text are refused."""
    with pytest.raises(MalformedError):
        canonical.decode(data, 1000)


def test_unknown_fields() -> None:
    """PRO-JSON-4: a new field is ignored; a new critical field is refused by name."""
    value = canonical.decode(samples.ACK.encode(), 1000)
    assert messages.Ack.decode(canonical.encode({**value, "new": 1})) == samples.ACK
    with pytest.raises(UnsupportedError, match="new"):
        messages.Ack.decode(canonical.encode({**value, "new": 1, "crit": ["new"]}))


@pytest.mark.parametrize("digits", [400, 5000])
def test_numbers_beyond_every_float_are_named(digits: int) -> None:
    """PRO-JSON-6: an integer too long for a float, or for Python's own reader, is refused like any other damage."""
    data = b'{"a":' + b"9" * digits + b"}"
    with pytest.raises(MalformedError):
        finite(canonical.decode(data, 10**6)["a"], "a")


def test_newer_version_is_refused() -> None:
    """PRO-JSON-4: another version is not guessed at."""
    value = canonical.decode(samples.ACK.encode(), 1000)
    with pytest.raises(UnsupportedError, match="version 2"):
        messages.Ack.decode(canonical.encode({**value, "v": 2}))


@pytest.mark.parametrize("message", samples.MESSAGES, ids=lambda m: type(m).__name__)
def test_messages_round_trip(message: Any) -> None:
    """PRO-JSON-5: decode(encode(m)) == m for every message class."""
    assert type(message).decode(message.encode()) == message


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@given(data=st.data())
def test_damage_is_named(kind: Any, data: st.DataObject) -> None:
    """PRO-JSON-6: bytes with one change are read, or refused with a `ProtocolError`."""
    original = DOCUMENTS[kind]
    written = bytearray(original.encode())
    written[data.draw(st.integers(0, len(written) - 1))] = data.draw(st.integers(0, 255))
    samples.read_or_refuse(kind.decode, bytes(written))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@given(data=st.data())
def test_wrong_types_are_named(kind: Any, data: st.DataObject) -> None:
    """PRO-JSON-6: a field of another type is refused by name, never a crash."""
    original = DOCUMENTS[kind]
    value = canonical.decode(original.encode(), 10**6)
    value[data.draw(st.sampled_from(sorted(value)))] = data.draw(JSON)
    samples.read_or_refuse(kind.decode, canonical.encode(value))

"""Tensors and telemetry batches."""

import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider_protocol import limits, telemetry, tensors
from outrider_protocol.errors import MalformedError, TooLargeError
from tests.protocol import samples

SHAPES = st.lists(st.integers(0, 5), max_size=3).map(tuple)
NAMES = st.text(min_size=1, max_size=8)


@st.composite
def one_tensor(draw: st.DrawFn) -> tensors.Tensor:
    shape, dtype = draw(SHAPES), draw(st.sampled_from(sorted(tensors.ITEM_BYTES)))
    size = tensors.ITEM_BYTES[dtype]
    for n in shape:
        size *= n
    return tensors.Tensor(dtype, shape, draw(st.binary(min_size=size, max_size=size)))


@given(st.dictionaries(NAMES, one_tensor(), max_size=4), st.dictionaries(NAMES, st.integers(0, 9), max_size=2))
def test_tensors_round_trip(named: dict[str, tensors.Tensor], meta: dict[str, int]) -> None:
    """PRO-BIN-1: decode(encode(t)) == t."""
    assert tensors.decode(tensors.encode(named, meta), limits.MIB) == (named, meta)


@pytest.mark.parametrize(("dtype", "shape"), [("f4", (3,)), ("f9", (2,)), ("f4", (-2,))])
def test_tensor_must_add_up(dtype: str, shape: tuple[int, ...]) -> None:
    """PRO-BIN-4: eight bytes are two f4, and nothing else."""
    with pytest.raises(MalformedError):
        tensors.encode({"x": tensors.Tensor(dtype, shape, bytes(8))}, {})


@given(st.binary(max_size=5000), st.integers(1, 2**40), st.integers(0, 2**40))
def test_batch_round_trip(data: bytes, step: int, prev: int) -> None:
    """PRO-BIN-1: a batch reads back, compressed or not; PRO-BIN-3: the envelope goes around opaque bytes."""
    body = telemetry.encode_body("samples", {"shape": [1]}, {"x": ("u1", data)})
    batch = telemetry.decode(telemetry.wrap(samples.OUTBOX, "bulk", prev + step, prev, body))
    assert (batch.seq, batch.prev, batch.kind) == (prev + step, prev, "samples")
    assert batch.columns["x"].data == data


def test_prev_must_be_lower() -> None:
    """PRO-BIN-1: a batch that claims to come before itself is refused."""
    with pytest.raises(MalformedError):
        telemetry.decode(telemetry.wrap(samples.OUTBOX, "bulk", 5, 5, samples.BODY))


def test_bomb_is_refused() -> None:
    """PRO-BIN-2: a body that would inflate beyond the limit is refused, not inflated."""
    bomb = b"\x01" + zlib.compress(bytes(2 * limits.BATCH_INFLATED_BYTES), 9)
    with pytest.raises(MalformedError, match="too large"):
        telemetry.decode(telemetry.wrap(samples.OUTBOX, "bulk", 2, 1, bomb))


def test_oversized_batch() -> None:
    """PRO-JSON-2: a batch that no broker would carry is refused on both sides."""
    body = telemetry.encode_body("samples", {}, {"x": ("u1", bytes(range(256)) * 10)})
    with pytest.raises(TooLargeError):
        telemetry.wrap(samples.OUTBOX, "bulk", 2, 1, body + bytes(limits.BATCH_BYTES))
    with pytest.raises(TooLargeError):
        telemetry.decode(bytes(limits.BATCH_BYTES + 1))


@pytest.mark.parametrize("valid", [samples.BATCH, samples.EVENT_BATCH, tensors.encode(*samples.TENSORS)])
@given(data=st.data())
def test_damage_is_named(valid: bytes, data: st.DataObject) -> None:
    """PRO-JSON-6: changed or cut bytes are read or refused with a `ProtocolError`."""
    damaged = bytearray(valid)
    damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    damaged = damaged[: data.draw(st.integers(0, len(damaged)))]
    for read in (telemetry.decode, lambda b: tensors.decode(b, limits.MIB)):
        samples.read_or_refuse(read, bytes(damaged))


def test_huge_header_length() -> None:
    """PRO-BIN-4: a header length beyond the data is refused before anything is allocated."""
    with pytest.raises(MalformedError):
        tensors.decode(tensors.MAGIC + struct.pack("<I", 2**32 - 1), limits.MIB)


def test_event_batch() -> None:
    """PRO-BIN-3: an event travels in the same envelope and reads back."""
    assert telemetry.check_event(telemetry.decode(samples.EVENT_BATCH)) == samples.EVENT

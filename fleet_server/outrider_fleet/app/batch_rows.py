"""Rows of the telemetry batches: what the columns of each kind say. Pure.

1. Columns of one batch have the same length; a sample names a prediction of the same device; a confidence is a number.
2. Values are little-endian.
"""

import math
import struct
from typing import Any, Final

from outrider_protocol import ids
from outrider_protocol.errors import MalformedError
from outrider_protocol.fields import Fields
from outrider_protocol.telemetry import Batch, Column
from outrider_protocol.tensors import ITEM_BYTES

_FORMATS: Final = {"i8": "q", "i4": "i", "i2": "h", "u4": "I", "u1": "B", "f4": "f", "f8": "d"}
Rows = list[dict[str, Any]]


def predictions(device: str, batch: Batch) -> Rows:
    """One row a prediction; raises `MalformedError`."""
    digest = ids.digest(Fields(batch.meta, "predictions").text("digest"))
    at_ms, klass = _values(batch, "at_ms", "i8"), _values(batch, "klass", "i2")
    confidence = _values(batch, "confidence", "f4")
    if not len(at_ms) == len(klass) == len(confidence):
        raise MalformedError("predictions: columns of different lengths")
    if not all(map(math.isfinite, confidence)):
        raise MalformedError("predictions: a confidence is no number")
    key = {"device": device, "outbox_id": batch.outbox_id, "seq": batch.seq, "digest": digest}
    listed = zip(at_ms, klass, confidence, strict=True)
    return [
        {**key, "idx": index, "at_ms": when, "klass": what, "confidence": sure}
        for index, (when, what, sure) in enumerate(listed)
    ]


def windows(device: str, batch: Batch, now_ms: int) -> Rows:
    """One row: the merged counts of a window of records."""
    fields = Fields(batch.meta, "windows")
    row = {
        "device": device,
        "outbox_id": batch.outbox_id,
        "seq": batch.seq,
        "model": ids.model_name(fields.text("model")),
        "digest": ids.digest(fields.text("digest")),
        "n": fields.integer("n"),
        "counts": _column(batch, "counts", "u4").data,
        "class_counts": _column(batch, "class_counts", "u4").data,
        "evidence": fields.number("evidence"),
        "received_ms": now_ms,
    }
    return [row]


def samples(device: str, batch: Batch, now_ms: int) -> Rows:
    """One row a sample; raises `MalformedError`."""
    fields = Fields(batch.meta, "samples")
    named, shape = fields.texts("prediction_ids"), _shape(fields)
    reasons = fields.texts("reason") if "reason" in batch.meta else ("",) * len(named)
    dtype = str(batch.meta.get("dtype", "f4"))
    column = _column(batch, "x", dtype)
    size = math.prod(shape) * ITEM_BYTES[dtype]
    if len(column.data) != size * len(named) or len(reasons) != len(named):
        raise MalformedError(f"samples: {len(column.data)} bytes do not hold {len(named)} of {list(shape)}")
    common = {
        "device": device,
        "model": ids.model_name(fields.text("model")),
        "version": ids.version(fields.text("version")),
        "digest": ids.digest(fields.text("digest")),
        "dtype": dtype,
        "shape": list(shape),
        "received_ms": now_ms,
    }
    return [
        {
            **common,
            "prediction_id": _own(device, name),
            "reason": reasons[n],
            "x": column.data[n * size : (n + 1) * size],
        }
        for n, name in enumerate(named)
    ]


def _own(device: str, prediction_id: str) -> str:
    if ids.PredictionId.parse(prediction_id).device != device:
        raise MalformedError(f"samples: {device} sends a sample of {prediction_id}")
    return prediction_id


def _shape(fields: Fields) -> tuple[int, ...]:
    shape = fields.list("shape")
    if len(shape) > 8 or not all(type(n) is int and 0 < n <= 2**24 for n in shape):
        raise MalformedError("samples.shape: at most eight positive integers")
    return tuple(shape)


def _column(batch: Batch, name: str, dtype: str) -> Column:
    column = batch.columns.get(name)
    if column is None or column.dtype != dtype:
        raise MalformedError(f"{batch.kind}: column {name} of {dtype} is missing")
    return column


def _values(batch: Batch, name: str, dtype: str) -> tuple[Any, ...]:
    column = _column(batch, name, dtype)
    return struct.unpack(f"<{column.count}{_FORMATS[dtype]}", column.data)

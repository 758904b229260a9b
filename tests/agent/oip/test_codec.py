"""Tensors on the wire: docs/spec/local-api.md."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from outrider_agent.oip import codec
from outrider_agent.oip.codec import Signature, read_request, read_response, request_header, write_response
from outrider_agent.worker.errors import MalformedRequestError, RequestError, TensorError
from outrider_protocol.manifest import TensorSpec

DTYPES = sorted(codec.NAMES)
SIGNATURE = Signature((TensorSpec("x", "float32", (-1, 2)),), ("y", "z"))
GOOD: dict[str, Any] = {"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1.5, 2]}]}
IDENTITY = '"model_name":"har","model_version":"1.0"'


def arrays() -> st.SearchStrategy[np.ndarray]:
    shapes = hnp.array_shapes(min_dims=1, max_dims=4, max_side=4)
    return st.sampled_from(DTYPES).flatmap(lambda dtype: hnp.arrays(np.dtype(dtype), shapes))


def sent(request: codec.InferRequest, outputs: dict[str, np.ndarray]) -> tuple[dict[str, Any], dict[str, Any]]:
    parts, header_bytes = write_response(request, IDENTITY, outputs, '{"prediction_id":null}')
    data = b"".join(bytes(part) for part in parts)
    split = header_bytes if header_bytes is not None else len(data)
    return read_response(data[:split], memoryview(data)[split:])


@given(arrays(), arrays())
def test_binary_tensors_round_trip(x: np.ndarray, y: np.ndarray) -> None:
    """AGT-OIP-1: every datatype and shape arrives bit for bit, in both directions."""
    signature = Signature((TensorSpec("x", x.dtype.name, (-1,) * x.ndim),), ("y",))
    request = read_request(request_header({"x": x}), x.nbytes, signature)
    got = request.feeds(memoryview(x.tobytes()))["x"]
    assert (got.dtype, got.shape, got.tobytes()) == (x.dtype, x.shape, x.tobytes())
    outputs, _ = sent(request, {"y": y})
    assert (outputs["y"].dtype, outputs["y"].shape, outputs["y"].tobytes()) == (y.dtype, y.shape, y.tobytes())


@given(hnp.arrays(np.float32, st.tuples(st.integers(1, 4), st.just(2)), elements=st.floats(-1e6, 1e6, width=32)))
def test_json_tensors_round_trip(x: np.ndarray) -> None:
    """AGT-OIP-1: nested or flat JSON lists give the same tensor; answers are JSON unless binary is asked for."""
    for data in (x.tolist(), x.ravel().tolist()):
        entry = {"name": "x", "shape": list(x.shape), "datatype": "FP32", "data": data}
        request = read_request(
            json.dumps({"id": "7", "inputs": [entry], "outputs": [{"name": "z"}]}).encode(), 0, SIGNATURE
        )
        np.testing.assert_array_equal(request.feeds(memoryview(b""))["x"], x)
        outputs, parameters = sent(request, {"z": x, "y": x})
        assert set(outputs) == {"z"}
        np.testing.assert_array_equal(outputs["z"], x)
        assert parameters == {"prediction_id": None}


def test_json_says_null_where_it_has_no_number() -> None:
    """AGT-OIP-1: NaN and infinities become null, so that the answer stays JSON."""
    assert codec.finite_list(np.array([1.0, math.nan, math.inf])) == [1.0, None, None]


def changed(**fields: Any) -> dict[str, Any]:
    return {**GOOD, "inputs": [{**GOOD["inputs"][0], **fields}]}


@pytest.mark.parametrize(
    "document",
    [
        changed(name="w"),
        changed(datatype="FP64"),
        changed(datatype=None),
        changed(shape=[2, 1]),
        changed(shape=[1, 2, 1]),
        changed(shape=[-1, 2]),
        changed(shape=[0, 2], data=[]),
        changed(shape=[True, 2]),
        changed(shape=[2**40, 2]),
        changed(shape="12"),
        changed(data=[1.0]),
        changed(data=["a", "b"]),
        changed(data=None),
        changed(parameters={"binary_data_size": 8}),
        changed(parameters={"binary_data_size": -8}),
        {"inputs": []},
        {"inputs": GOOD["inputs"] * 2},
        {**GOOD, "outputs": [{"name": "nothing"}]},
        {**GOOD, "outputs": [{"name": "y"}, {"name": "y"}]},
    ],
)
def test_tensors_that_do_not_fit_are_refused(document: dict[str, Any]) -> None:
    """AGT-OIP-7: name, datatype, shape and length must be the model's."""
    with pytest.raises(TensorError) as caught:
        read_request(json.dumps(document).encode(), 0, SIGNATURE)
    assert caught.value.hint


@pytest.mark.parametrize(
    "header",
    [b"", b"{", b"[]", b'{"inputs": {}}', b'{"inputs": [1]}', b'{"id": 7, "inputs": []}', b"[" * 100_000, b"\xff"],
)
def test_headers_that_are_not_the_protocols_are_refused(header: bytes) -> None:
    """AGT-OIP-7: what is not a request is a named error."""
    with pytest.raises(RequestError):
        read_request(header, 0, SIGNATURE)
    assert issubclass(MalformedRequestError, RequestError)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(st.sampled_from(["name", "shape", "datatype", "data", "parameters"]), JSON_VALUES)
@example("data", [3.5e38, 1.0])
def test_any_field_is_read_or_refused(field: str, value: Any) -> None:
    """AGT-OIP-7: whatever stands in a field, the error is a `RequestError`."""
    try:
        read_request(json.dumps(changed(**{field: value})).encode(), 0, SIGNATURE)
    except RequestError:
        return


@given(st.integers(0, 64))
def test_binary_length_is_exact(size: int) -> None:
    """AGT-OIP-7: a body is as long as its tensors, not a byte more or less."""
    header = request_header({"x": np.zeros((3, 2), np.float32)})
    if size == 24:
        assert read_request(header, size, SIGNATURE).rows == 3
    else:
        with pytest.raises(TensorError):
            read_request(header, size, SIGNATURE)

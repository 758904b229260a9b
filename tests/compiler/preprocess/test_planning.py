"""From options, data and model to one document, or a usage error: docs/spec/preprocess.md."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from outrider_compiler.data import DataSet
from outrider_compiler.errors import DataError, UsageError
from outrider_compiler.preprocess import options, planning
from outrider_compiler.request import BuildRequest, Preprocessing
from outrider_protocol.manifest import TensorSpec
from outrider_protocol.preprocess import Layout, Normalise, Resize, Scale, Step, Window

IMAGE, SERIES = (8, 6, 3), (50, 4)
FIRST_C, FIRST_C_IMAGE = Layout("NTC", "NCT"), Layout("NHWC", "NCHW")
FOUR, TWICE_THREE = (1.0, 2.0, 3.0, 4.0), ((1.0, 2.0, 3.0), (4.0, 5.0, 6.0))


def data(shape: tuple[int, ...] = IMAGE, dtype: str = "uint8", *names: str) -> DataSet:
    return DataSet({name: np.zeros((5, *shape), dtype) for name in names or ("x",)}, None, "")


@pytest.mark.parametrize(
    ("shape", "words", "steps"),
    [
        (SERIES, {"window": 20}, (Window(20),)),
        (SERIES, {"normalise": "1,2"}, (Normalise((1.0,), (2.0,)),)),
        (SERIES, {"normalise": "0:1:2:3,2"}, (Normalise((0.0, 1.0, 2.0, 3.0), (2.0,), 2),)),
        (SERIES, {"layout": "NTC:NCT", "normalise": "0,1:2:3:4"}, (FIRST_C, Normalise((0.0,), FOUR, 1))),
        (IMAGE, {"layout": "NHWC", "resize": "4x4"}, (Resize(4, 4, "linear", "NHWC"),)),
        (IMAGE, {"layout": "NHWC:NCHW", "resize": "4x4:nearest"}, (Resize(4, 4, "nearest", "NHWC"), FIRST_C_IMAGE)),
        (IMAGE, {"scale": "1/255,-1", "normalise": "1:2:3,4:5:6", "layout": "NHWC:NCHW"},
         (FIRST_C_IMAGE, Scale(1 / 255, -1.0), Normalise(*TWICE_THREE, 1))),
    ],
)  # fmt: skip
def test_options_become_steps(shape: tuple[int, ...], words: dict[str, object], steps: tuple[Step, ...]) -> None:
    """PRE-OPT-1: in the one order; channels are the layout's C, without a layout the last axis."""
    made = planning.document(options.read(**words), data(shape), data(shape))
    assert made is not None
    assert made.raw == TensorSpec("x", "uint8", (-1, *shape))
    assert made.steps == steps


def test_nothing_asked_is_nothing_done() -> None:
    """PRE-OPT-1: without options there is no document, and the importer's example is the data."""
    have = data()
    assert planning.document(Preprocessing(), have, have) is None
    assert planning.example(None, have) is have


@pytest.mark.parametrize(
    ("shape", "words", "said"),
    [
        (SERIES, {"window": 51}, "51 steps of an axis of 50"),
        (SERIES, {"window": 0}, "window"),
        (SERIES, {"window": -3}, "window"),
        (SERIES, {"window": 2, "layout": "NCT:NTC"}, "calls channels"),
        (SERIES, {"resize": "4x4"}, "--resize needs to know the axes"),
        (SERIES, {"resize": "4x4", "layout": "NTC"}, "--resize needs to know the axes"),
        (SERIES, {"resize": "4x4", "layout": "NHWC"}, "resize"),
        (SERIES, {"layout": "NHWC:NCHW"}, "names 4 axes"),
        (SERIES, {"layout": "NHWC", "scale": "2"}, "names 4 axes"),
        (IMAGE, {"layout": "NHWC"}, "changes nothing"),
        (IMAGE, {"layout": "NHWC:NCH"}, "no order of the same letters"),
        (IMAGE, {"layout": "NHWC:NCHX"}, "no order of the same letters"),
        (IMAGE, {"layout": "CHWN:NCHW"}, "stay first"),
        (IMAGE, {"normalise": "1:2,1"}, "2 means"),
        (IMAGE, {"normalise": "0,1:2:3", "layout": "NABD:NDAB"}, "names no channels"),
        (IMAGE, {"scale": "1e-50"}, "zero"),
        (IMAGE, {"resize": "9999x9999", "layout": "NHWC"}, "values a sample"),
    ],
)
def test_contradictions_are_usage_errors(shape: tuple[int, ...], words: dict[str, object], said: str) -> None:
    """PRE-OPT-2: what does not fit the data is a usage error that names the step."""
    with pytest.raises(UsageError, match=said) as caught:
        planning.document(options.read(**words), data(shape), data(shape))
    assert caught.value.hint


def test_several_inputs_need_a_name() -> None:
    """PRE-OPT-2: which of several inputs is meant must be said, and must exist; a name without a step is wrong."""
    two = data(SERIES, "int16", "left", "right")
    made = planning.document(options.read(scale="2", preprocess_input="right"), two, two)
    assert made is not None
    assert made.raw.name == "right"
    for words in ({"scale": "2"}, {"scale": "2", "preprocess_input": "middle"}):
        with pytest.raises(UsageError, match="which input"):
            planning.document(options.read(**words), two, two)
    with pytest.raises(UsageError, match="nothing is asked"):
        request(Preprocessing(input="right")).check()


def request(asked: Preprocessing) -> BuildRequest:
    nowhere = Path("none.npz")
    return BuildRequest("m.onnx", "m", "1", 1, ("x86-64",), nowhere, nowhere, Path("out"), preprocess=asked)


@pytest.mark.parametrize(
    ("calibration", "evaluation", "said"),
    [
        (data(dtype="uint8"), data(dtype="float32"), "evaluation set holds"),
        (data(dtype="uint8"), data((8, 7, 3)), "evaluation set holds"),
        (data(dtype="uint8"), data(IMAGE, "uint8", "z"), "evaluation set holds"),
        (data(dtype="int64"), data(dtype="int64"), "int64"),
        (data(dtype="bool"), data(dtype="bool"), "bool"),
    ],
)
def test_raw_data_has_one_type_and_shape(calibration: DataSet, evaluation: DataSet, said: str) -> None:
    """PRE-OPT-3: both sets hold the same raw dtype and shape, one that devices take."""
    with pytest.raises(DataError, match=said) as caught:
        planning.document(options.read(scale="2"), calibration, evaluation)
    assert caught.value.hint


def test_float64_data_is_float32_on_the_device() -> None:
    """PRE-OPT-3: numpy's own float64 counts as float32, as it does without preprocessing."""
    made = planning.document(options.read(scale="2"), data(SERIES, "float64"), data(SERIES, "float32"))
    assert made is not None
    assert made.raw.dtype == "float32"


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        ((TensorSpec("x", "float32", (-1, 3, 8)),), r"gives \[-1, 3, 8, 6\]"),
        ((TensorSpec("x", "float32", (-1, 3, 6, 8)),), r"takes \[-1, 3, 6, 8\]"),
        ((TensorSpec("x", "int32", (-1, 3, 8, 6)),), "takes int32"),
        ((TensorSpec("l", "float32", (-1, 3, 8, 6)), TensorSpec("r", "float32", (-1, 2))), "no input 'x'"),
    ],
    ids=["rank", "shape", "dtype", "name"],
)
def test_contradictions_with_the_model_are_usage_errors(inputs: tuple[TensorSpec, ...], said: str) -> None:
    """PRE-OPT-2: rank, shape, type and name are held against the model before anything is built."""
    asked = planning.document(options.read(layout="NHWC:NCHW"), data(), data())
    assert asked is not None
    with pytest.raises(UsageError, match=said) as caught:
        planning.bound(asked, inputs, None)
    assert caught.value.exit_code == 2
    assert caught.value.hint


def test_the_model_s_own_name_of_the_input() -> None:
    """PRE-OPT-1: a lone x is the model's lone input, whatever its name; a name that was given must be the model's."""
    asked = planning.document(options.read(layout="NHWC:NCHW", preprocess_input="image"), data(), data())
    assert asked is not None
    inputs = (TensorSpec("image", "float32", (-1, 3, -1, -1)),)
    for name in (None, "image"):
        assert planning.bound(asked, inputs, name).raw == TensorSpec("image", "uint8", (-1, 8, 6, 3))
    with pytest.raises(UsageError, match="no input 'img'"):
        planning.bound(asked, inputs, "img")


def test_importers_trace_prepared_samples() -> None:
    """PRE-LAY-1: a module is exported with what it will be given."""
    asked = planning.document(options.read(layout="NHWC:NCHW", scale="2"), data(), data())
    assert planning.example(asked, data()).feeds["x"].shape == (5, 3, 8, 6)
    assert planning.example(asked, data()).feeds["x"].dtype == np.float32

"""The `preprocess` document: docs/spec/preprocess.md."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider_protocol import canonical, limits
from outrider_protocol.errors import MalformedError, UnsupportedError
from outrider_protocol.manifest import TensorSpec
from outrider_protocol.preprocess import Layout, Normalise, Preprocess, Resize, Scale, Step, Window
from tests.protocol import samples
from tests.protocol.documents import preprocesses

IMAGE = TensorSpec("x", "uint8", (-1, 8, 6, 3))
SERIES = TensorSpec("x", "float32", (-1, 20, 4))


@given(preprocesses())
def test_documents_round_trip(document: Preprocess) -> None:
    """PRE-DOC-1: decode(encode(d)) == d, and the bytes are the same again."""
    assert Preprocess.decode(document.encode()) == document
    assert Preprocess.decode(document.encode()).encode() == document.encode()


def changed(**changes: Any) -> bytes:
    return canonical.encode({**canonical.decode(samples.PREPROCESS.encode(), 10**6), **changes})


def test_unknown_fields_of_the_document() -> None:
    """PRE-DOC-2: a new field beside the steps is ignored, a critical one and another version are refused."""
    assert Preprocess.decode(changed(note="new")) == samples.PREPROCESS
    for changes in ({"note": "new", "crit": ["note"]}, {"v": 2}):
        with pytest.raises(UnsupportedError):
            Preprocess.decode(changed(**changes))


@pytest.mark.parametrize(
    ("step", "said"),
    [({"step": "blur", "radius": 2}, "blur"), ({"step": "scale", "factor": 2, "offset": 0, "gamma": 2.2}, "gamma")],
)
def test_unknown_steps_are_refused(step: dict[str, Any], said: str) -> None:
    """PRE-DOC-2: an unknown step, or an unknown field of a step, would change every answer: refused by name."""
    with pytest.raises(UnsupportedError, match=said) as caught:
        Preprocess.decode(changed(steps=[step]))
    assert caught.value.hint


@pytest.mark.parametrize(
    "steps",
    [(), (Scale(2.0), Scale(3.0)), (Scale(2.0), Window(3)), (Normalise((0.0,), (1.0,)), Layout("NTC", "NCT"))],
    ids=["none", "twice", "late window", "late layout"],
)
def test_steps_have_one_order(steps: tuple[Step, ...]) -> None:
    """PRE-DOC-3: at least one step, each at most once, in the order of application."""
    with pytest.raises(MalformedError, match="each once, in the order"):
        Preprocess(SERIES, steps)


@pytest.mark.parametrize(
    ("raw", "steps", "said"),
    [
        (SERIES, (Window(21),), "window: 21 steps of an axis of 20"),
        (SERIES, (Window(0),), "window"),
        (SERIES, (Resize(4, 4),), "resize"),
        (IMAGE, (Resize(0, 4),), "resize"),
        (IMAGE, (Resize(4, 4, "cubic"),), "cubic"),
        (IMAGE, (Resize(4, 4, "linear", "NWHC"),), "NWHC"),
        (IMAGE, (Resize(5000, 5000),), "values a sample"),
        (IMAGE, (Resize(4, 4, "linear", "NCHW"), Layout("NHWC", "NCHW")), "resize of NCHW"),
        (IMAGE, (Layout("NTC", "NCT"),), "names 3 axes"),
        (IMAGE, (Layout("NHWC", "NCH"),), "no order of the same letters"),
        (IMAGE, (Layout("NHHC", "NHHC"),), "no order of the same letters"),
        (IMAGE, (Layout("NHWC", "CHWN"),), "stay first"),
        (IMAGE, (Scale(0.0),), "zero"),
        (IMAGE, (Scale(1e-60),), "zero"),
        (IMAGE, (Scale(1e60),), "float32"),
        (IMAGE, (Scale(float("nan")),), "finite"),
        (IMAGE, (Scale(1.0, float("inf")),), "finite"),
        (IMAGE, (Normalise((0.0,), (0.0,)),), "not positive"),
        (IMAGE, (Normalise((0.0,), (-1.0,)),), "not positive"),
        (IMAGE, (Normalise((0.0, 0.0), (1.0,), 3),), "2 means"),
        (IMAGE, (Normalise((0.0,) * 3, (1.0,)),), "axis None"),
        (IMAGE, (Normalise((0.0,), (1.0,), 4),), "axis 4"),
        (IMAGE, (Normalise((0.0,), (1.0,), 0),), "axis 0"),
        (TensorSpec("x", "int64", (-1, 4)), (Scale(2.0),), "int64"),
        (TensorSpec("", "uint8", (-1, 4)), (Scale(2.0),), "a name"),
        (TensorSpec("x", "uint8", (2, 4)), (Scale(2.0),), "−1"),
        (TensorSpec("x", "uint8", (-1, -1)), (Scale(2.0),), "−1"),
        (TensorSpec("x", "uint8", (-1,)), (Scale(2.0),), "−1"),
        (TensorSpec("x", "uint8", (-1, limits.SAMPLE_VALUES + 1)), (Scale(2.0),), "raw input"),
    ],
)
def test_what_does_not_fit_is_refused(raw: TensorSpec, steps: tuple[Step, ...], said: str) -> None:
    """PRE-DOC-4: a step that does not fit, or a number that float32 cannot hold, is refused by the step's name."""
    with pytest.raises(MalformedError, match=said):
        Preprocess(raw, steps)


def test_too_many_channels_are_refused() -> None:
    """PRE-DOC-4: a normalisation has a limit of channels, read or made."""
    count = limits.PREPROCESS_CHANNELS + 1
    with pytest.raises(MalformedError):
        Preprocess(TensorSpec("x", "float32", (-1, count)), (Normalise((0.0,) * count, (1.0,), 1),))
    with pytest.raises(MalformedError, match="mean"):
        Preprocess.decode(changed(steps=[{"step": "normalise", "mean": [0] * count, "std": [1], "axis": 1}]))


@given(data=st.data())
def test_damage_is_named(data: st.DataObject) -> None:
    """PRE-DOC-4: bytes with one change are read, or refused with a `ProtocolError`."""
    written = bytearray(data.draw(st.sampled_from([samples.PREPROCESS.encode(), EVERY_STEP.encode()])))
    written[data.draw(st.integers(0, len(written) - 1))] = data.draw(st.integers(0, 255))
    samples.read_or_refuse(Preprocess.decode, bytes(written))


EVERY_STEP = Preprocess(
    IMAGE,
    (Window(8), Resize(4, 4), Layout("NHWC", "NCHW"), Scale(0.5, 1.0), Normalise((1.0, 2.0, 3.0), (1.0,), 1)),
)


@pytest.mark.parametrize("field", ["length", "height", "mode", "layout", "source", "factor", "mean", "std", "axis"])
@pytest.mark.parametrize("value", [None, True, "x", -1, 10**400, [], {}, [None]], ids=repr)
def test_wrong_types_are_named(field: str, value: Any) -> None:
    """PRE-DOC-4: a field of another type is read or refused with a `ProtocolError`, never a crash."""
    document = canonical.decode(EVERY_STEP.encode(), 10**6)
    for step in document["steps"]:
        if field in step:
            step[field] = value
    samples.read_or_refuse(Preprocess.decode, canonical.encode(document))


def test_reading_loads_no_numpy() -> None:
    """PRE-RUN-4: a process that only reads documents never loads numpy."""
    code = (
        "import sys\nfrom outrider_protocol import prepare, preprocess\n"
        f"preprocess.Preprocess.decode({EVERY_STEP.encode()!r})\n"
        "sys.exit('numpy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

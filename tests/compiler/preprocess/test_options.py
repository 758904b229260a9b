"""The words of `build` for preprocessing: docs/spec/preprocess.md."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from outrider_compiler.cli import main
from outrider_compiler.errors import UsageError
from outrider_compiler.preprocess import options
from outrider_compiler.request import Preprocessing


@pytest.mark.parametrize(
    ("words", "asked"),
    [
        ({}, Preprocessing()),
        ({"window": 100}, Preprocessing(window=100)),
        ({"resize": "64x48"}, Preprocessing(resize=(64, 48))),
        ({"resize": "64x48:nearest"}, Preprocessing(resize=(64, 48), resize_mode="nearest")),
        ({"layout": "NHWC:NCHW"}, Preprocessing(layout=("NHWC", "NCHW"))),
        ({"layout": "NHWC"}, Preprocessing(layout=("NHWC", "NHWC"))),
        ({"scale": "1/255"}, Preprocessing(scale=(1 / 255, 0.0))),
        ({"scale": "1/127.5,-1"}, Preprocessing(scale=(1 / 127.5, -1.0))),
        ({"scale": "2e-3"}, Preprocessing(scale=(0.002, 0.0))),
        ({"normalise": "0.5,0.25"}, Preprocessing(normalise=((0.5,), (0.25,)))),
        ({"normalise": "1:2:3,4:5:6"}, Preprocessing(normalise=((1.0, 2.0, 3.0), (4.0, 5.0, 6.0)))),
        ({"normalise": "0,1:2"}, Preprocessing(normalise=((0.0,), (1.0, 2.0)))),
        ({"scale": "2", "preprocess_input": "image"}, Preprocessing(scale=(2.0, 0.0), input="image")),
    ],
)
def test_words_are_read(words: dict[str, object], asked: Preprocessing) -> None:
    """PRE-OPT-1: each option has one reading."""
    assert options.read(**words) == asked


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"resize": "64"}, "--resize"),
        ({"resize": "64x-1"}, "--resize"),
        ({"resize": "0x8"}, "--resize"),
        ({"resize": "64x48:cubic"}, "--resize"),
        ({"layout": "nhwc:nchw"}, "--layout"),
        ({"layout": "NHWC:"}, "--layout"),
        ({"layout": "NHWC:NCHW:NHWC"}, "--layout"),
        ({"scale": "one"}, "--scale"),
        ({"scale": "1/0"}, "--scale"),
        ({"scale": "nan"}, "--scale"),
        ({"scale": "1e999"}, "--scale"),
        ({"scale": "1,2,3"}, "--scale"),
        ({"scale": ""}, "--scale"),
        ({"normalise": "0.5"}, "--normalise"),
        ({"normalise": "0.5,1,2"}, "--normalise"),
        ({"normalise": "0.5,0"}, "positive"),
        ({"normalise": "0.5,-1"}, "positive"),
        ({"normalise": "0.5,1::2"}, "--normalise"),
        ({"normalise": ",1"}, "--normalise"),
    ],
)
def test_words_that_mean_nothing_are_usage_errors(words: dict[str, str], said: str) -> None:
    """PRE-OPT-2: a word that cannot be read is a usage error that names the option."""
    with pytest.raises(UsageError, match=said) as caught:
        options.read(**words)
    assert caught.value.hint


def test_the_lock_s_words_are_what_was_asked() -> None:
    """PRE-OPT-4: what was asked for stands in the lock; nothing asked for is an empty object."""
    assert Preprocessing().words() == {}
    asked = options.read(window=9, resize="2x3", layout="NHWC:NCHW", scale="2", normalise="1,2", preprocess_input="x")
    assert asked.words() == {
        "window": 9,
        "resize": [2, 3, "linear"],
        "layout": ["NHWC", "NCHW"],
        "scale": [2.0, 0.0],
        "normalise": [[1.0], [2.0]],
        "input": "x",
    }


def test_a_wrong_word_on_the_command_line_is_2(tmp_path: Path) -> None:
    """PRE-OPT-2: status 2, before anything is read."""
    words = ["--name", "n", "--version", "1", "--counter", "1", "--profile", "x86-64", "--out", str(tmp_path / "out")]
    words += ["--calibration", "none.npz", "--evaluation", "none.npz", "--normalise", "0.5,0"]
    done = CliRunner().invoke(main, ["build", "none.onnx", *words])
    assert done.exit_code == 2
    assert "standard deviation" in done.stderr

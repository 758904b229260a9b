"""Keys that contradict each other: every rule PRF-CON of docs/spec/profiles.md."""

from __future__ import annotations

import pytest

from outrider_profiles import ProfileFileError, parse
from outrider_profiles.loader import BOARDS

Change = tuple[str, str]
LISTS = 'precisions = ["fp32", "int8_static"]'


def refused(board: str, *changes: Change) -> ProfileFileError:
    """The error of a board's text after the changes."""
    text = (BOARDS / f"{board}.toml").read_text(encoding="utf-8")
    for find, replace in changes:
        assert find in text, find
        text = text.replace(find, replace, 1)
    with pytest.raises(ProfileFileError) as caught:
        parse(text, f"{board}.toml")
    assert caught.value.file == f"{board}.toml"
    return caught.value


@pytest.mark.parametrize(
    ("board", "change", "key", "reason"),
    [
        ("x86-64", ('["fp32",', '["fp32", "fp32",'), "precisions", "'fp32' stands there twice"),
        ("jetson-thor", ("CUDAExec", "CPUExec"), "providers", "'CPUExecutionProvider' stands there twice"),
        ("x86-64-vnni", ('["avx512_vnni",', '["avx_vnni",'), "cpu_features", "'avx_vnni' stands there twice"),
        ("hailo-8", ('"Loop",', '"Loop", "Loop",'), "deny_operators", "'Loop' stands there twice"),
        ("arm64", ('["asimddp",', '["i8mm",'), "int8.accelerated_by", "'i8mm' stands there twice"),
        ("armv7", ('"numpy>=1.23.2,<2"', '"tflite-runtime==2.14.0"'), "install.packages", "stands there twice"),
        ("hailo-8", ('[[providers]]\nname = "hailo8"', ""), "providers", "missing"),
    ],
)
def test_lists_name_a_thing_once(board: str, change: Change, key: str, reason: str) -> None:
    """PRF-CON-1: a list that repeats itself, or no provider at all, is refused."""
    error = refused(board, change)
    assert error.key == key
    assert reason in error.reason


def test_there_is_a_provider() -> None:
    """PRF-CON-1: an empty array of providers is refused."""
    error = refused(
        "x86-64", ('[[providers]]\nname = "CPUExecutionProvider"', ""), ("threads = 2", "threads = 2\nproviders = []")
    )
    assert (error.key, error.reason) == ("providers", "is empty: name at least one")


@pytest.mark.parametrize(
    ("board", "change", "key", "reason"),
    [
        ("x86-64", ('versions = ">=1.23,<2"', 'versions = "1.23"'), "engine.versions", "no version specifier"),
        ("armv7", ('python = ">=3.10,<3.12"', 'python = "3.10 or 3.11"'), "install.python", "no version specifier"),
        ("armv7", ('"numpy>=1.23.2,<2"', '"--pre"'), "install.packages", "'--pre' is no requirement"),
        ("rockchip-rk3588", ("min = 12\nmax = 19", "min = 9\nmax = 12"), "opset", "quantizes from opset 13 on"),
    ],
)
def test_versions_can_be_read(board: str, change: Change, key: str, reason: str) -> None:
    """PRF-CON-2: specifiers, requirements and an opset that the compiler can serve."""
    error = refused(board, change)
    assert error.key == key
    assert reason in error.reason


@pytest.mark.parametrize("precision", ["fp16", "int8_mixed", "int4_weight", "int16_activation"])
@pytest.mark.parametrize("board", ["raspberry-pi-5", "armv7"])
def test_the_format_can_hold_the_precision(board: str, precision: str) -> None:
    """PRF-CON-3: a precision that the compiler cannot build in the engine's format is refused."""
    error = refused(board, ('"int8_dynamic"]', f'"{precision}"]'))
    assert error.key == "precisions"
    assert error.reason.startswith(f"'{precision}' cannot be built for ")
    assert error.reason.endswith("which reads tflite")


@pytest.mark.parametrize("key", ["activation", "weight"])
def test_symmetric_needs_signed_integers(key: str) -> None:
    """PRF-CON-4: zero points of 0 alone and unsigned integers contradict each other."""
    error = refused("jetson-orin-nano", (f'{key} = "s8"', f'{key} = "u8"'))
    assert (error.key, error.reason[:4]) == (f"int8.{key}", "'u8'")


@pytest.mark.parametrize(
    ("changes", "key", "reason"),
    [
        ([(LISTS, 'precisions = ["fp32"]')], "precisions", "'int8_static' is missing"),
        ([(LISTS, 'precisions = ["fp32", "int8_static", "int8_dynamic"]')], "precisions", "'int8_dynamic' leaves"),
        ([("dynamic_batch = false", "dynamic_batch = true")], "shapes.dynamic_batch", "takes constant shapes"),
    ],
)
def test_an_integer_engine_gets_integers(changes: list[Change], key: str, reason: str) -> None:
    """PRF-CON-5: with int8.full there is static int8, nothing in float beside fp32, and no free batch."""
    error = refused("coral-edgetpu", *changes)
    assert error.key == key
    assert reason in error.reason


@pytest.mark.parametrize(
    ("change", "key", "reason"),
    [
        (("batch = 1", "batch = 0"), "shapes.batch", "0 is not positive"),
        (("dynamic_batch = false\nbatch = 1", "dynamic_batch = true\nbatch = 4"), "shapes.batch", "4 means nothing"),
        (("rank_max = 4", "rank_max = -1"), "shapes.rank_max", "-1 is negative"),
    ],
)
def test_shapes_mean_something(change: Change, key: str, reason: str) -> None:
    """PRF-CON-6: a batch is positive and fixed where it is stated; a bound of ranks is not negative."""
    error = refused("rockchip-rk3588", change)
    assert error.key == key
    assert reason in error.reason

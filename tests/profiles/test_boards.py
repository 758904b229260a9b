"""The boards that ship: what each is known for, where its figures come from, and that no damage escapes the loader."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider_profiles import Profile, ProfileFileError, load, names, parse
from outrider_profiles.loader import BOARDS, tomllib

CPU, TENSORRT, CUDA = "CPUExecutionProvider", "TensorrtExecutionProvider", "CUDAExecutionProvider"
ORT_CPU = ("fp32", "fp16", "int8_static", "int8_dynamic", "int8_mixed", "int4_weight")
PLAIN = ("onnxruntime>=1.23,<2",)
TFLITE = ("tflite-runtime==2.14.0", "numpy>=1.23.2,<2")
ORIN = ("onnxruntime-gpu==1.23.2", "numpy==2.2.6")
QNN = ("onnxruntime>=1.24.2,<2", "onnxruntime-qnn>=2.1.1,<3")
# board: architecture, engine, providers, opset, IR, free batch, symmetric, full, Python, packages
FACTS: dict[str, tuple[Any, ...]] = {
    "x86-64": ("x86_64", "onnxruntime", (CPU,), (13, 22), (7, 10), True, False, False, ">=3.10", PLAIN),
    "x86-64-vnni": ("x86_64", "onnxruntime", (CPU,), (13, 22), (7, 10), True, False, False, ">=3.10", PLAIN),
    "arm64": ("aarch64", "onnxruntime", (CPU,), (13, 22), (7, 10), True, False, False, ">=3.10", PLAIN),
    "raspberry-pi-4": ("aarch64", "onnxruntime", (CPU,), (13, 22), (7, 10), True, False, False, ">=3.10", PLAIN),
    "raspberry-pi-5": (
        "aarch64", "litert", ("XNNPACK",), (13, 22), (7, 10), True, False, False, ">=3.10", ("ai-edge-litert>=2,<3",),
    ),
    "jetson-orin-nano": (
        "aarch64", "onnxruntime", (TENSORRT, CUDA, CPU), (13, 19), (7, 10), True, True, False, ">=3.10,<3.11", ORIN,
    ),
    "jetson-thor": (
        "aarch64", "onnxruntime", (TENSORRT, CUDA, CPU), (13, 19), (7, 10), True, True, False, ">=3.12,<3.13",
        ("onnxruntime-gpu>=1.24,<2",),
    ),
    "armv7": ("armv7l", "tflite-runtime", ("CPU",), (13, 22), (7, 10), True, False, False, ">=3.10,<3.12", TFLITE),
    "coral-edgetpu": (
        "aarch64", "tflite-runtime", ("libedgetpu.so.1", "CPU"), (13, 22), (7, 10), False, False, True, ">=3.10,<3.12",
        TFLITE,
    ),
    "qualcomm-qnn": (
        "aarch64", "onnxruntime", ("QNNExecutionProvider", CPU), (13, 22), (7, 10), False, False, False, ">=3.11", QNN,
    ),
    "rockchip-rk3588": (
        "aarch64", "rknn", ("RKNPU2",), (12, 19), (7, 9), False, False, False, ">=3.10,<3.13",
        ("rknn-toolkit-lite2>=2.1,<3",),
    ),
    "intel-openvino": (
        "x86_64", "onnxruntime", ("OpenVINOExecutionProvider", CPU), (13, 20), (7, 10), False, False, False,
        ">=3.10,<3.14", ("onnxruntime-openvino>=1.23,<1.25",),
    ),
    "hailo-8": ("aarch64", "hailort", ("hailo8",), (13, 17), (7, 8), False, False, False, ">=3.10", ()),
    "apple-coreml": (
        "aarch64", "onnxruntime", ("CoreMLExecutionProvider", CPU), (13, 22), (7, 10), False, False, False, ">=3.10",
        PLAIN,
    ),
}  # fmt: skip
PRECISIONS = {
    "arm64": ORT_CPU,
    "raspberry-pi-4": ORT_CPU,
    "raspberry-pi-5": ("fp32", "int8_static", "int8_dynamic"),
    "jetson-orin-nano": ("fp32", "fp16", "int8_static", "int8_mixed"),
    "jetson-thor": ("fp32", "fp16", "int8_static", "int8_mixed"),
    "armv7": ("fp32", "int8_static", "int8_dynamic"),
    "coral-edgetpu": ("fp32", "int8_static"),
    "qualcomm-qnn": ("fp32", "int8_static", "int16_activation"),
    "rockchip-rk3588": ("fp32", "int8_static"),
    "intel-openvino": ("fp32", "fp16", "int8_static", "int8_mixed"),
    "hailo-8": ("fp32",),
    "apple-coreml": ("fp32", "fp16"),
}
HOSTS = re.compile(r"https?://(?P<host>[^/\s]+)")
FLAGS_OF = {"x86_64": "avx", "aarch64": "asimd", "armv7l": "vfp"}
ALPHABET = st.characters(codec="utf-8", exclude_characters="\x7f", min_codepoint=32)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(ALPHABET),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(ALPHABET, min_size=1), inner, max_size=3),
    max_leaves=5,
)


def facts(board: Profile) -> tuple[Any, ...]:
    """What FACTS lists of a board."""
    return (
        board.architecture,
        board.engine.name,
        tuple(provider.name for provider in board.providers),
        (board.opset.min, board.opset.max),
        (board.ir.min, board.ir.max),
        board.shapes.dynamic_batch,
        board.int8.symmetric,
        board.int8.full,
        board.install.python,
        board.install.packages,
    )


def test_every_board_has_its_facts() -> None:
    """PRF-BRD-3: the table of this test and the package name the same boards."""
    assert set(FACTS) == set(names())


@pytest.mark.parametrize("name", FACTS)
def test_boards_say_what_they_are_known_for(name: str) -> None:
    """PRF-BRD-3: architecture, engine, providers, versions, shapes, integers and packages of each board."""
    assert facts(load(name)) == FACTS[name]


@pytest.mark.parametrize("name", PRECISIONS)
def test_boards_list_what_their_engines_run(name: str) -> None:
    """PRF-BRD-3: precisions, in the order in which they are built."""
    assert load(name).precisions == PRECISIONS[name]


def test_what_ran_here_is_what_was_tried() -> None:
    """PRF-BRD-4: only the boards on which the project runs its own artifacts claim it."""
    assert {name for name in names() if load(name).verified_on_hardware} == {"x86-64", "x86-64-vnni"}


@pytest.mark.parametrize("name", names())
def test_tensorrt_gets_its_caches(name: str) -> None:
    """PRF-BRD-3: where TensorRT comes first, half precision, int8 and both caches are switched on."""
    first = load(name).providers[0]
    wanted = {"trt_fp16_enable", "trt_int8_enable", "trt_engine_cache_enable", "trt_timing_cache_enable"}
    switched_on = {key for key, value in first.options.items() if value == "1"}
    assert (first.name != TENSORRT) or wanted <= switched_on


@pytest.mark.parametrize("name", names())
def test_features_belong_to_the_architecture(name: str) -> None:
    """PRF-BRD-5: CPU flags are those of the board's own architecture, and memory and threads are in a board's range."""
    board = load(name)
    start = FLAGS_OF[board.architecture]
    flags = {*board.cpu_features, *board.int8.accelerated_by} - {"i8mm"}
    assert all(flag.startswith(start) for flag in flags)
    assert 2**29 <= board.memory_bytes <= 2**37
    assert 1 <= board.threads <= 16


@pytest.mark.parametrize("name", names())
def test_sources_say_more_than_a_word(name: str) -> None:
    """PRF-SCH-2: a source names a document or says that the project chose; none is a registry's page."""
    for key, text in load(name).sources.items():
        assert len(text) > 20, f"{key}: {text}"
        assert not text.endswith("."), key
    hosts = {found["host"] for text in load(name).sources.values() for found in HOSTS.finditer(text)}
    assert not any(re.search(r"p[y]pi|npm|pythonh[o]sted|d[o]cker", host) for host in hosts)


@pytest.mark.parametrize("name", names())
def test_a_board_comes_back_from_its_own_values(name: str) -> None:
    """PRF-BRD-1: written anew from the values that were read, a board is the same profile."""
    value = tomllib.loads(text_of(name))
    assert parse(toml(value), f"{name}.toml") == load(name)


def text_of(name: str) -> str:
    """A board's file."""
    return (BOARDS / f"{name}.toml").read_text(encoding="utf-8")


def toml(value: dict[str, Any]) -> str:
    """A TOML document of one line a key; tables are written inline."""
    return "".join(f"{json.dumps(key)} = {_inline(item)}\n" for key, item in value.items())


def _inline(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {_inline(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_inline(item) for item in value) + "]"
    if value is None:
        return "2026-01-31"  # TOML has no null, but dates, which no key of a profile takes
    return json.dumps(value, ensure_ascii=False)


def refusal(text: str, name: str) -> ProfileFileError | None:
    """Why the text is no profile; None where it is one. Any other exception is a failure."""
    try:
        parse(text, f"{name}.toml")
    except ProfileFileError as error:
        return error
    return None


def parsed_or_refused(text: str, name: str) -> bool:
    """The text is a profile, or refused by a reason that names the file."""
    error = refusal(text, name)
    return error is None or (error.file == f"{name}.toml" and bool(error.reason))


def tables(value: dict[str, Any]) -> list[dict[str, Any]]:
    """Every table of a document, the document first."""
    below = [item for item in value.values() if isinstance(item, dict)]
    arrays = [item for array in value.values() if isinstance(array, list) for item in array if isinstance(item, dict)]
    return [value, *(table for item in (*below, *arrays) for table in tables(item))]


@given(st.data(), st.sampled_from(names()))
def test_a_changed_key_is_a_profile_or_a_refusal(data: st.DataObject, name: str) -> None:
    """PRF-SCH-5: a key dropped, added or given any other value ends in a profile or a `ProfileFileError`."""
    value = tomllib.loads(text_of(name))
    table = data.draw(st.sampled_from(tables(value)))
    key = data.draw(st.sampled_from(sorted(table)) | st.text(ALPHABET, min_size=1, max_size=8))
    if data.draw(st.booleans()):
        table.pop(key, None)
    else:
        table[key] = data.draw(VALUES | st.sampled_from(sorted(table.values(), key=repr)))
    assert parsed_or_refused(toml(value), name)


@given(st.data(), st.sampled_from(names()))
def test_a_damaged_text_is_a_profile_or_a_refusal(data: st.DataObject, name: str) -> None:
    """PRF-SCH-5: a text cut, or with any text put into it, ends in a profile or a `ProfileFileError`."""
    text = text_of(name)
    start = data.draw(st.integers(0, len(text)))
    stop = data.draw(st.integers(start, min(len(text), start + 80)))
    put = data.draw(st.text(max_size=20) | st.sampled_from(["[", "]", '"', "'''", "= ", "[[providers]]\n", "\x00"]))
    assert parsed_or_refused(text[:start] + put + text[stop:], name)


@pytest.mark.parametrize("text", ["threads = " + "9" * 5000, "threads = " + "[" * 20000, "threads = 1979-13-45"])
def test_a_value_beyond_measure_is_refused(text: str) -> None:
    """PRF-SCH-3: a number of thousands of digits and nesting without end are refused like any other damage."""
    with pytest.raises(ProfileFileError, match=r"board\.toml: not TOML"):
        parse(text, "board.toml")

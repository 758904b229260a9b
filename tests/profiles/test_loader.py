"""Hardware profiles: every rule of docs/spec/profiles.md."""

from __future__ import annotations

from pathlib import Path

import pytest

from outrider_profiles import ProfileFileError, UnknownProfileError, load, names, parse
from outrider_profiles.loader import BOARDS, FILE_BYTES

GOOD = (BOARDS / "x86-64-vnni.toml").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", names())
def test_every_board_loads(name: str) -> None:
    """PRF-BRD-1: each file in `boards` satisfies the schema and has the name of its file."""
    assert load(name).name == name


def test_the_first_boards_are_there() -> None:
    """PRF-BRD-1: the boards that the demo builds for."""
    assert {"x86-64-vnni", "x86-64", "raspberry-pi-5", "jetson-orin-nano"} <= set(names())


def test_a_new_board_is_one_file(tmp_path: Path) -> None:
    """PRF-BRD-2: a TOML file anywhere is a profile, without code."""
    path = tmp_path / "own-board.toml"
    path.write_text(GOOD.replace('name = "x86-64-vnni"', 'name = "own-board"'), encoding="utf-8")
    assert load(path).name == "own-board"


@pytest.mark.parametrize(
    ("find", "replace", "key", "reason"),
    [
        ("threads = 4", "threads = 4\nspeed = 9", "speed", "unknown key"),
        ("[engine]", "[engine]\nvendor = 'x'", "engine.vendor", "unknown key"),
        ("threads = 4", "", "threads", "missing"),
        ('versions = ">=1.23,<2"', "", "engine.versions", "missing"),
        ("threads = 4", "threads = true", "threads", "int expected, not bool"),
        ("threads = 4", 'threads = "4"', "threads", "int expected, not str"),
        ("threads = 4", "threads = 0", "threads", "not positive"),
        ('precisions = ["fp32", "fp16"', 'precisions = [1, "fp16"', "precisions", "a string expected"),
        ("[[providers]]", "[providers]", "providers", "an array of tables expected"),
        ('name = "CPUExecutionProvider"', 'title = "CPU"', "providers[0].title", "unknown key"),
        ("[[providers]]", "[[providers]]\noptions = {a = 1}", "providers[0].options.a", "a string expected"),
        ('title = "x86-64 with AVX512-VNNI or AVX-VNNI"', 'title = " "', "title", "empty"),
        ('precisions = ["fp32", "fp16"', 'precisions = ["fp31", "fp16"', "precisions", "'fp31' is not one of"),
        ('precisions = ["fp32", "fp16"', 'precisions = ["fp16"', "precisions", "'fp32' is missing"),
        ('architecture = "x86_64"', 'architecture = "x86"', "architecture", "'x86' is not one of"),
        ('mode = "default"', 'mode = "magic"', "load.mode", "'magic' is not one of"),
        ("min = 13\nmax = 22", "min = 23\nmax = 22", "opset", "23..22 is not a range"),
        ("[load]", "[budgets]\nsize_bytes = -1\n\n[load]", "budgets.size_bytes", "-1 is negative"),
        ('load = "prepacked', '# load = "prepacked', "sources.load", "say where the figure comes from"),
        ("[sources]", '[sources]\nweather = "sunny"', "sources.weather", "the source of nothing"),
        ('name = "x86-64-vnni"', 'name = "other"', "name", "is not the file's name"),
    ],
)
def test_errors_name_file_key_and_reason(find: str, replace: str, key: str, reason: str) -> None:
    """PRF-SCH-1: what breaks the schema is refused with file, key and reason."""
    assert find in GOOD
    with pytest.raises(ProfileFileError) as caught:
        parse(GOOD.replace(find, replace), "x86-64-vnni.toml")
    assert (caught.value.file, caught.value.key) == ("x86-64-vnni.toml", key)
    assert reason in caught.value.reason


def test_every_figure_has_a_source() -> None:
    """PRF-SCH-2: a board without its sources is refused."""
    with pytest.raises(ProfileFileError, match=r"sources\.\w+: missing"):
        parse(GOOD.partition("[sources]")[0] + "[sources]\n", "x86-64-vnni.toml")


@pytest.mark.parametrize("data", [b"name = [", b"\xff\xfe", b"#" * (FILE_BYTES + 1)], ids=["toml", "utf8", "size"])
def test_a_damaged_file_is_refused(tmp_path: Path, data: bytes) -> None:
    """PRF-SCH-3: what is no TOML, no UTF-8 or too large is refused before it is read further."""
    path = tmp_path / "board.toml"
    path.write_bytes(data)
    with pytest.raises(ProfileFileError, match=r"board\.toml"):
        load(path)


def test_an_unreadable_file_is_refused() -> None:
    """PRF-SCH-3: a file that the system does not let be read is refused with its words."""
    with pytest.raises(ProfileFileError, match="/proc/self/mem: Input/output error"):
        load("/proc/self/mem")


def test_an_unknown_name_lists_the_known() -> None:
    """PRF-SCH-4: a name that is no board is an error that lists the boards."""
    with pytest.raises(UnknownProfileError, match="raspberry-pi-5"):
        load("raspberry-pie")

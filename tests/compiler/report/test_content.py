"""report.json: its keys, its order, its size."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider_compiler import lock, release
from outrider_compiler.candidate import NotBuilt
from outrider_compiler.figures import Figures
from outrider_compiler.outcome import Outcome
from outrider_compiler.report import content
from outrider_compiler.request import Gate
from outrider_profiles import Profile
from tests.architecture.tree import ROOT
from tests.compiler.report.reports import BOARD, boards, candidates, gates, outcome, reports

Json = dict[str, Any]
MANY = 1000


def documented() -> set[str]:
    """The key paths of the table in docs/spec/report.md; `.b` after `a.c` is `a.b`."""
    text = (ROOT / "docs/spec/report.md").read_text("utf-8").partition("## report.json")[2].partition("\n## ")[0]
    found = set()
    for row in re.findall(r"^\| (`[^|]+) \|", text, re.MULTILINE):
        first, *others = re.findall(r"`([^`]+)`", row)
        stem = first.rpartition(".")[0]
        found |= {first, *(f"{stem}{other}" for other in others)}
    return found


def paths(value: Any, known: set[str], at: str = "") -> Iterator[str]:
    """Key paths of a value, names under a documented `*` as such; what lies below a `*` at the end is not followed."""
    if f"{at}.*" in known:
        yield f"{at}.*"
    elif isinstance(value, dict):
        names = any(path.startswith(f"{at}.*.") for path in known)
        for key, child in value.items():
            yield from paths(child, known, f"{at}.{'*' if names else key}".removeprefix("."))
    elif isinstance(value, list | tuple):
        yield from paths(value[0], known, f"{at}[]") if value else (f"{at}[]",)
    else:
        yield at


@given(reports())
def test_every_key_is_documented(report: Json) -> None:
    """CMP-RPT-6: of any report."""
    known = documented()
    # A list of objects may be empty: then only its stem is seen.
    unknown = {path for path in paths(report, known) if path not in known}
    assert not {path for path in unknown if not any(other.startswith(f"{path}.") for other in known)}


def test_every_documented_key_is_there(release: release.Release) -> None:
    """CMP-RPT-6: a real report has what the table lists, apart from parts that this build has nothing to say of."""
    known = documented()
    found = set(paths(release.report(), known))
    absent = (
        "layers[]",
        "slices[]",
        "not_built[]",
        "warnings[]",
        "fallback[]",
        "recipe.*",
        "evidence.*",
        "robustness.*",
    )
    missing = {path for path in known - found if not any(part in path for part in absent)}
    assert not missing


@given(candidates("classification", ["a", "b"]), gates, boards, st.lists(st.builds(NotBuilt, st.text(), st.text())))
def test_the_order_of_a_lock_changes_nothing(
    figures: list[Figures], gate: Gate, board: Profile, absent: list[NotBuilt]
) -> None:
    """CMP-RPT-7: an outcome that went through a lock, whose keys are sorted, gives the same bytes."""
    made = outcome(figures, gate, board, "x86-64", absent)
    if made.choice is None:
        return
    again = Outcome.of("x86-64", json.loads(json.dumps(made.json(), sort_keys=True)))
    both = [content.encode(content.decided(item, vars(gate), content.board(board))) for item in (made, again)]
    assert both[0] == both[1]


def crowded(report: Json) -> tuple[Json, Outcome]:
    """A report of a thousand classes on one board with nine candidates, and the outcome in it."""
    value = report["profiles"]["x86-64"]
    figure = {"precision": 0.123456, "recall": 0.123456, "f1": 0.123456, "n": 100}
    per_class = {f"a class with a name of some length {i}": figure for i in range(MANY)}
    many = [{**value["candidates"][0], "name": f"fp32{i or ''}", "per_class": per_class} for i in range(9)]
    outcomes = {**value, "candidates": many}
    return {**report, "profiles": {f"x86-64-{i}": outcomes for i in range(4)}}, Outcome.of("x86-64", outcomes)


def test_a_thousand_classes_are_read_back(release: release.Release, tmp_path: Path) -> None:
    """CMP-RPT-8: neither report nor lock is larger than its reader takes."""
    report, kept = crowded(release.report())
    (tmp_path / "report.json").write_bytes(content.encode(report))
    assert (tmp_path / "report.json").stat().st_size > 4 * 1024 * 1024
    assert replace(release, directory=tmp_path).report() == report
    whole = lock.Lock(report["request"], {}, {}, {f"x86-64-{i}": kept for i in range(4)})
    (tmp_path / "lock").write_bytes(whole.encode())
    assert lock.load(tmp_path / "lock").outcomes.keys() == whole.outcomes.keys()


@pytest.mark.parametrize("key", ["title", "architecture", "threads"])
def test_the_board_is_the_profile(key: str) -> None:
    """CMP-RPT-1: what the report says of a board stands in its file."""
    assert content.board(BOARD)[key] == getattr(BOARD, key)

"""What no tracked file may say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.architecture.tree import ROOT, tracked_files

TEXT = {".py", ".md", ".toml", ".txt", ".sh", ".html", ".css", ".js", ".json", ".cfg", ".ini", ".mako", ""}
# One letter of each is in brackets, so that this file does not hold them.
UNFINISHED = re.compile(r"\b(T[O]DO|F[I]XME|X[X]X)\b")
MACHINE = re.compile(r"/r[o]ot/|/h[o]me/[a-z]|/w[o]rk/|/tmp/o[u]trider|/U[s]ers/")
REGISTRY = re.compile(
    r"p[y]pi\.org|pythonh[o]sted\.org|download\.pyt[o]rch\.org|npm[j]s\.org|g[h]cr\.io|d[o]cker\.(?:io|com)"
)


def readable() -> list[Path]:
    """Tracked files of text; vendored libraries speak for themselves."""
    return [path for path in tracked_files() if path.suffix in TEXT and "vendor" not in path.parts]


@pytest.mark.parametrize(
    ("pattern", "what"),
    [(UNFINISHED, "unfinished work"), (MACHINE, "a machine's path"), (REGISTRY, "a registry's host")],
)
def test_nothing_of_one_machine_or_one_day(pattern: re.Pattern[str], what: str) -> None:
    """ARC-TXT-1: no tracked file holds unfinished work, a path of one machine, or the host of a package registry."""
    lines = ((path, line) for path in readable() for line in path.read_text("utf-8", "replace").splitlines())
    found = [f"{path.relative_to(ROOT)}: {line.strip()[:100]}" for path, line in lines if pattern.search(line)]
    assert not found, f"{what}: {found}"


def test_no_large_file_is_tracked() -> None:
    """ARC-TXT-2: data is made or installed, not kept in git; the checker's recorded run is the one exception."""
    limits = {ROOT / "tests/examples/recorded.tar.xz": 512}
    large = [path for path in tracked_files() if path.stat().st_size > limits.get(path, 256) * 1024]
    assert not large


def test_no_source_file_is_a_drawer() -> None:
    """ARC-TXT-3: no module is called utils, common, helpers or manager."""
    drawers = {"utils", "util", "common", "helpers", "helper", "manager", "misc"}
    named = [
        str(path.relative_to(ROOT))
        for path in tracked_files()
        if {path.stem, *path.relative_to(ROOT).parts[:-1]} & drawers
    ]
    assert not named


def test_test_folders_mirror_the_source() -> None:
    """ARC-TXT-4: tests hold no `__init__.py`: each file is imported by its path, and names may repeat."""
    assert not [
        path for path in tracked_files() if path.name == "__init__.py" and "tests" in path.relative_to(ROOT).parts
    ]

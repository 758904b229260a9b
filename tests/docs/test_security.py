"""SECURITY.md: every outcome in its tables is shown by a test that exists."""

from __future__ import annotations

import ast
import re

import pytest

from tests.architecture.tree import ROOT

PAGE = (ROOT / "SECURITY.md").read_text("utf-8")
CITATION = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
STOLEN = re.compile(r"<!-- stolen keys -->\n(.*?)<!-- end -->", re.DOTALL)
FOLLOWS = ("the same", "as above", "as for", "foreign releases of its model", "nothing without")


def functions_of(path: str) -> set[str]:
    """The test functions of a file."""
    tree = ast.parse((ROOT / path).read_text("utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def rows() -> list[list[str]]:
    """The cells of the table of stolen keys, without its head."""
    found = STOLEN.search(PAGE)
    assert found is not None
    lines = [line for line in found[1].splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


@pytest.mark.parametrize(("path", "name"), sorted(set(CITATION.findall(PAGE))))
def test_every_cited_test_exists(path: str, name: str) -> None:
    """ARC-DOC-8: what SECURITY.md says of an attack names the test that shows it."""
    assert (ROOT / path).is_file()
    assert name in functions_of(path)


@pytest.mark.parametrize("row", rows(), ids=lambda row: row[0])
def test_every_outcome_cites_a_test(row: list[str]) -> None:
    """ARC-DOC-8: a row's outcomes are cited; a cell without a citation says that it follows from another one."""
    key, *cells = row
    assert len(cells) == 2, key
    assert any(CITATION.search(cell) for cell in cells), key
    assert all(CITATION.search(cell) or cell.startswith(FOLLOWS) for cell in cells), key


def test_the_page_says_what_one_machine_loses() -> None:
    """ARC-DOC-8: the page says plainly which separations one machine loses, and how to report a vulnerability."""
    assert "## What an installation on one machine loses" in PAGE
    assert "Open a private report with the maintainers" in PAGE
    assert not re.search(r"[\w.]+@[\w.]+\.\w+", PAGE), "no address is invented"

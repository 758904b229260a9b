"""Links, make targets and generated blocks of the pages."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from docs.generate import board_table
from tests.architecture.tree import ROOT
from tests.docs.pages import FENCE, command_lines, page_name, pages, targets, words

LINK = re.compile(r"\[[^\]\n]*\]\(([^)\s]+)\)")
GENERATED = re.compile(r"<!-- generated: (?P<name>[a-z-]+) by `(?P<command>[^`]+)` -->\n.*?<!-- end -->", re.DOTALL)


def headings(page: Path) -> set[str]:
    """The anchors that a page's headings make."""
    text = FENCE.sub("", page.read_text("utf-8"))
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", pages(), ids=page_name)
def test_links_lead_somewhere(page: Path) -> None:
    """ARC-DOC-3: a relative link leads to a file, and to a heading where it names one."""
    links = [link for link in LINK.findall(FENCE.sub("", page.read_text("utf-8"))) if "://" not in link]
    for link in links:
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), f"{link} leads nowhere"
        assert not anchor or anchor in headings(target), f"{link} names no heading"


def test_make_targets_on_pages_exist() -> None:
    """ARC-DOC-4: `make x` on a page is a target of the Makefile, and so are its variables."""
    makefile = (ROOT / "Makefile").read_text("utf-8")
    lines = [(page, words(line)) for page, line in command_lines()]
    for page, (_, *arguments) in [(page, parts) for page, parts in lines if parts[:1] == ["make"]]:
        names = [a for a in arguments if "=" not in a]
        assert set(names) <= targets(), f"{page_name(page)}: make {' '.join(names)}"
        assert all(f"{a.partition('=')[0]} " in makefile for a in arguments if "=" in a and not a.startswith("PIP_"))


def test_make_help_lists_every_target() -> None:
    """ARC-DOC-4: `make help` names every target, parts of `check` apart."""
    shown = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    missing = {name for name in targets() if f"make {name} " not in shown and not name.startswith("check-")}
    assert not missing


@pytest.mark.parametrize("page", [p for p in pages() if p.parent.name == "benchmarks"], ids=page_name)
def test_figures_stand_in_generated_blocks(page: Path) -> None:
    """ARC-DOC-5: a page of figures has a generated block whose command is a make target."""
    found = list(GENERATED.finditer(page.read_text("utf-8")))
    if page.name != "README.md":
        assert found
    for block in found:
        program, target, *_ = block["command"].split()
        assert program == "make"
        assert target in targets()


def test_the_readme_has_the_demo_figures() -> None:
    """ARC-DOC-5: README's figures are filled in by a command, not by hand."""
    names = {block["name"] for block in GENERATED.finditer((ROOT / "README.md").read_text("utf-8"))}
    assert "demo" in names


def test_the_table_of_boards_is_that_of_the_files() -> None:
    """ARC-DOC-7: the guide's table of boards is what `make docs` writes from the profiles now."""
    text = (ROOT / "docs/guides/boards.md").read_text("utf-8")
    block = next(found for found in GENERATED.finditer(text) if found["name"] == "boards")
    assert board_table() in block[0], "run `make docs`"

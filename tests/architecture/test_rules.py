"""Every numbered rule of docs/spec is cited by a test, and every citation names a rule that exists."""

from __future__ import annotations

import re
from collections import Counter

from tests.architecture.tree import ROOT, tracked_files

ID = r"[A-Z][A-Z0-9]{2,3}(?:-[A-Z][A-Z0-9]{2,3})?-[0-9]+"
DEFINED = re.compile(rf"^- \*\*({ID})\*\* ", re.MULTILINE)
CITED = re.compile(rf"\b{ID}\b")


def defined() -> Counter[str]:
    """Rules by number, with how often each is defined."""
    return Counter(
        number
        for page in sorted((ROOT / "docs" / "spec").glob("*.md"))
        for number in DEFINED.findall(page.read_text("utf-8"))
    )


def citations(text: str) -> set[str]:
    """Rules that a text cites; what only looks like one (SHA-256, UTF-8) has a first part that no rule has."""
    areas = {number.partition("-")[0] for number in defined()}
    return {number for number in CITED.findall(text) if number.count("-") == 2 or number.partition("-")[0] in areas}


def cited() -> set[str]:
    """Rules that some test or simulation cites."""
    files = [path for path in (ROOT / "tests").rglob("*.py") if "__pycache__" not in path.parts]
    return {number for path in files for number in citations(path.read_text("utf-8"))}


def test_every_rule_is_cited_by_a_test() -> None:
    """ARC-RUL-1: a rule without a test is a wish."""
    missing = sorted(set(defined()) - cited())
    assert not missing, f"no test cites {', '.join(missing)}"


def test_every_citation_is_defined() -> None:
    """ARC-RUL-2: a test cites rules that docs/spec holds."""
    unknown = sorted(cited() - set(defined()))
    assert not unknown, f"docs/spec does not define {', '.join(unknown)}"


def test_every_rule_is_defined_once() -> None:
    """ARC-RUL-3: a number means one rule."""
    twice = [number for number, times in defined().items() if times > 1]
    assert not twice


def test_code_cites_rules_that_exist() -> None:
    """ARC-RUL-2: a comment in the code that cites a number in brackets names a rule of docs/spec."""
    in_brackets = re.compile(rf"\[({ID})\]")
    sources = [path for path in tracked_files() if path.suffix == ".py" and "tests" not in path.relative_to(ROOT).parts]
    unknown = {n for path in sources for n in in_brackets.findall(path.read_text("utf-8"))} - set(defined())
    assert not unknown

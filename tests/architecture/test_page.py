"""ARCHITECTURE.md says what the tree is."""

from __future__ import annotations

import re

import pytest

from tests.architecture.tree import DISTRIBUTIONS, ROOT, package_folder

PAGE = (ROOT / "ARCHITECTURE.md").read_text("utf-8") if (ROOT / "ARCHITECTURE.md").is_file() else ""


def subpackages() -> list[str]:
    """`outrider_agent/drift` and the like: each folder of code right below a package."""
    return [
        f"{package}/{folder.name}"
        for package in DISTRIBUTIONS.values()
        for folder in sorted(package_folder(package).iterdir())
        if folder.is_dir() and any(folder.glob("*.py"))
    ]


@pytest.mark.parametrize("name", [*DISTRIBUTIONS.values(), *subpackages()])
def test_every_package_is_on_the_page(name: str) -> None:
    """ARC-PAG-1: each distribution and each folder of code in it is named on the page."""
    package, _, folder = name.partition("/")
    section = PAGE.partition(f"{package}/")[2].partition("outrider_")[0] if folder else PAGE
    assert re.search(rf"\b{re.escape(folder or package)}/", section), f"ARCHITECTURE.md does not name {name}"


def test_the_page_names_only_what_exists() -> None:
    """ARC-PAG-2: every path in code quotes on the page exists."""
    quoted = re.findall(r"`([a-z_.]+(?:/[a-z_.\-]+)+/?)`", PAGE)
    roots = [ROOT, *(ROOT / folder for folder in DISTRIBUTIONS), *(package_folder(p) for p in DISTRIBUTIONS.values())]
    missing = [path for path in quoted if not any((root / path).exists() for root in roots)]
    assert not missing


def test_the_page_is_one_page() -> None:
    """ARC-PAG-3: it stays short enough to be read."""
    assert 20 < len(PAGE.splitlines()) <= 140


@pytest.mark.parametrize("folder", sorted(p.name for p in ROOT.iterdir() if p.is_dir() and not p.name.startswith(".")))
def test_every_top_folder_is_explained(folder: str) -> None:
    """ARC-PAG-1: each folder at the top of the tree is named on the page."""
    generated = {"build", "dist", "bench-out", "site", "__pycache__"}
    assert folder in generated or f"{folder}/" in PAGE

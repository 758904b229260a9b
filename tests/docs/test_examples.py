"""Examples in docstrings and pages run as they are shown."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

from tests.architecture.tree import DISTRIBUTIONS, module_files
from tests.docs.pages import blocks, page_name, pages

FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def modules_with_examples() -> list[str]:
    """Modules of the five packages that hold `>>>`."""
    files = {name: path for package in DISTRIBUTIONS.values() for name, path in module_files(package).items()}
    return [name for name, path in files.items() if ">>> " in path.read_text("utf-8")]


@pytest.mark.parametrize("module", modules_with_examples())
def test_docstring_examples(module: str) -> None:
    """ARC-DOC-1: a docstring's example runs and prints what it says."""
    result = doctest.testmod(importlib.import_module(module), optionflags=FLAGS)
    assert result.attempted
    assert not result.failed


def test_page_examples() -> None:
    """ARC-DOC-1: a page's `>>>` examples run and print what they say."""
    failed = [page for page in pages() if doctest.testfile(str(page), module_relative=False, optionflags=FLAGS).failed]
    assert not failed


@pytest.mark.parametrize("page", [page for page in pages() if "```python" in page.read_text("utf-8")], ids=page_name)
def test_python_blocks_are_python(page: Path) -> None:
    """ARC-DOC-1: a page's Python blocks compile, and what they import from Outrider exists."""
    for block in (b for b in blocks(page) if b.language == "python" and ">>> " not in b.text):
        compile(block.text, page_name(page), "exec")
        imports = [line for line in block.text.splitlines() if line.startswith(("from outrider_", "import outrider_"))]
        for line in imports:
            exec(line, {"__name__": "docs"})

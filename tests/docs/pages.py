"""The pages of the documentation, their code blocks, and the commands they show."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from tests.architecture.tree import ROOT

FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
SHELL = {"sh", "console", "bash", "shell"}


@dataclass(frozen=True)
class Block:
    """One fenced block of a page."""

    page: Path
    language: str
    text: str


def pages() -> list[Path]:
    """Every page of Markdown: the root's and those below docs and examples."""
    below = [path for folder in ("docs", "examples") for path in sorted((ROOT / folder).rglob("*.md"))]
    return [*sorted(ROOT.glob("*.md")), *below]


def page_name(page: Path) -> str:
    """A page's path from the root, for test ids and messages."""
    return str(page.relative_to(ROOT))


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, in order."""
    return [Block(page, language, text) for language, text in FENCE.findall(page.read_text("utf-8"))]


def command_lines() -> list[tuple[Path, str]]:
    """Every simple command in a shell block: continuation lines joined, prompts removed, `a && b` taken apart."""
    found = []
    for block in (b for page in pages() for b in blocks(page) if b.language in SHELL):
        lines = block.text.replace("\\\n", " ").splitlines()
        prompted = any(line.startswith("$ ") for line in lines)
        commands = [line.removeprefix("$ ") for line in lines if not prompted or line.startswith("$ ")]
        whole = [line for line in commands if line.strip() and not line.lstrip().startswith("#")]
        found += [
            (block.page, part.strip()) for line in whole for part in re.split(r"&&|\$\(|\)\"", line) if part.strip()
        ]
    return found


def words(line: str) -> list[str]:
    """A command's words, without assignments before it, up to the first pipe, redirection, `;` or `&`."""
    lexer = shlex.shlex(line.replace('"', " "), posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    parts = list(lexer)
    while parts and re.fullmatch(r"(export|[A-Z_]+=.*)", parts[0]):
        parts.pop(0)
    end = next((i for i, part in enumerate(parts) if set(part) <= set("|<>&;()")), len(parts))
    return parts[:end]


def targets() -> set[str]:
    """The Makefile's phony targets."""
    text = (ROOT / "Makefile").read_text("utf-8").replace("\\\n", " ")
    return set(re.findall(r"^\.PHONY: (.*)$", text, re.MULTILINE)[0].split())

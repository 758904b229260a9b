"""The three programs and the pages that show them agree."""

from __future__ import annotations

from pathlib import Path

import pytest

from docs.generate import PROGRAMS, commands, reference
from tests.architecture.tree import ROOT
from tests.docs.pages import command_lines, page_name, words

SHOWN = [(page, line) for page, line in command_lines() if words(line) and Path(words(line)[0]).name in PROGRAMS]


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_command_is_documented(program: str) -> None:
    """ARC-DOC-2: the reference page is what `make docs` writes now: every command, every option."""
    page = ROOT / "docs/reference" / f"{program}.md"
    assert page.read_text("utf-8") == reference(program), "run `make docs`"


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_command_explains_itself(program: str) -> None:
    """ARC-DOC-2: each command has a help text of its own."""
    silent = [name for name, text, _ in commands(program) if len(text.splitlines()) < 3]
    assert not silent


@pytest.mark.parametrize(("page", "line"), SHOWN, ids=[f"{page_name(page)}-{i}" for i, (page, _) in enumerate(SHOWN)])
def test_commands_on_pages_exist(page: Path, line: str) -> None:
    """ARC-DOC-2: a command line on a page names a command and options that the program has."""
    first, *arguments = words(line)
    program = Path(first).name
    known = {name: options for name, _, options in commands(program)}
    path = program
    for argument in arguments:
        path = f"{path} {argument}" if f"{path} {argument}" in known else path
    options = {argument.partition("=")[0] for argument in arguments if argument.startswith("--")}
    assert options <= known[path] | known[program], f"{page_name(page)}: {line}"
    is_group = any(name.startswith(f"{path} ") for name in known)
    assert not is_group or options & {"--help", "--version"}, f"{page_name(page)}: {line} names no command"


def test_the_programs_are_those_of_the_distributions() -> None:
    """ARC-DOC-2: the three programs are the ones that the distributions install."""
    folders = ("compiler", "fleet_server", "agent")
    text = "".join((ROOT / folder / "pyproject.toml").read_text("utf-8") for folder in folders)
    assert all(f'{program} = "{module}:main"' in text for program, module in PROGRAMS.items())

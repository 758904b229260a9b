"""The three programs and the pages that show them agree."""

from __future__ import annotations

import argparse
import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from tests.architecture.tree import ROOT
from tests.docs.pages import command_lines, page_name, pages, words

PROGRAMS = {
    "outrider-compiler": "outrider_compiler.cli",
    "outrider-fleet": "outrider_fleet.cli",
    "outrider-agent": "outrider_agent.cli",
}


def tree_of(program: str) -> dict[str, set[str]]:
    """A program's commands ("rollout create") with their options; "" is the program itself."""
    module = importlib.import_module(PROGRAMS[program])
    if isinstance(module.main, click.Command):
        return dict(_click_tree(module.main, ""))
    return dict(_argparse_tree(module.parser(), ""))


def _click_tree(command: click.Command, name: str) -> Iterator[tuple[str, set[str]]]:
    yield name, {option for p in command.params for option in (*p.opts, *p.secondary_opts)} | {"--help"}
    if isinstance(command, click.Group):
        for child, below in command.commands.items():
            yield from _click_tree(below, f"{name} {child}".strip())


def _argparse_tree(parser: argparse.ArgumentParser, name: str) -> Iterator[tuple[str, set[str]]]:
    actions = parser._actions  # argparse offers no public way to list them
    yield name, {option for action in actions for option in action.option_strings}
    for action in actions:
        if isinstance(action, argparse._SubParsersAction):
            for child, below in action.choices.items():
                yield from _argparse_tree(below, f"{name} {child}".strip())


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_command_is_documented(program: str) -> None:
    """ARC-DOC-2: each command of each program stands on some page, written out."""
    text = "\n".join(page.read_text("utf-8") for page in pages())
    missing = [
        name for name in tree_of(program) if name and not re.search(rf"\b{program} (\S+ )?{re.escape(name)}\b", text)
    ]
    assert not missing, f"no page shows {program} {', '.join(missing)}"


@pytest.mark.parametrize(
    ("page", "line"),
    [(p, line) for p, line in command_lines() if words(line)[:1] and Path(words(line)[0]).name in PROGRAMS],
)
def test_commands_on_pages_exist(page: Path, line: str) -> None:
    """ARC-DOC-2: a command line on a page names a command and options that the program has."""
    first, *arguments = words(line)
    tree = tree_of(Path(first).name)
    path = ""
    for argument in arguments:
        longer = f"{path} {argument}".strip()
        path = longer if longer in tree else path
    options = {argument.partition("=")[0] for argument in arguments if argument.startswith("--")}
    known = tree[path] | tree[""]
    assert options <= known, f"{page_name(page)}: {line}"
    has_commands = any(name.startswith(f"{path} ".lstrip()) and name != path for name in tree)
    assert not has_commands or "--help" in options, f"{page_name(page)}: {line} names no command"


def test_the_programs_are_those_of_the_distributions() -> None:
    """ARC-DOC-2: the three programs are the ones that the distributions install."""
    text = "".join(
        (ROOT / folder / "pyproject.toml").read_text("utf-8") for folder in ("compiler", "fleet_server", "agent")
    )
    assert all(f'{program} = "{module}:main"' in text for program, module in PROGRAMS.items())

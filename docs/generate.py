"""Write the generated parts of the documentation (`make docs`): command reference, rule index, measured figures.

1. `docs/reference/<program>.md` is written whole, from the programs' own command definitions.
2. A block `<!-- generated: NAME by `make X` -->` … `<!-- end -->` is filled from `bench-out/NAME.md` or, for `demo`,
   from the newest run under `.demo`, by its checker; `boards` comes from the files of the hardware profiles, `rules`
   from the pages of rules, `guards` from their table. What was not run here leaves its block as it is.
3. The same inputs give the same bytes: a test writes the reference again and compares.
"""

from __future__ import annotations

import argparse
import json
import os
import re
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import click

from outrider_profiles import load as load_profile
from outrider_profiles import names as profile_names
from tests.guards import table as guard_table

ROOT = Path(__file__).resolve().parents[1]
PROGRAMS = {
    "outrider-compiler": "outrider_compiler.cli",
    "outrider-fleet": "outrider_fleet.cli",
    "outrider-agent": "outrider_agent.cli",
}
_WIDTH = 100
_BLOCK = re.compile(r"(<!-- generated: (?P<name>[a-z-]+) by `[^`]+` -->\n).*?(<!-- end -->)", re.DOTALL)


def commands(program: str) -> Iterator[tuple[str, str, set[str]]]:
    """A program's commands: full name, help text, options. The program itself comes first."""
    module = import_module(PROGRAMS[program])
    if isinstance(module.main, click.Command):
        return _click_commands(module.main, program, None)
    return _argparse_commands(module._parser(), program)


def _click_commands(
    command: click.Command, name: str, parent: click.Context | None
) -> Iterator[tuple[str, str, set[str]]]:
    settings = {**command.context_settings, "max_content_width": _WIDTH, "terminal_width": _WIDTH}
    context = click.Context(command, info_name=name.rpartition(" ")[2] if parent else name, parent=parent, **settings)
    options = {
        option for parameter in command.get_params(context) for option in parameter.opts + parameter.secondary_opts
    }
    yield name, command.get_help(context), options
    if isinstance(command, click.Group):
        for child in command.list_commands(context):
            yield from _click_commands(command.commands[child], f"{name} {child}", context)


def _argparse_commands(parser: argparse.ArgumentParser, name: str) -> Iterator[tuple[str, str, set[str]]]:
    """As above; written out by hand, because argparse's own form changes from one Python to the next."""
    actions = [action for action in parser._actions if not isinstance(action, argparse._SubParsersAction)]
    rows = [(", ".join(a.option_strings) or a.dest.upper(), a.metavar or "", a.help or "") for a in actions]
    lines = [f"  {f'{option} {value}'.strip():<40} {text}" for option, value, text in rows]
    yield name, "\n".join([f"{name}: {parser.description or ''}".strip(": "), "", *lines]), _options(parser)
    for group in (action for action in parser._actions if isinstance(action, argparse._SubParsersAction)):
        helps = {choice.dest: choice.help for choice in group._choices_actions}
        for child, below in group.choices.items():
            below.description = below.description or helps.get(child)
            yield from _argparse_commands(below, f"{name} {child}")


def _options(parser: argparse.ArgumentParser) -> set[str]:
    return {option for action in parser._actions for option in action.option_strings}


def reference(program: str) -> str:
    """The reference page of one program."""
    sections = [f"## {name}\n\n```text\n{text}\n```\n" for name, text, _ in commands(program)]
    lead = f"# {program}\n\nWritten by `make docs` from the program itself; do not edit.\n"
    return "\n".join([lead, *sections])


def rule_index() -> str:
    """The table of the pages of rules, for docs/spec/README.md."""
    rows = ["| page | about | rules |", "|---|---|---|"]
    for page in sorted((ROOT / "docs/spec").glob("*.md")):
        text = page.read_text("utf-8")
        count = len(re.findall(r"^- \*\*[A-Z0-9]+(?:-[A-Z0-9]+)*-\d+\*\* ", text, re.MULTILINE))
        if page.name != "README.md":
            rows.append(f"| [{page.stem}]({page.name}) | {text.splitlines()[0].lstrip('# ')} | {count} |")
    return "\n".join(rows)


def board_table() -> str:
    """The table of the boards that ship, for docs/guides/boards.md."""
    rows = [
        "| board | what | engine | runs on | precisions | opset, IR | batch | tried |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for board in map(load_profile, profile_names()):
        cells = [
            f"`{board.name}`",
            board.title,
            f"{board.engine.name} {board.engine.versions}",
            " → ".join(provider.name.removesuffix("ExecutionProvider") for provider in board.providers),
            ", ".join(board.precisions),
            f"{board.opset.min}–{board.opset.max}, {board.ir.min}–{board.ir.max}",
            "free" if board.shapes.dynamic_batch else str(board.shapes.batch),
            "yes" if board.verified_on_hardware else "no",
        ]
        rows.append("| " + " | ".join(cells) + " |")
    return "\n".join(rows)


def newest_run() -> Path | None:
    """The directory of the demo's newest whole run with nothing broken on purpose; None where it was not run here."""
    whole = [path for path in (ROOT / ".demo").glob("seed?/summary.json") if (path.parent / "findings.json").exists()]
    found = sorted(whole, key=lambda path: path.stat().st_mtime)
    return found[-1].parent if found else None


def demo_figures() -> str | None:
    """The claims of the newest run, as the checker found them."""
    run = newest_run()
    if run is None:
        return None
    found = json.loads((run / "findings.json").read_text("utf-8"))
    rows = [
        f"| {f['claim']} | {f['title']} | {_cell(f['value'])} | {_cell(f['threshold'])} | "
        f"{'yes' if f['ok'] else '**no**'} |"
        for f in found
    ]
    return "\n".join(["| | claim | measured | demanded | holds |", "|---|---|---|---|---|", *rows, "", _took(run)])


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _took(run: Path) -> str:
    seconds = _summary(run)["seconds"]
    return f"Seed {run.name.removeprefix('seed')}, {seconds:.0f} s after set-up, {os.cpu_count()} CPUs."


def demo_times() -> str | None:
    """How long each stage of the newest run took; stages overlap where the story does two things at once."""
    run = newest_run()
    if run is None:
        return None
    summary = _summary(run)
    rows = [f"| {title} | {seconds:.1f} |" for title, seconds in summary["stages"].items()]
    return "\n".join(["| stage | seconds |", "|---|---|", *rows, f"| whole | {summary['seconds']:.1f} |"])


def _summary(run: Path) -> dict[str, Any]:
    return dict(json.loads((run / "summary.json").read_text("utf-8")))


def block_text(name: str) -> str | None:
    """What belongs into a block, or None where nothing was measured here."""
    made: dict[str, Callable[[], str | None]] = {
        "demo": demo_figures,
        "demo-times": demo_times,
        "rules": rule_index,
        "boards": board_table,
        "guards": guard_table.markdown,
    }
    if name in made:
        return made[name]()
    measured = ROOT / "bench-out" / f"{name}.md"
    return measured.read_text("utf-8").strip() if measured.is_file() else None


def filled(text: str) -> str:
    """A page with its blocks filled in."""

    def fill(match: re.Match[str]) -> str:
        body = block_text(match["name"])
        return match[0] if body is None else f"{match[1]}{body}\n{match[3]}"

    return _BLOCK.sub(fill, text)


def main() -> None:
    """Write every generated part that differs, and name it."""
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    wanted = {page: filled(page.read_text("utf-8")) for page in pages}
    wanted |= {ROOT / "docs/reference" / f"{program}.md": reference(program) for program in PROGRAMS}
    for page, text in wanted.items():
        if not page.is_file() or page.read_text("utf-8") != text:
            page.parent.mkdir(parents=True, exist_ok=True)
            page.write_text(text, "utf-8")
            print(f"wrote {page.relative_to(ROOT)}")


if __name__ == "__main__":
    main()

"""Progress and tables on stderr, by rich; plain lines where stderr is no terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import click

from outrider_compiler.progress import Progress

if TYPE_CHECKING:
    from rich.progress import Progress as Bars

    from outrider_compiler.outcome import Outcome

TABLE_WIDTH: Final = 110


class Console:
    """What people see of a build."""

    @contextmanager
    def progress(self, profiles: int) -> Iterator[Progress]:
        """An onlooker of a build for so many profiles: bars on a terminal, a line for each stage elsewhere."""
        if not sys.stderr.isatty():
            yield Lines()
            return
        from rich.console import Console as Terminal
        from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as Bars

        columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        with Bars(*columns, TimeElapsedColumn(), console=Terminal(stderr=True), transient=True) as bars:
            yield Bar(bars, profiles)

    def table(self, report: dict[str, Any]) -> None:
        """The verdicts of a report."""
        from rich.console import Console as Terminal
        from rich.table import Table

        terminal = Terminal(stderr=True, soft_wrap=True)
        terminal.width = max(terminal.width, TABLE_WIDTH)
        for name, profile in report["profiles"].items():
            table = Table(title=name, title_justify="left", show_edge=False)
            for column in ("candidate", "bytes", "µs", "× fp32", "primary", "agreement", "SQNR dB", "verdict"):
                table.add_column(column, justify="left" if column in ("candidate", "verdict") else "right")
            for item in profile["candidates"]:
                table.add_row(*_cells(item))
            terminal.print(table if profile["candidates"] else f"[bold]{name}[/bold]")
            terminal.print(profile["reason"], markup=False, highlight=False)
            terminal.print()

    def side_by_side(self, comparison: dict[str, Any]) -> None:
        """Two releases, on stdout."""
        from rich.console import Console as Terminal
        from rich.markup import escape
        from rich.table import Table

        from outrider_compiler.report import side_by_side

        terminal = Terminal(soft_wrap=True)
        terminal.width = max(terminal.width, TABLE_WIDTH)
        terminal.print(f"[bold]{escape(side_by_side.title(comparison))}[/bold]", highlight=False)
        for text in side_by_side.notes(comparison):
            terminal.print(text, markup=False, highlight=False)
        changed = side_by_side.differences(comparison)
        parts = {name: side_by_side.rows(profile) for name, profile in comparison["profiles"].items()}
        for name, rows in [*parts.items(), *([("what else differs", changed)] if changed else [])]:
            table = Table(title=escape(name), title_justify="left", show_edge=False)
            for column in ("", "A", "B", "B beside A"):
                table.add_column(column)
            for row in rows:
                table.add_row(*map(escape, row))
            terminal.print(table)


class Lines:
    """A line for each stage, for logs."""

    def say(self, text: str) -> None:
        """One line."""
        click.echo(f"· {text}", err=True)

    def step(self, done: int, total: int) -> None:
        """A log needs no counting."""

    def outcome(self, outcome: Outcome) -> None:
        """The table comes at the end."""


class Bar:
    """Two bars: profiles that are decided, and steps of the stage at hand; what was decided stays above them."""

    def __init__(self, bars: Bars, profiles: int) -> None:
        self._bars = bars
        self._whole = bars.add_task("profiles", total=profiles)
        self._stage = bars.add_task("starting", total=None)

    def say(self, text: str) -> None:
        """Begin a stage whose length is unknown yet."""
        from rich.markup import escape

        self._bars.reset(self._stage, description=escape(text), total=None, completed=0)

    def step(self, done: int, total: int) -> None:
        """Move the stage's bar."""
        self._bars.update(self._stage, completed=done, total=total)

    def outcome(self, outcome: Outcome) -> None:
        """Move the bar of profiles, and leave a line that stays."""
        from rich.markup import escape

        self._bars.advance(self._whole)
        chosen = outcome.choice.chosen if outcome.choice else "no artifact"
        self._bars.console.print(f"{escape(outcome.profile)}: {escape(chosen)}", highlight=False)


def _cells(item: dict[str, Any]) -> list[str]:
    lowest, primary = min(item["sqnr_db"].values(), default=0.0), item["metrics"][item["primary"]]["value"]
    return [
        item["name"],
        str(item["size_bytes"]),
        f"{item['latency_us']:.1f}",
        f"{item['latency_ratio']:.2f}",
        f"{primary:.4f}",
        f"{item['agreement']:.3f}",
        f"{lowest:.1f}",
        item["verdict"],
    ]

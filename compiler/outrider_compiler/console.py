"""Progress and tables on stderr, by rich; plain lines where stderr is no terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import click

TABLE_WIDTH: Final = 110


class Console:
    """What people see of a build."""

    @contextmanager
    def progress(self) -> Iterator[Callable[[str], None]]:
        """Yields a function that says what is being done."""
        if not sys.stderr.isatty():
            yield lambda text: click.echo(f"· {text}", err=True)
            return
        from rich.console import Console as Terminal

        with Terminal(stderr=True).status("starting") as status:
            yield status.update

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


def _cells(item: dict[str, Any]) -> list[str]:
    lowest, primary = min(item["sqnr_db"].values()), item["metrics"][item["primary"]]["value"]
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

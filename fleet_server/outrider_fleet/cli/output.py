"""How answers are printed: aligned columns for people, JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import click


def emit(value: Any, *, as_json: bool, columns: Sequence[str] = ()) -> None:
    """Print an answer: JSON where asked for, a table of `columns` for a list, `key: value` lines for an object."""
    if as_json:
        click.echo(json.dumps(value, indent=2, ensure_ascii=False))
    elif isinstance(value, Mapping):
        click.echo("\n".join(f"{key}: {cell(key, item)}" for key, item in value.items() if item not in (None, [], {})))
    elif value:
        click.echo(table(value, columns))
    else:
        click.echo("none")


def table(rows: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> str:
    """Aligned columns under their names; what a row lacks is a dash."""
    cells = [[name.removesuffix("_ms") for name in columns]]
    cells += [[cell(name, row.get(name)) for name in columns] for row in rows]
    widths = [max(len(row[i]) for row in cells) for i in range(len(columns))]
    return "\n".join(
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in cells
    )


def cell(name: str, value: Any) -> str:
    """One value in words: times in UTC, digests shortened, control characters made visible."""
    if value is None or value == "":
        return "-"
    if name.endswith("_ms") and isinstance(value, int):
        return datetime.fromtimestamp(value / 1000, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    if isinstance(value, float):
        return f"{value:.4g}"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    if text.startswith("sha256:") and len(text) == 71:
        return text[:19]
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)

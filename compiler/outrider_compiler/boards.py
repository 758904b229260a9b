"""What `profiles` prints: a line for each board, or everything about one with its sources."""

from __future__ import annotations

import dataclasses
from typing import Any, Final

from outrider_profiles import Profile, Provider, Range

_APART: Final = {"name", "title", "sources"}


def line(board: Profile) -> str:
    """One board on one line."""
    proof = "tried on hardware" if board.verified_on_hardware else "from documents"
    engine = f"{board.engine.name} {board.engine.versions}"
    return f"{board.name:17} {board.title} · {engine} · {', '.join(board.precisions)} · {proof}"


def page(board: Profile) -> str:
    """All that a board's file says, each figure above its source."""
    lines = [f"{board.name}: {board.title}"]
    for field in dataclasses.fields(board):
        if field.name not in _APART:
            lines.append(f"  {field.name:21} {_text(getattr(board, field.name))}")
            lines += [f"{'':25}source: {board.sources[field.name]}"] if field.name in board.sources else []
    return "\n".join(lines)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Range):
        return f"{value.min} to {value.max}"
    if isinstance(value, Provider):
        return f"{value.name} ({_text(value.options)})" if value.options else value.name
    if dataclasses.is_dataclass(value):
        return "; ".join(f"{key} {_text(item)}" for key, item in vars(value).items())
    if isinstance(value, dict):
        return ", ".join(f"{key}={_text(item)}" for key, item in value.items())
    if isinstance(value, tuple):
        separator = " → " if value and isinstance(value[0], Provider) else ", "
        return separator.join(map(_text, value)) or "none"
    return f"{value:,}".replace(",", " ") if isinstance(value, int) else str(value)

"""A SQLite file as an outsider reads it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any


def rows(path: Path, statement: str, *values: object) -> list[tuple[Any, ...]]:
    """What a statement gives, read-only."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=30)) as database:
        return database.execute(statement, values).fetchall()

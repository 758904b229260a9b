"""The table of guards: each check of trust, how it is taken away, and the test that must then fail.

1. `guards.toml` holds `[RULE.name]` tables; a guard's id is `RULE.name`.
2. A guard's text stands once in its file. Where it does not, the guard has moved: an error, never a pass.
3. Where two guards catch the same thing, each names the other in `also`: they are taken away together.
4. `needs` names a program that the test needs: where it is missing the guard is not tried, and that is said.
5. `hang = true` says that without the guard the test never ends; else a test that does not end has noticed nothing.
"""

from __future__ import annotations

import ast
import shutil
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from tests.architecture.tree import DISTRIBUTIONS, ROOT

TABLE = Path(__file__).with_name("guards.toml")
LIMIT_S = 90.0
PROGRAMS = "/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin"


class GuardMovedError(Exception):
    """The table and the tree say different things: bring the table up to date."""


@dataclass(frozen=True)
class Guard:
    """One check: `text` of `file` becomes `becomes`; then `test` must fail within `limit_s`."""

    id: str
    file: str
    text: str
    becomes: str
    test: str
    also: tuple[str, ...] = ()
    needs: str = ""
    hang: bool = False
    limit_s: float = LIMIT_S

    @property
    def rule(self) -> str:
        """The rule of docs/spec that it keeps."""
        return self.id.partition(".")[0]

    @property
    def can_be_tried(self) -> bool:
        """Whether what the test needs is on this machine."""
        return not self.needs or shutil.which(self.needs, path=PROGRAMS) is not None

    @property
    def inside(self) -> Path:
        """The file's path from the folder of its distribution: `outrider_agent/…`."""
        return Path(*Path(self.file).parts[1:])

    def applied(self, source: str) -> str:
        """The source without this guard; raises `GuardMovedError`."""
        found = source.count(self.text)
        if found != 1:
            raise GuardMovedError(f"{self.id}: its text stands {found} times in {self.file}")
        return source.replace(self.text, self.becomes)


def guards(table: Path = TABLE) -> dict[str, Guard]:
    """Every guard by its id, in the order of the table; raises `GuardMovedError` for a field that nobody knows."""
    rules: dict[str, dict[str, dict[str, Any]]] = tomllib.loads(table.read_text("utf-8"))
    return {
        f"{rule}.{name}": _guard(f"{rule}.{name}", row) for rule, rows in rules.items() for name, row in rows.items()
    }


def _guard(identity: str, row: dict[str, Any]) -> Guard:
    try:
        return Guard(identity, **{**row, "also": tuple(row.get("also", ()))})
    except TypeError as error:
        raise GuardMovedError(f"{identity}: {error}") from error


def with_others(guard: Guard, known: dict[str, Guard]) -> list[Guard]:
    """The guard and those that are taken away with it."""
    return [guard, *(known[other] for other in guard.also)]


def mutated(taken: Sequence[Guard], root: Path = ROOT) -> dict[Path, str]:
    """Path within the distributions → source without the guards; raises `GuardMovedError`, also for no Python."""
    sources: dict[Path, str] = {}
    for guard in taken:
        if Path(guard.file).parts[0] not in DISTRIBUTIONS:
            raise GuardMovedError(f"{guard.id}: {guard.file} is of no distribution")
        before = sources.get(guard.inside) or (root / guard.file).read_text("utf-8")
        sources[guard.inside] = guard.applied(before)
    for path, text in sources.items():
        try:
            ast.parse(text)
        except SyntaxError as error:
            raise GuardMovedError(f"{taken[0].id}: without it {path} does not compile ({error})") from error
    return sources


@cache
def functions_of(path: Path) -> set[str]:
    """The names of a file's test functions."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, kinds)}


def markdown(table: Path = TABLE) -> str:
    """The table for docs/spec/trust.md."""
    rows = ["| guard | file | test that fails without it |", "|---|---|---|"]
    for guard in guards(table).values():
        path, _, test = guard.test.partition("::")
        also = f" (with {', '.join(f'`{other}`' for other in guard.also)})" if guard.also else ""
        rows.append(f"| `{guard.id}`{also} | `{guard.file}` | `{path.removeprefix('tests/')}::{test}` |")
    return "\n".join(rows)

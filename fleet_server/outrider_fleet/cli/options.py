"""Options and argument forms that several commands share."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import click

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


class KeyNumber(click.ParamType[tuple[str, float]]):
    """`name=number`."""

    name = "name=number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, float]:
        """Split and convert, or fail with a usage error."""
        key, _, number = str(value).partition("=")
        try:
            found = float(number)
        except ValueError:
            self.fail(f"{value!r} is not name=number", param, ctx)
        if not math.isfinite(found):
            self.fail(f"{value!r} is not name=number", param, ctx)
        return key, found


def read_json(path: Path) -> Any:
    """The JSON in a file, or a usage error that names it."""
    try:
        return json.loads(path.read_bytes())
    except ValueError as error:
        raise click.UsageError(f"{path}: not JSON ({error})") from error


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file, or a usage error that names it."""
    value = read_json(path)
    if not isinstance(value, dict):
        raise click.UsageError(f"{path}: a JSON object is expected")
    return value

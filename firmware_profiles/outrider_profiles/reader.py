"""Reads a TOML table into a frozen dataclass by its type hints.

Known hints: str, int, bool, tuple[str, ...], dict[str, str], other dataclasses (nested tables) and tuples of them
(arrays of tables).
"""

from __future__ import annotations

import dataclasses
import typing
from typing import Any, TypeVar, cast

from outrider_profiles.errors import ProfileFileError

T = TypeVar("T")


class Table:
    """One table of a file; `prefix` is its dotted key ('' at the top)."""

    def __init__(self, value: dict[str, Any], file: str, prefix: str) -> None:
        self.value, self.file, self.prefix = value, file, prefix

    def read(self, kind: type[T]) -> T:
        """Return the dataclass `kind`; raises `ProfileFileError` for unknown, missing or wrong keys."""
        hints = typing.get_type_hints(kind)
        fields = dataclasses.fields(cast(Any, kind))
        for key in self.value:
            if key not in hints:
                raise self._error(key, "unknown key")
        for item in fields:
            optional = item.default is not dataclasses.MISSING or item.default_factory is not dataclasses.MISSING
            if item.name not in self.value and not optional:
                raise self._error(item.name, "missing")
        return kind(**{key: self._convert(key, hints[key]) for key in self.value})

    def _convert(self, key: str, hint: Any) -> Any:
        value = self.value[key]
        if dataclasses.is_dataclass(hint):
            table = self._typed(key, value, dict, "a table")
            return Table(table, self.file, self._dotted(key)).read(cast(type[Any], hint))
        if typing.get_origin(hint) is tuple:
            return self._sequence(key, value, typing.get_args(hint)[0])
        if typing.get_origin(hint) is dict:
            table = self._typed(key, value, dict, "a table")
            return {name: self._text(f"{key}.{name}", item) for name, item in table.items()}
        return self._plain(key, value, hint)

    def _sequence(self, key: str, value: Any, kind: Any) -> tuple[Any, ...]:
        if not dataclasses.is_dataclass(kind):
            return tuple(self._text(key, item) for item in self._typed(key, value, list, "a list of strings"))
        items = self._typed(key, value, list, "an array of tables")
        tables = [self._typed(f"{key}[{i}]", item, dict, "a table") for i, item in enumerate(items)]
        return tuple(
            Table(table, self.file, self._dotted(f"{key}[{i}]")).read(cast(type[Any], kind))
            for i, table in enumerate(tables)
        )

    def _plain(self, key: str, value: Any, hint: Any) -> Any:
        if hint is str:
            return self._text(key, value)
        if type(value) is not hint:  # a bool is no integer here
            raise self._error(key, f"{hint.__name__} expected, not {type(value).__name__} {value!r}")
        return value

    def _text(self, key: str, value: Any) -> str:
        text: str = self._typed(key, value, str, "a string")
        if not text.strip():
            raise self._error(key, "empty")
        return text

    def _typed(self, key: str, value: Any, kind: type, what: str) -> Any:
        if not isinstance(value, kind):
            raise self._error(key, f"{what} expected, not {type(value).__name__} {value!r}")
        return value

    def _dotted(self, key: str) -> str:
        return f"{self.prefix}.{key}" if self.prefix else key

    def _error(self, key: str, reason: str) -> ProfileFileError:
        return ProfileFileError(self.file, self._dotted(key), reason)

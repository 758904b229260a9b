"""Typed access to a decoded JSON object, with errors that name document and field.

1. Unknown fields are ignored, unless the object lists them in `crit`.
2. A missing field, a wrong type or a number out of range is a `MalformedError`.

>>> reader = Fields({"v": 1, "seq": 7, "new": True}, "ack")
>>> reader.integer("seq")
7
>>> reader.integer("v", high=0)
Traceback (most recent call last):
    ...
outrider_protocol.errors.MalformedError: ack.v: 1 is not within 0..0
"""

from __future__ import annotations

import math
from typing import Any, TypeVar

from outrider_protocol import limits
from outrider_protocol.errors import MalformedError, UnsupportedError

VERSION = 1
T = TypeVar("T")


class Fields:
    """Reads one JSON object field by field."""

    def __init__(self, value: dict[str, Any], what: str) -> None:
        self.value, self.what = value, what

    def versioned(self, known: frozenset[str]) -> Fields:
        """Check `v` and `crit`; `known` are the field names that this side understands."""
        if self.integer("v", low=1) != VERSION:
            raise UnsupportedError(f"{self.what}: version {self.value['v']}, this side speaks {VERSION}")
        for name in self.texts("crit") if "crit" in self.value else ():
            if name not in known:
                raise UnsupportedError(f"{self.what}: the critical field {name!r} is not known here")
        return self

    def text(self, name: str, *, limit: int = 4096) -> str:
        """A string of at most `limit` characters."""
        value = self._typed(name, str)
        if len(value) > limit:
            raise MalformedError(f"{self.what}.{name}: longer than {limit} characters")
        return value

    def integer(self, name: str, *, low: int = 0, high: int = limits.SEQ_MAX) -> int:
        """An integer (never a bool) within low..high."""
        value = self._typed(name, int)
        if isinstance(value, bool) or not low <= value <= high:
            raise MalformedError(f"{self.what}.{name}: {value} is not within {low}..{high}")
        return value

    def number(self, name: str) -> float:
        """A finite number."""
        return finite(self._get(name), f"{self.what}.{name}")

    def flag(self, name: str) -> bool:
        """True or false."""
        return self._typed(name, bool)

    def optional_text(self, name: str) -> str | None:
        """A string, or None where the field is absent or null."""
        return None if self.value.get(name) is None else self.text(name)

    def optional_object(self, name: str) -> Fields | None:
        """An object, or None where the field is absent or null."""
        return None if self.value.get(name) is None else self.object(name)

    def object(self, name: str) -> Fields:
        """A nested object."""
        return Fields(self._typed(name, dict), f"{self.what}.{name}")

    def raw(self, name: str) -> dict[str, Any]:
        """A nested object as it is, an empty one where absent."""
        return self._typed(name, dict) if name in self.value else {}

    def objects(self, name: str) -> list[Fields]:
        """A list of objects."""
        return [
            Fields(as_object(item, self.what), f"{self.what}.{name}[{i}]") for i, item in enumerate(self.list(name))
        ]

    def list(self, name: str) -> list[Any]:
        """A list of anything."""
        return self._typed(name, list)

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of strings."""
        items = self.list(name)
        if not all(isinstance(item, str) for item in items):
            raise MalformedError(f"{self.what}.{name}: only strings are allowed")
        return tuple(items)

    def numbers(self, name: str) -> dict[str, float]:
        """An object whose values are finite numbers."""
        return {key: finite(value, f"{self.what}.{name}.{key}") for key, value in self.raw(name).items()}

    def integers(self, name: str) -> dict[str, int]:
        """An object whose values are non-negative integers."""
        inner = Fields(self.raw(name), f"{self.what}.{name}")
        return {key: inner.integer(key) for key in inner.value}

    def _get(self, name: str) -> Any:
        try:
            return self.value[name]
        except KeyError:
            raise MalformedError(f"{self.what}.{name}: missing") from None

    def _typed(self, name: str, kind: type[T]) -> T:
        value = self._get(name)
        if not isinstance(value, kind):
            raise MalformedError(f"{self.what}.{name}: {kind.__name__} expected, not {type(value).__name__}")
        return value


def finite(value: object, what: str) -> float:
    """Return a finite number as it is; `MalformedError` otherwise."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not _is_finite(value):
        raise MalformedError(f"{what}: a finite number is expected, not {value!r:.40}")
    return value


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer beyond every float
        return False


def as_object(value: object, what: str) -> dict[str, Any]:
    """Return a JSON object as it is; `MalformedError` otherwise."""
    if not isinstance(value, dict):
        raise MalformedError(f"{what}: an object is expected, not {type(value).__name__}")
    return value

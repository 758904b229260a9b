r"""Canonical JSON: one value, one byte string.

1. Keys sorted by code point, no white space, UTF-8 unescaped, no NaN or infinity.
2. A reader states its limit in bytes and is refused before parsing when it is exceeded.
3. Duplicate keys, nesting beyond `limits.JSON_DEPTH`, non-objects at the top and text that UTF-8 cannot carry (a lone
   surrogate, escaped) are refused: what was read can be written.

>>> encode({"b": 1, "a": "ü"})
b'{"a":"\xc3\xbc","b":1}'
>>> decode(b'{"a":1}', limit_bytes=100)
{'a': 1}
"""

from __future__ import annotations

import json
from typing import Any, NoReturn

from outrider_protocol import limits
from outrider_protocol.errors import MalformedError, TooLargeError


def encode(value: object) -> bytes:
    """Return the canonical bytes of a JSON value; `MalformedError` if it is none."""
    try:
        text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        return text.encode("utf-8")
    except (TypeError, ValueError) as error:
        raise MalformedError(f"not a JSON value: {error}") from error


def decode(data: bytes, limit_bytes: int, what: str = "document") -> dict[str, Any]:
    """Parse one JSON object of at most `limit_bytes`; raises `TooLargeError` or `MalformedError`."""
    if len(data) > limit_bytes:
        raise TooLargeError(what, len(data), limit_bytes)
    try:
        value = json.loads(data.decode("utf-8"), object_pairs_hook=_no_duplicates, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:  # not UTF-8, not JSON, or a number of more digits than Python reads
        raise MalformedError(f"{what}: not JSON ({error})") from error
    if not isinstance(value, dict):
        raise MalformedError(f"{what}: an object is expected, not {type(value).__name__}")
    _check_depth(value, what)
    if b"\\u" in data:
        encode(value)
    return value


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise MalformedError("an object names a key twice")
    return result


def _no_constant(name: str) -> NoReturn:
    raise MalformedError(f"{name} is not a JSON number")


def _check_depth(value: object, what: str) -> None:
    level: list[object] = [value]
    for _ in range(limits.JSON_DEPTH):
        level = [child for parent in level for child in _children(parent)]
        if not level:
            return
    raise MalformedError(f"{what}: nested deeper than {limits.JSON_DEPTH}")


def _children(value: object) -> list[object]:
    if isinstance(value, dict):
        return list(value.values())
    return list(value) if isinstance(value, list) else []

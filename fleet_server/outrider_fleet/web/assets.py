"""Static files out of the package: styles, two scripts, one picture; nothing comes from elsewhere.

1. Only the files named here are served.
2. A page names each file with its version (`?v=` and a piece of its SHA-256), so that it may be kept for a year.
"""

import hashlib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Final

_TYPES: Final = {
    "outrider.css": "text/css; charset=utf-8",
    "live.js": "text/javascript; charset=utf-8",
    "vendor/htmx.min.js": "text/javascript; charset=utf-8",
    "vendor/htmx.LICENSE.txt": "text/plain; charset=utf-8",
    "outrider.svg": "image/svg+xml",
}


@dataclass(frozen=True)
class Asset:
    """One file: its bytes, media type and version (16 hex digits)."""

    body: bytes
    media_type: str
    version: str


@cache
def asset(name: str) -> Asset | None:
    """A static file by its name, or `None`."""
    if name not in _TYPES:
        return None
    body = (files("outrider_fleet.web") / "static" / name).read_bytes()
    return Asset(body, _TYPES[name], hashlib.sha256(body).hexdigest()[:16])


def url(name: str) -> str:
    """Where a page finds a static file; raises `KeyError` for one that is not served."""
    found = asset(name)
    if found is None:
        raise KeyError(name)
    return f"/static/{name}?v={found.version}"

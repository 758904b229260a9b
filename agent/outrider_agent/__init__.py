"""The device side of Outrider: supervisor, update process, inference workers, telemetry, drift, local API."""

from typing import Final

VERSION: Final = "0.1.0"

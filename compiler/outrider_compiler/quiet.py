"""Libraries that talk while they work: their advice is for their own users, ours comes from the report.

ONNX Runtime (from 1.32 on Linux too) makes a device id and sends events from the moment it is imported; only a variable
of the environment keeps it from that.
"""

from __future__ import annotations

import logging
import os
from typing import Final

NO_TELEMETRY: Final = {"ORT_DISABLE_TELEMETRY": "1"}


class NoQuantizationAdvice(logging.Filter):
    """Drops ONNX Runtime's advice to simplify the model first: `normalise` has done it."""

    def filter(self, record: logging.LogRecord) -> bool:
        """False for the advice."""
        return "run pre-processing before quantization" not in record.getMessage()


def libraries() -> None:
    """Before ONNX Runtime is imported: no telemetry, and the filter once on the root logger that it writes to."""
    os.environ.update(NO_TELEMETRY)
    root = logging.getLogger()
    if not any(isinstance(item, NoQuantizationAdvice) for item in root.filters):
        root.addFilter(NoQuantizationAdvice())

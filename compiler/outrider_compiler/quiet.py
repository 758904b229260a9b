"""Libraries that talk while they work: their advice is for their own users, ours comes from the report."""

from __future__ import annotations

import logging


class NoQuantizationAdvice(logging.Filter):
    """Drops ONNX Runtime's advice to simplify the model first: `normalise` has done it."""

    def filter(self, record: logging.LogRecord) -> bool:
        """False for the advice."""
        return "run pre-processing before quantization" not in record.getMessage()


def libraries() -> None:
    """Install the filter once, on the root logger that ONNX Runtime writes to."""
    root = logging.getLogger()
    if not any(isinstance(item, NoQuantizationAdvice) for item in root.filters):
        root.addFilter(NoQuantizationAdvice())

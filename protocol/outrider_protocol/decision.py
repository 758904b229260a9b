"""What the deciding output of a model means: one definition for the compiler, the worker in charge and its shadow.

1. Classification: the output holds class probabilities [N, K].
2. Anomaly: a score [N] or [N, 1]; above `threshold` is an anomaly (class 1 of 2). Its probability is the logistic of
   the distance to the threshold in units of `scale`.
3. Regression: values [N] or [N, D]; there is one class. Two answers differ where they fall into different steps of
   `scale`: a difference of d is seen with probability min(1, d / scale).

numpy is imported by who calls: the supervisor loads this module and never a tensor.

>>> import numpy as np
>>> Decision("anomaly", threshold=2.0, scale=0.5).probabilities(np.array([1.0, 3.0])).argmax(axis=1).tolist()
[0, 1]
>>> Decision("regression", scale=0.1).verdicts(np.array([[0.51], [0.58], [0.71]])).tolist()
[5, 5, 7]
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from outrider_protocol.errors import MalformedError
from outrider_protocol.fields import Fields

TASKS: Final = ("classification", "regression", "anomaly")
CLASSES: Final = {"regression": ("value",), "anomaly": ("normal", "anomaly")}
_STEP_MAX: Final = 2**53


@dataclass(frozen=True)
class Decision:
    """`threshold` in the score's own unit (anomaly); `scale` > 0 in the output's own unit."""

    task: str = "classification"
    threshold: float = 0.0
    scale: float = 1.0

    def json(self) -> dict[str, Any]:
        """The JSON form."""
        return dict(vars(self))

    @classmethod
    def read(cls, fields: Fields) -> Decision:
        """Read the JSON form; raises `MalformedError`."""
        task, scale = fields.text("task", limit=32), fields.number("scale")
        if task not in TASKS:
            raise MalformedError(f"{fields.what}.task: {task!r} is not one of {', '.join(TASKS)}")
        if scale <= 0:
            raise MalformedError(f"{fields.what}.scale: {scale} is not positive")
        return cls(task, fields.number("threshold"), scale)

    def probabilities(self, output: Any) -> Any:
        """Class probabilities [N, K] of the deciding output [N, …]."""
        rows = output.reshape(len(output), -1)
        if self.task == "classification":
            return rows
        import numpy as np

        if self.task == "regression":
            return np.ones((len(rows), 1), dtype=np.float32)
        return np.stack([1 - self._anomalous(rows), self._anomalous(rows)], axis=1).astype(np.float32)

    def _anomalous(self, rows: Any) -> Any:
        import numpy as np

        distance = (rows[:, 0].astype(np.float64) - self.threshold) / self.scale
        return 1 / (1 + np.exp(-np.clip(distance, -30, 30)))

    def verdicts(self, output: Any) -> Any:
        """What two models are compared by, int64 [N]: the class, or the value's step of `scale`."""
        import numpy as np

        rows = output.reshape(len(output), -1)
        if self.task == "classification":
            return rows.argmax(axis=1)
        if self.task == "anomaly":
            return (rows[:, 0] > self.threshold).astype(np.int64)
        most = _STEP_MAX * self.scale
        values = np.nan_to_num(rows[:, 0].astype(np.float64), posinf=most, neginf=-most)
        return np.floor(np.clip(values, -most, most) / self.scale).astype(np.int64)

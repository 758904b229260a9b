"""What the gate asks of every task."""

from __future__ import annotations

from typing import Any, Protocol

from outrider_compiler.data import Array
from outrider_compiler.metrics.figure import Difference, Figure
from outrider_protocol.decision import Decision


class Task(Protocol):
    """`output` [N, …] is the deciding output of a model, `y` [N, …] the truth."""

    @property
    def name(self) -> str:
        """Word of the request."""

    @property
    def primary(self) -> str:
        """Figure whose loss is gated."""

    @property
    def skilled(self) -> str:
        """Figure that must beat the no-skill baseline."""

    @property
    def decision(self) -> Decision:
        """What the device needs to know of the deciding output."""

    def labels(self, y: Array | None) -> Array:
        """The checked truth; raises `DataError`."""

    def figures(self, output: Array, y: Array) -> dict[str, Figure]:
        """Every figure that fits."""

    def primary_value(self, output: Array, y: Array) -> float:
        """The primary figure alone, without its interval."""

    def measurable(self, y: Array) -> bool:
        """Whether the primary figure exists for these labels (a slice may lack a kind)."""

    def drop(self, source: Array, output: Array, y: Array) -> Difference:
        """Loss of the primary figure against the source's output; positive is worse, 0.01 is one point."""

    def agreement(self, source: Array, output: Array) -> float:
        """Share of samples that both answer alike."""

    def per_class(self, output: Array, y: Array) -> dict[str, dict[str, Any]]:
        """Precision, recall, F1 and n by class; {} where there are no classes."""

"""Reference statistics: what the artifact's calibration set looked like to the shipped model.

1. Computed on the quantized model, signed with the artifact, the same for every device.
2. `bins` have equal edges everywhere, so counts merge exactly by addition.
3. `class_means[k]` and `precision` give Mahalanobis distances to the predicted class.
4. `scores[name][k]` are sorted quantiles of a score among calibration samples predicted as k.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from outrider_protocol import canonical, limits
from outrider_protocol.errors import MalformedError
from outrider_protocol.fields import VERSION, Fields, finite

Vector = tuple[float, ...]
Matrix = tuple[Vector, ...]


@dataclass(frozen=True)
class Bins:
    """Histogram of one variable: `counts` has one entry more than the sorted inner `edges`."""

    name: str
    edges: Vector
    counts: tuple[int, ...]


@dataclass(frozen=True)
class Gaussian:
    """Class-conditional means [K][D] with one pooled precision matrix [D][D]; a class never seen has an empty mean."""

    class_means: Matrix
    precision: Matrix


@dataclass(frozen=True)
class ReferenceStatistics:
    """The statistics layer of an artifact; `n` samples, `class_counts[k]` predicted as class k."""

    classes: tuple[str, ...]
    n: int
    class_counts: tuple[int, ...]
    bins: tuple[Bins, ...]
    embedding: Gaussian | None
    channels: Gaussian | None
    scores: dict[str, Matrix] = field(default_factory=dict)
    accuracy: float | None = None
    average_run_length: int = 10_000

    def encode(self) -> bytes:
        """Canonical bytes."""
        return canonical.encode({"v": VERSION, **asdict(self)})

    @classmethod
    def decode(cls, data: bytes) -> ReferenceStatistics:
        """Parse a layer whose digest was verified; raises `MalformedError`."""
        fields = Fields(canonical.decode(data, limits.STATISTICS_BYTES, "statistics"), "statistics")
        fields.versioned(frozenset(cls.__dataclass_fields__) | {"v"})
        classes = fields.texts("classes")
        return cls(
            classes=classes,
            n=fields.integer("n"),
            class_counts=_counts(fields, "class_counts", len(classes)),
            bins=tuple(map(_bins, fields.objects("bins"))),
            embedding=_gaussian(fields, "embedding", len(classes)),
            channels=_gaussian(fields, "channels", len(classes)),
            scores={name: _matrix(value, f"scores.{name}") for name, value in fields.raw("scores").items()},
            accuracy=None if fields.value.get("accuracy") is None else fields.number("accuracy"),
            average_run_length=fields.integer("average_run_length", low=1),
        )


def _counts(fields: Fields, name: str, length: int) -> tuple[int, ...]:
    values = tuple(fields.list(name))
    if len(values) != length or not all(isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in values):
        raise MalformedError(f"{fields.what}.{name}: {length} non-negative integers are expected")
    return values


def _bins(fields: Fields) -> Bins:
    edges = _vector(fields.list("edges"), f"{fields.what}.edges")
    if list(edges) != sorted(edges):
        raise MalformedError(f"{fields.what}.edges: not sorted")
    return Bins(fields.text("name"), edges, _counts(fields, "counts", len(edges) + 1))


def _gaussian(fields: Fields, name: str, classes: int) -> Gaussian | None:
    inner = fields.optional_object(name)
    if inner is None:
        return None
    means, precision = _matrix(inner.list("class_means"), f"{name}.class_means"), _matrix(inner.list("precision"), name)
    size = len(precision)
    shapes_fit = len(means) == classes and all(len(mean) in (0, size) for mean in means)
    if not shapes_fit or any(len(row) != size for row in precision):
        raise MalformedError(f"statistics.{name}: the shapes of means and precision do not fit")
    return Gaussian(means, precision)


def _matrix(value: Any, what: str) -> Matrix:
    if not isinstance(value, list):
        raise MalformedError(f"statistics.{what}: a list of lists is expected")
    return tuple(_vector(row, what) for row in value)


def _vector(value: Any, what: str) -> Vector:
    if not isinstance(value, list):
        raise MalformedError(f"statistics.{what}: a list of numbers is expected")
    return tuple(finite(item, what) for item in value)

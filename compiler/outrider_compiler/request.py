"""What a build is asked for, and the limits of its gate. Frozen; nothing here reads a file."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from outrider_compiler.errors import UsageError
from outrider_profiles import PRECISIONS
from outrider_protocol import ids
from outrider_protocol.decision import TASKS
from outrider_protocol.errors import MalformedError


@dataclass(frozen=True)
class Gate:
    """What a candidate must reach, compared with the source model on the evaluation set.

    Drops are absolute (0.005 = half a point) and of the task's primary figure; `sqnr_min_db` is for every compared
    output; `latency_ratio_max` is the paired ratio to fp32 in the same load mode. `unmeasured_latency` lets a latency
    budget pass that only the board can judge: for releases that are built to be measured there.
    """

    agreement_min: float = 0.98
    sqnr_min_db: float = 20.0
    primary_drop_max: float = 0.005
    balanced_drop_ratio_max: float = 0.01
    slice_drop_max: float = 0.02
    latency_ratio_max: float = 1.0
    unmeasured_latency: bool = False

    def with_limits(self, words: tuple[str, ...]) -> Gate:
        """`name=number` each; raises `UsageError`."""
        known = [item.name for item in fields(self) if item.type == "float"]
        changed: dict[str, float] = {}
        for word in words:
            name, _, text = word.partition("=")
            if name not in known:
                raise UsageError(f"--gate {word!r}: {name!r} is not one of {', '.join(known)}")
            changed[name] = _number(word, text)
        return replace(self, **changed)  # type: ignore[arg-type]  # every name is a float's


def _number(word: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError as error:
        raise UsageError(f"--gate {word!r}: {text!r} is no number") from error
    if not math.isfinite(value):
        raise UsageError(f"--gate {word!r}: {text!r} is not finite")
    return value


@dataclass(frozen=True)
class Preprocessing:
    """What is done to the raw input, in this order; see docs/spec/preprocess.md.

    `window` last steps of axis 1; `resize` to (height, width); `layout` from raw to the model's axes, one letter each
    (equal: named only); `scale` is (factor, offset); `normalise` (means, deviations), one each or one a channel.
    `input` names the input where the model has several.
    """

    window: int | None = None
    resize: tuple[int, int] | None = None
    resize_mode: str = "linear"
    layout: tuple[str, str] | None = None
    scale: tuple[float, float] | None = None
    normalise: tuple[tuple[float, ...], tuple[float, ...]] | None = None
    input: str | None = None

    @property
    def asked(self) -> bool:
        """Whether there is anything to do."""
        return any(item is not None for item in (self.window, self.resize, self.layout, self.scale, self.normalise))

    def words(self) -> dict[str, Any]:
        """As it stands in the lock: what is asked for alone."""
        if not self.asked:
            return {}
        named = {
            "window": self.window,
            "resize": self.resize and [*self.resize, self.resize_mode],
            "layout": self.layout and list(self.layout),
            "scale": self.scale and list(self.scale),
            "normalise": self.normalise and [list(values) for values in self.normalise],
            "input": self.input,
        }
        return {name: value for name, value in named.items() if value is not None}


@dataclass(frozen=True)
class BuildRequest:
    """One build. `source` is a path or `module:callable`; `profiles` are names or paths of TOML files.

    `precisions`: build these beside fp32 and no others; one that changes nothing is then an error. `slices`: names of
    `slice:<name>` arrays in the evaluation set. `measured`: files of `outrider-compiler bench`. `for_bench`: every
    candidate travels with the release, which may be measured and not signed.
    """

    source: str
    name: str
    version: str
    counter: int
    profiles: tuple[str, ...]
    calibration: Path
    evaluation: Path
    out: Path
    task: str = "classification"
    architecture: str | None = None
    classes: tuple[str, ...] = ()
    embedding: str | None = None
    probabilities: str | None = None
    precisions: tuple[str, ...] = ()
    slices: tuple[str, ...] = ()
    robustness: bool = False
    measured: tuple[Path, ...] = ()
    for_bench: bool = False
    locked: Path | None = None
    provenance: Path | None = None
    gate: Gate = field(default_factory=Gate)
    preprocess: Preprocessing = field(default_factory=Preprocessing)

    @property
    def judging(self) -> Gate:
        """The gate as it is applied: a release that is built to be measured may have a latency that nobody knows."""
        return replace(self.gate, unmeasured_latency=self.for_bench or self.gate.unmeasured_latency)

    def check(self) -> None:
        """Raise `UsageError` for what can be seen without reading a file."""
        try:
            ids.model_name(self.name)
            ids.version(self.version)
        except MalformedError as error:
            raise UsageError(str(error)) from error
        if self.counter < 1:
            raise UsageError(
                f"counter {self.counter}: a positive integer is needed, higher than every earlier release's"
            )
        if self.preprocess.input and not self.preprocess.asked:
            raise UsageError(f"nothing is asked for the input {self.preprocess.input!r} that is to be preprocessed")
        self._check_words()
        if self.out.exists():
            raise UsageError(f"{self.out} exists already", "Name a new directory: a release is never changed in place.")
        if not self.out.absolute().parent.is_dir():
            raise UsageError(f"{self.out.absolute().parent} is not a directory")

    def _check_words(self) -> None:
        if self.task not in TASKS:
            raise UsageError(f"task {self.task!r} is not one of {', '.join(TASKS)}")
        if not self.profiles:
            raise UsageError(
                "no profile given", "Name at least one with --profile; `outrider-compiler profiles` lists them."
            )
        for word in self.precisions:
            if word not in PRECISIONS:
                raise UsageError(f"precision {word!r} is not one of {', '.join(sorted(PRECISIONS))}")
        if self.locked and (self.measured or self.for_bench):
            raise UsageError("--locked measures nothing: leave out --measured and --for-bench")


def from_fields(values: dict[str, Any]) -> BuildRequest:
    """A request from loosely typed values: paths as text, sequences of any kind; raises `TypeError`."""
    kinds = {item.name: str(item.type) for item in fields(BuildRequest)}
    return BuildRequest(**{name: _typed(kinds.get(name, ""), value) for name, value in values.items()})


def _typed(kind: str, value: Any) -> Any:
    if kind.startswith("tuple["):
        each = (value,) if isinstance(value, str | Path) else value
        return tuple(_typed(kind.removeprefix("tuple[").partition(",")[0], item) for item in each)
    if kind == "str" and isinstance(value, Path):
        return str(value)
    return Path(value) if kind.startswith("Path") and isinstance(value, str) else value

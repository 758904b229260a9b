"""What a hardware profile says, as frozen dataclasses.

1. A table of the file is a class here and a key is a field: the classes are the schema.
2. A field with a default may be left out of the file, every other must be there.
3. Sizes are in bytes, times in microseconds; a budget of 0 means "no budget".
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

# Engine → the file format that it reads.
ENGINES: Final = {
    "onnxruntime": "onnx",
    "litert": "tflite",
    "tflite-runtime": "tflite",
    "rknn": "onnx",
    "hailort": "onnx",
}
PRECISIONS: Final = frozenset({
    "fp32", "fp16", "int8_static", "int8_dynamic", "int8_mixed", "int4_weight", "int16_activation",
})  # fmt: skip
# What the compiler can build in each file format.
BUILDABLE: Final = {"onnx": PRECISIONS, "tflite": frozenset({"fp32", "int8_static", "int8_dynamic"})}
# Precisions without an operator in float, beside fp32, which all others are compared with.
IN_INTEGERS: Final = frozenset({"fp32", "int8_static", "int16_activation"})
LOWEST_OPSET: Final = 13  # quantization per channel begins here
ARCHITECTURES: Final = frozenset({"x86_64", "aarch64", "armv7l"})
INTEGERS: Final = frozenset({"u8", "s8"})
LOAD_MODES: Final = frozenset({"default", "mmap"})


@dataclass(frozen=True)
class Engine:
    """The inference engine on the board and the versions that the artifact must load in (PEP 440 specifier)."""

    name: str
    versions: str

    @property
    def format(self) -> str:
        """The file format that the engine reads: "onnx" or "tflite"."""
        return ENGINES[self.name]


@dataclass(frozen=True)
class Provider:
    """An execution provider (ONNX Runtime) or delegate (LiteRT); its options are given to the engine as they stand."""

    name: str
    options: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Range:
    """An inclusive range of versions."""

    min: int
    max: int


@dataclass(frozen=True)
class Int8:
    """Integer types that the engine is fast and exact at on this board.

    `symmetric`: the engine reads zero points of 0 alone. `reduce_range` keeps weights in 7 bits: without VNNI, u8×s8
    products saturate their 16-bit sums. `accelerated_by` names CPU features that make int8 faster: a machine that has
    one of them, where the board promises none, measures int8 too favourably. `full`: a float operator cannot run at
    all (an accelerator that computes in integers only).
    """

    activation: str = "u8"
    weight: str = "s8"
    per_channel: bool = True
    symmetric: bool = False
    reduce_range: bool = False
    full: bool = False
    accelerated_by: tuple[str, ...] = ()


@dataclass(frozen=True)
class Load:
    """How the worker loads the model: memory-mapped weights are shared between processes, prepacked ones are copied."""

    mode: str = "default"
    prepack: bool = True


@dataclass(frozen=True)
class Shapes:
    """Rules for shapes. Without `dynamic_batch` the compiler fixes a free first dimension at `batch`.

    `rank_max` bounds the rank of inputs; 0 means no bound.
    """

    dynamic_batch: bool = True
    batch: int = 1
    rank_max: int = 0


@dataclass(frozen=True)
class Install:
    """What the device installs: a Python range and pip requirements that work together on the board."""

    python: str = ">=3.10"
    packages: tuple[str, ...] = ()


@dataclass(frozen=True)
class Budgets:
    """Upper bounds of one artifact; 0 means none. `latency_us` is for one window on one thread."""

    size_bytes: int = 0
    latency_us: int = 0
    memory_bytes: int = 0


@dataclass(frozen=True)
class Profile:
    """One board class. `cpu_features`: any one of them is promised (empty: none is)."""

    name: str
    title: str
    architecture: str
    engine: Engine
    providers: tuple[Provider, ...]
    precisions: tuple[str, ...]
    opset: Range
    ir: Range
    memory_bytes: int
    threads: int
    verified_on_hardware: bool
    sources: dict[str, str]
    cpu_features: tuple[str, ...] = ()
    deny_operators: tuple[str, ...] = ()
    int8: Int8 = Int8()
    load: Load = Load()
    shapes: Shapes = Shapes()
    install: Install = Install()
    budgets: Budgets = field(default_factory=Budgets)

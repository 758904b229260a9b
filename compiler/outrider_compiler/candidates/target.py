"""What the makers of candidates need to know of a profile: integer types, and what its engine does with a graph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from outrider_profiles import Int8, Profile

CPU: Final = "CPUExecutionProvider"
CONTRIB: Final = {CPU, "CUDAExecutionProvider"}
TENSORRT: Final = "TensorrtExecutionProvider"
FLOAT_BIAS: Final = {*CONTRIB, TENSORRT}
INTEGER_NPUS: Final = {"QNNExecutionProvider"}
INTEGER_ENGINES: Final = {"rknn", "hailort"}


@dataclass(frozen=True)
class Target:
    """A profile as quantization sees it.

    `on_cpu`: ONNX Runtime's own kernels do the work, and its fusions are known. `contrib`: operators of com.microsoft
    run. `float_bias`: the engine rounds biases itself, and stored integers would only be in its way.
    `in_front_of_layers`: the engine wants the inputs of layers rounded, and fuses what follows up to the next rounding.
    `integers_alone`: an accelerator that leaves the graph at every float operator.
    """

    int8: Int8
    opset_max: int
    on_cpu: bool
    contrib: bool
    float_bias: bool
    in_front_of_layers: bool
    integers_alone: bool


def target_of(profile: Profile) -> Target:
    """The profile's `Target`."""
    first = profile.providers[0].name if profile.engine.name == "onnxruntime" else ""
    return Target(
        int8=profile.int8,
        opset_max=profile.opset.max,
        on_cpu=first == CPU,
        contrib=first in CONTRIB,
        float_bias=first in FLOAT_BIAS,
        in_front_of_layers=first == TENSORRT,
        integers_alone=profile.int8.full or first in INTEGER_NPUS or profile.engine.name in INTEGER_ENGINES,
    )

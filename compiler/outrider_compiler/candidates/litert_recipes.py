"""What LiteRT's quantizer is told to do, form by form. Runs in the child process of `litert_export`.

1. `int8_static`: what XNNPACK computes in integers is quantized, and nothing else. One operator without an integer
   kernel between two that have one falls to a reference loop: HARD_SWISH made a small net 10 times slower than this.
   Around a layer norm nothing but convolutions and dense layers is: its variance in 8 bits cost 12 dB.
2. At the model's ends floats stay floats. What prepares an input (a mean is subtracted, channels are scaled) reads it
   unrounded: 8 bits over channels of different units lose the small ones. An operator without weights that gives an
   output is not rounded for it. A small dense layer, or (among norms, where it stands alone) a convolution with few
   products per result, gains nothing and has its weights alone in 8 bits.
3. An accelerator of integers alone (`full`) gets every operator in integers. Inputs and outputs stay float in every
   form; their QUANTIZE and DEQUANTIZE run on the host.
4. `int8_dynamic` finds ranges at every inference; `int8_weight` computes in float; both need no calibration.
5. `int16_activation` is the static form with activations of 16 bits.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final

NO_INTEGER_KERNEL: Final = {
    "BATCH_MATMUL", "DIV", "GELU", "HARD_SWISH", "RSQRT", "SOFTMAX", "SQRT", "SQUARED_DIFFERENCE", "SUM",
}  # fmt: skip
NORM: Final = {"RSQRT", "SQUARED_DIFFERENCE"}
WITH_WEIGHTS: Final = {"CONV_2D", "CONV_2D_TRANSPOSE", "DEPTHWISE_CONV_2D", "EMBEDDING_LOOKUP", "FULLY_CONNECTED"}
EDGES: Final = ("INPUT", "OUTPUT")
ALL: Final = "ALL_SUPPORTED"


@dataclass(frozen=True)
class Board:
    """What the profile says of integers."""

    per_channel: bool
    full: bool


@dataclass(frozen=True)
class Ends:
    """By the quantizer's scope: operators without weights at the model's ends, and light layers with their kind."""

    plain: tuple[str, ...]
    light: tuple[tuple[str, str], ...]


def recipe(form: str, operators: Collection[str], board: Board, ends: Ends) -> Any:
    """The quantizer's recipe manager for a form of a model with these operators."""
    from ai_edge_quantizer import recipe_manager
    from ai_edge_quantizer.qtyping import QuantGranularity, TFLOperationName

    manager = recipe_manager.RecipeManager()
    granularity = QuantGranularity.CHANNELWISE if board.per_channel else QuantGranularity.TENSORWISE
    everything = TFLOperationName[ALL]
    if form == "int8_dynamic":
        manager.add_dynamic_config(".*", everything, 8, granularity)
    elif form == "int8_weight":
        manager.add_weight_only_config(".*", everything, 8, granularity)
    else:
        manager.add_static_config(".*", everything, 16 if form == "int16_activation" else 8, 8, granularity)
        _leave_in_float(manager, (*EDGES, *in_float(operators, board)))
        if not board.full:
            _leave_ends(manager, ends)
    return manager


def in_float(operators: Collection[str], board: Board) -> list[str]:
    """Operators that a static form leaves in float."""
    from ai_edge_quantizer.qtyping import TFLOperationName

    if board.full:
        return []
    if not NORM & set(operators):
        return sorted(NO_INTEGER_KERNEL)
    known = {name.name for name in TFLOperationName}
    return sorted(known - WITH_WEIGHTS - {*EDGES, ALL, "CUSTOM_OP"})


def _leave_in_float(manager: Any, names: Collection[str]) -> None:
    from ai_edge_quantizer.algorithm_manager import AlgorithmName
    from ai_edge_quantizer.qtyping import TFLOperationName

    for name in names:
        manager.add_quantization_config(
            regex=".*", operation_name=TFLOperationName[name], algorithm_key=AlgorithmName.NO_QUANTIZE
        )


def _leave_ends(manager: Any, ends: Ends) -> None:
    from ai_edge_quantizer.algorithm_manager import AlgorithmName
    from ai_edge_quantizer.qtyping import TFLOperationName

    for scope in ends.plain:
        manager.add_quantization_config(
            regex=f"^{re.escape(scope)}$",
            operation_name=TFLOperationName[ALL],
            algorithm_key=AlgorithmName.NO_QUANTIZE,
        )
    for scope, kind in ends.light:
        manager.add_weight_only_config(f"^{re.escape(scope)}$", TFLOperationName[kind], 8)

"""What the profile cannot run of a .tflite file: like `checks`, from what `tflite_file.describe` found.

Denied operators go by LiteRT's own words ("SOFTMAX").
"""

from __future__ import annotations

from typing import Final

from outrider_compiler import checks, zero_points
from outrider_compiler.errors import UnsupportedModelError
from outrider_compiler.importers.tflite_file import CUSTOM, Described, TensorInfo
from outrider_profiles import Profile

TYPES: Final = {"FLOAT32", "FLOAT16", "INT8", "UINT8", "INT16", "INT32", "INT64", "BOOL"}


def check(described: Described, profile: Profile) -> None:
    """Raise `UnsupportedModelError` where the profile cannot run the file."""
    for operator, output in described.operators:
        _check_operator(operator, output, profile)
    for tensor in described.inputs:
        _check_input(tensor, profile)
    for tensor in described.tensors:
        if profile.int8.symmetric and any(tensor.zero_points):
            raise UnsupportedModelError(
                f"tensor {tensor.name!r} has the zero point {next(filter(None, tensor.zero_points))},"
                f" {profile.name} has zero points of 0 alone",
                zero_points.QUANTIZE_SYMMETRICALLY,
            )
    checks.check_memory(((tensor.name, tensor.size_bytes) for tensor in described.tensors), profile)


def _check_operator(operator: str, output: str, profile: Profile) -> None:
    if operator.startswith(CUSTOM):
        raise UnsupportedModelError(
            f"operator {operator.removeprefix(CUSTOM)!r} (-> {output!r}) is a custom one, unknown to"
            f" {profile.engine.name}",
            "Convert with built-in operators alone.",
        )
    if operator in profile.deny_operators:
        raise UnsupportedModelError(
            f"operator {operator} (-> {output!r}): {profile.name} does not run it", checks.instead(operator, profile)
        )


def _check_input(tensor: TensorInfo, profile: Profile) -> None:
    if tensor.kind not in TYPES:
        raise UnsupportedModelError(
            f"input {tensor.name!r} has type {tensor.kind}", f"Use one of {', '.join(sorted(TYPES))}."
        )
    checks.check_rank(tensor.name, len(tensor.shape), profile)

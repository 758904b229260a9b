"""Activations of 16 bits over weights of 8 (A16W8), for accelerators that have such products.

QDQ around every operator that the quantizer knows; below opset 21 the 16-bit QuantizeLinear is com.microsoft's. The
CPU runs the same file operator by operator, which measures its accuracy and says nothing about its speed.
"""

from __future__ import annotations

from typing import Final

from outrider_compiler.candidate import Candidate, NotBuilt
from outrider_compiler.candidates import int8, qdq
from outrider_compiler.candidates.job import Job
from outrider_compiler.candidates.tracing import finished

NAME: Final = "int16_activation"


def build(job: Job) -> Candidate | NotBuilt:
    """The form, or why it does not exist."""
    try:
        nodes = int8.everywhere(job)
        ranges = job.calibrate(frozenset(int8.touched(job.model, nodes)))
        made = qdq.quantized(job.model, nodes, ranges, job.target, bits=16)
    except qdq.COMPLAINTS as error:
        return NotBuilt(NAME, f"the quantizer refused: {str(error)[:200]}")
    if not qdq.has_integer_weight(made):
        return NotBuilt(NAME, int8.NOTHING)
    return finished(NAME, NAME, made, job.model)

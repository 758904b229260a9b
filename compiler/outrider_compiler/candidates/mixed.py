"""int8 with the worst layers in float, found by measuring, within a budget of time.

1. Asked for is a signal-to-quantization-noise ratio at every output, on calibration samples. Where static int8 has it
   already nothing would be mixed, and nothing is built.
2. Each layer is rounded alone (`switches`: one session, one inference for each question); its noise at the outputs is
   its harm. The fewest layers of greatest harm that reach the ratio together stay in float; of these, those that it is
   reached without go back. A layer that time did not suffice to measure counts as its weights' noise.
3. The real candidate is built and measured, and takes one more layer into float at a time where it still falls short.
4. The clock decides which layers are found; so they are the candidate's recipe, by their places in the model, and with
   the recipe the same bytes are built without measuring.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from outrider_compiler.candidate import Candidate, NotBuilt
from outrider_compiler.candidates import chains, int8, products, qdq, storage
from outrider_compiler.candidates.job import Job
from outrider_compiler.candidates.links import Links
from outrider_compiler.candidates.switches import Switches
from outrider_compiler.candidates.tracing import finished
from outrider_compiler.data import Feeds
from outrider_compiler.quality import DB_MAX, sqnr_db

if TYPE_CHECKING:
    from onnx import ModelProto

NAME: Final = "int8_mixed"
SAMPLES: Final = 64
FLOATS: Final = "float"
# What takes over the rounding of the value that it reads: no layer of its own.
FOLLOW: Final = {
    "Clip", "Flatten", "Gather", "MaxPool", "Pad", "Relu", "Reshape", "Resize", "Slice", "Split", "Squeeze",
    "Transpose", "Unsqueeze",
}  # fmt: skip


@dataclass(frozen=True)
class Search:
    """What is searched for. `budget_s` bounds the search but for the inference that runs when it ends."""

    target_db: float = 30.0
    budget_s: float = 8.0
    clock: Callable[[], float] = time.monotonic


def build(
    job: Job, static: list[Candidate | NotBuilt], recipe: dict[str, Any] | None, search: Search
) -> Candidate | NotBuilt:
    """The candidate of a recipe, or of a search; `static` is what static int8 gave."""
    try:
        if recipe is not None:
            return _made(job, [int(place) for place in recipe.get(FLOATS, [])])
        return _searched(job, static, search)
    except qdq.COMPLAINTS as error:
        return NotBuilt(NAME, f"the quantizer refused: {str(error)[:200]}")


def _searched(job: Job, static: list[Candidate | NotBuilt], search: Search) -> Candidate | NotBuilt:
    feeds = job.samples(SAMPLES)
    expected = _answers(finished("fp32", "fp32", _copy(job), job.model), feeds)
    for item in static:
        if isinstance(item, NotBuilt):
            continue
        reached = least_db(expected, _answers(item, feeds))
        if reached >= search.target_db:
            return NotBuilt(
                NAME, f"{item.name} already reaches {reached:.1f} dB at the outputs: nothing to keep in float"
            )
    if all(isinstance(item, NotBuilt) for item in static):
        return NotBuilt(NAME, int8.NOTHING)
    return _found(job, feeds, expected, search)


def _found(job: Job, feeds: Feeds, expected: Feeds, search: Search) -> Candidate | NotBuilt:
    ends = search.clock() + search.budget_s
    hunt = Hunt(job, feeds, expected, search.target_db, lambda: search.clock() < ends)
    floats = hunt.fewest()
    places = {node.name: place for place, node in enumerate(job.model.graph.node)}
    while True:
        made = _made(job, sorted(places[name] for name in floats))
        if isinstance(made, NotBuilt) or least_db(expected, _answers(made, feeds)) >= search.target_db:
            return made
        more = [name for name in hunt.ranked if name not in floats]
        if not more or search.clock() >= ends:
            return made
        floats.append(more[0])


def _made(job: Job, places: list[int]) -> Candidate | NotBuilt:
    nodes = job.model.graph.node
    if any(not 0 <= place < len(nodes) for place in places):
        return NotBuilt(NAME, "the recipe belongs to another model")
    names = {nodes[place].name for place in places}
    made = int8.integers(job, names, keep_floats=True)
    if made is None:
        return NotBuilt(NAME, "nothing worth it would be left in integers at the ratio that is asked for")
    return finished(NAME, NAME, made, job.model, {FLOATS: places})


def _copy(job: Job) -> ModelProto:
    from outrider_compiler.normalise import copied

    return copied(job.model)


def _answers(candidate: Candidate, feeds: Feeds) -> Feeds:
    from outrider_compiler.engines import load
    from outrider_profiles import Load

    return load(candidate, Load()).run(feeds)


def least_db(expected: Feeds, got: Feeds) -> float:
    """The lowest ratio of all outputs of floats."""
    ratios = [sqnr_db(value, got[name]) for name, value in expected.items() if value.dtype.kind == "f"]
    return min(ratios, default=DB_MAX)


class Hunt:
    """The search over the switched model; `ranked` are the layers by harm, the worst first."""

    def __init__(self, job: Job, feeds: Feeds, expected: Feeds, target_db: float, has_time: Callable[[], bool]) -> None:
        self.feeds, self.expected, self.target_db, self.has_time = feeds, expected, target_db, has_time
        self.plain, self.owners = _layers(job)
        everything = set(self.owners) | {node.name for node in self.plain.graph.node if node.op_type in FOLLOW}
        results = ["Gemm", "MatMul"] if job.target.on_cpu else int8.float_results(job.target)
        qdq_form = qdq.quantized(self.plain, everything, int8.ranges_of(job), job.target, float_results=results)
        self.switches = Switches(self.plain, qdq_form, set(self.owners))
        self.layers = list(dict.fromkeys(self.owners.values()))
        self.ranked = self._by_harm()

    def ratio(self, floats: Collection[str]) -> float:
        """The lowest ratio in dB with these layers in float."""
        left = {part for part, owner in self.owners.items() if owner in set(floats)}
        return least_db(self.expected, self.switches.run(self.feeds, left))

    def fewest(self) -> list[str]:
        """The layers to keep in float."""
        high = 1
        while high < len(self.ranked) and self.has_time() and self.ratio(self.ranked[:high]) < self.target_db:
            high = min(2 * high, len(self.ranked))
        low = high // 2 + 1
        while low < high and self.has_time():
            middle = (low + high) // 2
            low, high = (low, middle) if self.ratio(self.ranked[:middle]) >= self.target_db else (middle + 1, high)
        floats = self.ranked[:high]
        for name in reversed(floats[:-1]):
            others = [item for item in floats if item != name]
            if not self.has_time():
                break
            if self.ratio(others) >= self.target_db:
                floats = others
        return floats

    def _by_harm(self) -> list[str]:
        guesses, measured = self._guesses(), {}
        for name in sorted(self.layers, key=lambda item: guesses[item]):
            if not self.has_time():
                break
            measured[name] = self.ratio([item for item in self.layers if item != name])
        return sorted(self.layers, key=lambda item: measured.get(item, guesses[item]))

    def _guesses(self) -> dict[str, float]:
        """Of each layer the ratio of its own weights to their rounding, in dB."""
        links, guesses = Links(self.plain), dict.fromkeys(self.layers, DB_MAX)
        for node in self.plain.graph.node:
            for name in node.input[1:2]:
                if node.name in self.owners and links.is_float(name) and len(links.weights[name].dims) > 1:
                    guesses[self.owners[node.name]] = _weight_db(links.array(name))
        return guesses


def _weight_db(weight: np.ndarray[Any, Any]) -> float:
    step = storage.scales(weight, 0, storage.STEPS)
    return sqnr_db(weight, np.rint(weight / step) * step)


def _layers(job: Job) -> tuple[ModelProto, dict[str, str]]:
    """The float model that is switched, and of each of its nodes that can be in integers the layer it belongs to."""
    if job.target.on_cpu:
        plain, _ = int8.expanded_without(job, ())
        chosen = chains.chosen(plain) | {item.node.name for item in products.found(plain)}
    else:
        plain, chosen = job.model, int8.everywhere(job)
    known = {node.name for node in job.model.graph.node}
    nodes = [node for node in plain.graph.node if node.name in chosen and node.op_type not in FOLLOW]
    return plain, {node.name: _owner(node.name, known) for node in nodes}


def _owner(name: str, known: Collection[str]) -> str:
    return name if name in known else name.rpartition("/")[0]

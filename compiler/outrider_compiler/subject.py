"""The model under compilation with its data: bound to its inputs, checked, and asked once as it came.

Everything later (candidates, figures, statistics) is compared with these answers.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from outrider_compiler import checks, engines, graph_io
from outrider_compiler.candidate import Candidate
from outrider_compiler.data import SLICE, Array, DataSet, Feeds
from outrider_compiler.errors import DataError, UnsupportedModelError
from outrider_compiler.graph_io import Meaning
from outrider_compiler.importers import Imported
from outrider_compiler.measure import Truth
from outrider_compiler.normalise import convert, copied
from outrider_compiler.preprocess import baked, planning
from outrider_compiler.preprocess.runner import PreparingRunner, prepared
from outrider_compiler.request import BuildRequest
from outrider_profiles import Load, Profile
from outrider_protocol.manifest import TensorSpec
from outrider_protocol.preprocess import Preprocess


@dataclass(frozen=True)
class Subject:
    """`calibration` and `truth` are in the model's dtypes and input names; raw ones where there is `preprocess`."""

    imported: Imported
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    meaning: Meaning
    calibration: DataSet
    truth: Truth
    preprocess: Preprocess | None = None

    @property
    def prepared(self) -> DataSet:
        """The calibration set as the model itself takes it: what candidates are built with."""
        return replace(self.calibration, feeds=prepared(self.preprocess, self.calibration.feeds))

    @property
    def layer(self) -> bytes | None:
        """The preprocess layer of a file that is not made raw."""
        return self.preprocess.encode() if self.preprocess else None

    def raw_form(self, candidate: Candidate, profile: Profile) -> Candidate:
        """A candidate that takes what callers give."""
        return candidate if self.preprocess is None else baked.raw_form(candidate, self.preprocess, profile)

    @property
    def watched(self) -> Array:
        """The calibration samples of the first input: what drift detection looks at."""
        return self.calibration.feeds[self.inputs[0].name]


def prepare(
    request: BuildRequest,
    imported: Imported,
    profiles: tuple[Profile, ...],
    calibration: DataSet,
    evaluation: DataSet,
    asked: Preprocess | None = None,
) -> Subject:
    """Check the model against every profile and ask it; raises `UnsupportedModelError`, `DataError` or `UsageError`."""
    for profile in profiles:
        _admit(imported, profile)
    bare = engines.load(imported.candidate(), Load())
    layer = None if asked is None else planning.bound(asked, bare.inputs, request.preprocess.input)
    runner = bare if layer is None else PreparingRunner(bare, layer)
    bound, judged = _bound(calibration, runner.inputs), _bound(evaluation, runner.inputs)
    answers = runner.run(judged.feeds)
    meaning = graph_io.meaning(request, runner.outputs, answers, runner.run(bound.feeds))
    y, slices = meaning.task.labels(judged.y), _slices(request, judged)
    truth = Truth(judged.feeds, answers, y, meaning.deciding, meaning.compared, meaning.task, slices)
    return Subject(imported, runner.inputs, runner.outputs, meaning, bound, truth, layer)


def _slices(request: BuildRequest, judged: DataSet) -> dict[str, Array]:
    for name in request.slices:
        if name not in judged.slices:
            raise DataError(
                f"the evaluation set has no `{SLICE}{name}`, only {sorted(judged.slices)}",
                f"Store the slice of every sample as `{SLICE}{name}` [N] in the .npz.",
            )
    return {name: judged.slices[name] for name in request.slices}


def _admit(imported: Imported, profile: Profile) -> None:
    """Check and convert what a profile's candidates are made from; a .tflite source was checked when it was read."""
    model, other_format = imported.simplified, profile.engine.format != "onnx"
    if model is None or (other_format and imported.torch is None):
        return  # the workshop says why nothing is built
    checks.check(model, profile)
    if not other_format:
        convert(copied(model), profile)


def _bound(data: DataSet, specs: tuple[TensorSpec, ...]) -> DataSet:
    bound = data.bound(tuple(spec.name for spec in specs))
    check_shapes(bound.feeds, specs)
    return replace(bound, feeds=engines.cast(bound.feeds, specs))


def check_shapes(feeds: Feeds, specs: tuple[TensorSpec, ...]) -> None:
    """Raise `UnsupportedModelError` where the data does not have the model's shape."""
    for spec in specs:
        have = feeds[spec.name].shape
        fits = len(have) == len(spec.shape) and all(w in (-1, h) for h, w in zip(have[1:], spec.shape[1:], strict=True))
        if not fits:
            raise UnsupportedModelError(
                f"input {spec.name!r} has shape {list(spec.shape)}, the data {list(have)}", "The first axis is samples."
            )

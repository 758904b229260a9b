"""Builds candidates, each once for all profiles that need the same bytes.

1. Every precision that the profile allows gives one or several candidates, or the reason why it gives none.
2. A candidate that a search found carries a recipe; with the recipe it is built again without searching.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from outrider_compiler import layers
from outrider_compiler.candidate import Candidate, NotBuilt
from outrider_compiler.candidates import floats, int4, int8, int16, litert, mixed
from outrider_compiler.candidates.calibrate import ranges
from outrider_compiler.candidates.job import Job, spread
from outrider_compiler.candidates.naming import name_nodes
from outrider_compiler.candidates.target import Target, target_of
from outrider_compiler.candidates.tidy import tidy
from outrider_compiler.data import DataSet
from outrider_compiler.importers.imported import NO_ONNX, Imported
from outrider_compiler.layers import LayerFigure
from outrider_compiler.normalise import convert, copied
from outrider_compiler.progress import Step, uncounted
from outrider_profiles import Profile

if TYPE_CHECKING:
    from onnx import ModelProto

Built = list[Candidate | NotBuilt]
Recipe = dict[str, Any]


class Workshop:
    """One build's candidates; `simplified` is `imported.simplified`, `folder` takes scratch files."""

    def __init__(
        self,
        imported: Imported,
        simplified: ModelProto | None,
        calibration: DataSet,
        folder: Path,
        search: mixed.Search | None = None,
    ) -> None:
        self.imported, self.simplified = imported, simplified
        self.calibration, self.folder = calibration, folder
        self.search = search or mixed.Search()
        self._kept: dict[tuple[Any, ...], Built] = {}
        self._ranges: dict[tuple[Any, ...], Any] = {}

    def build(
        self, profile: Profile, only: str | None = None, recipe: Recipe | None = None, step: Step = uncounted
    ) -> Built:
        """fp32, then every other precision that the profile allows, or `only` one; raises `UnsupportedModelError`.

        `recipe` is that of a candidate of precision `only` which was built before.
        """
        precisions = (only,) if only else ("fp32", *(name for name in profile.precisions if name != "fp32"))
        if profile.engine.format == "tflite":
            return self._once(("litert", precisions, profile.int8), partial(self._litert, precisions, profile))
        if self.simplified is None:
            return [NotBuilt(precision, NO_ONNX) for precision in precisions]
        model = convert(copied(self.simplified), profile)
        tidy(model)
        name_nodes(model, self.imported.model)
        built: Built = []
        for done, precision in enumerate(precisions):
            step(done, len(precisions))
            built += self._build(precision, model, target_of(profile), recipe)
        return built

    def layers(self, profile: Profile, name: str) -> tuple[LayerFigure, ...]:
        """Layer by layer, what the built candidate `name` keeps of fp32's signal on a few calibration samples."""
        built = {item.name: item for item in self.build(profile) if isinstance(item, Candidate)}
        feeds = spread(self.calibration, layers.SAMPLES)
        return layers.compare(built[name], built["fp32"], feeds) if name in built and "fp32" in built else ()

    def _litert(self, precisions: tuple[str, ...], profile: Profile) -> Built:
        return litert.build(self.imported, self.calibration, precisions, profile.int8, self.folder)

    def _build(self, precision: str, model: ModelProto, target: Target, recipe: Recipe | None) -> Built:
        digest = hashlib.sha256(model.SerializeToString(deterministic=True)).hexdigest()
        calibrate = partial(self._calibrate, model, digest, target.int8.symmetric)
        job = Job(model, target, self.calibration, calibrate, self.folder)
        key = (precision, digest, target, json.dumps(recipe, sort_keys=True))
        return self._once(key, partial(self._form, precision, job, recipe))

    def _form(self, precision: str, job: Job, recipe: Recipe | None) -> Built:
        if precision == "int8_mixed":
            static = self._build("int8_static", job.model, job.target, None) if recipe is None else []
            return [mixed.build(job, static, recipe, self.search)]
        return MAKERS[precision](job)

    def _calibrate(self, model: ModelProto, digest: str, symmetric: bool, values: frozenset[str]) -> Any:
        key = (digest, symmetric, values)
        if key not in self._ranges:
            self._ranges[key] = ranges(copied(model), self.calibration, self.folder, symmetric=symmetric, values=values)
        return self._ranges[key]

    def _once(self, key: tuple[Any, ...], make: Callable[[], Built]) -> Built:
        if key not in self._kept:
            self._kept[key] = make()
        return self._kept[key]


MAKERS: dict[str, Callable[[Job], Built]] = {
    "fp32": lambda job: [floats.fp32(job.model)],
    "fp16": lambda job: [floats.fp16(job.model, computes_halves=not job.target.on_cpu)],
    "int8_static": int8.static,
    "int8_dynamic": int8.dynamic,
    "int4_weight": lambda job: [int4.build(job)],
    "int16_activation": lambda job: [int16.build(job)],
}

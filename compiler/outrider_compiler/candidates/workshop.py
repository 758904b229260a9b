"""Builds candidates, each once for all profiles that need the same bytes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from outrider_compiler.candidate import Candidate, NotBuilt
from outrider_compiler.candidates import floats, int8, litert
from outrider_compiler.candidates.calibrate import ranges
from outrider_compiler.data import DataSet
from outrider_compiler.importers.imported import Imported
from outrider_compiler.normalise import convert, copied, opset_of
from outrider_compiler.progress import Step, uncounted
from outrider_profiles import Profile

if TYPE_CHECKING:
    from onnx import ModelProto

Built = list[Candidate | NotBuilt]
Form = tuple[int, int]


class Workshop:
    """One build's candidates; `simplified` is the model after `normalise.simplify`, `folder` takes scratch files."""

    def __init__(self, imported: Imported, simplified: ModelProto, calibration: DataSet, folder: Path) -> None:
        self.imported, self.simplified = imported, simplified
        self.calibration, self.folder = calibration, folder
        self._kept: dict[tuple[Any, ...], Built] = {}
        self._ranges: dict[tuple[Form, bool], Any] = {}

    def build(self, profile: Profile, only: str | None = None, step: Step = uncounted) -> Built:
        """fp32, then every other precision that the profile allows, or `only` one; raises `UnsupportedModelError`."""
        precisions = (only,) if only else ("fp32", *(name for name in profile.precisions if name != "fp32"))
        if profile.engine.name == "litert":
            return self._once(("litert", precisions), partial(self._litert, precisions))
        model = convert(copied(self.simplified), profile)
        form = (opset_of(model), int(model.ir_version))
        built: Built = []
        for done, precision in enumerate(precisions):
            step(done, len(precisions))
            built += self._once((precision, form, profile.int8), partial(self._form, precision, model, form, profile))
        return built

    def _litert(self, precisions: tuple[str, ...]) -> Built:
        return litert.build(self.imported, self.calibration, precisions, self.folder)

    def _form(self, precision: str, model: ModelProto, form: Form, profile: Profile) -> Built:
        if precision == "fp32":
            return [floats.fp32(copied(model))]
        if precision == "fp16":
            return [floats.fp16(copied(model))]
        if precision == "int8_dynamic":
            return [int8.dynamic(copied(model), profile.int8, self.folder)]
        return int8.static(model, profile.int8, self._ranges_of(model, form, symmetric=profile.int8.activation == "s8"))

    def _ranges_of(self, model: ModelProto, form: Form, *, symmetric: bool) -> Any:
        if (form, symmetric) not in self._ranges:
            self._ranges[form, symmetric] = ranges(copied(model), self.calibration, self.folder, symmetric=symmetric)
        return self._ranges[form, symmetric]

    def _once(self, key: tuple[Any, ...], make: Callable[[], Built]) -> Built:
        if key not in self._kept:
            self._kept[key] = make()
        return self._kept[key]

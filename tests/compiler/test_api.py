"""`outrider_compiler.build`, and what importing the package costs."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

import outrider_compiler
from outrider_compiler import BuildRequest, UsageError, request
from tests.compiler.conftest import Kit


def test_fields_by_name(kit: Kit, tmp_path: Path) -> None:
    """CMP-API-1: paths as text or `Path`, one value or several, are the request that they mean."""
    made = request.from_fields({
        "source": kit.model, "name": "waves", "version": "1", "counter": 1, "profiles": ["x86-64"],
        "calibration": str(kit.calibration), "evaluation": kit.evaluation, "out": str(tmp_path / "out"),
        "measured": "pi.json", "classes": ("a", "b"), "locked": None, "embedding": "embedding",
    })  # fmt: skip
    assert made == BuildRequest(
        source=str(kit.model), name="waves", version="1", counter=1, profiles=("x86-64",),
        calibration=kit.calibration, evaluation=kit.evaluation, out=tmp_path / "out",
        measured=(Path("pi.json"),), classes=("a", "b"), embedding="embedding",
    )  # fmt: skip
    assert request.from_fields({**vars(made), "profiles": "x86-64"}) == made


def test_build_takes_fields_or_a_request(kit: Kit, tmp_path: Path) -> None:
    """CMP-API-1: both give a release, wrong ones say so at once."""
    fields = {**vars(kit.request(tmp_path / "out", profiles=("x86-64",), precisions=("fp16",)))}
    assert outrider_compiler.build(**fields).profiles == ("x86-64",)
    with pytest.raises(UsageError, match="exists already"):
        outrider_compiler.build(BuildRequest(**fields))
    with pytest.raises(TypeError, match="not both"):
        outrider_compiler.build(BuildRequest(**fields), name="other")
    with pytest.raises(TypeError, match="shade"):
        outrider_compiler.build(**fields, shade="blue")
    with pytest.raises(AttributeError, match="no attribute 'shade'"):
        outrider_compiler.shade  # noqa: B018  # asking is what is tested


def test_importing_loads_errors_alone() -> None:
    """CMP-API-2: neither the pipeline nor anything foreign."""
    code = (
        "import sys; before = set(sys.modules); import outrider_compiler\n"
        "new = {m for m in set(sys.modules) - before if m.split('.')[0] not in sys.stdlib_module_names}\n"
        "assert new == {'outrider_compiler', 'outrider_compiler.errors'}, new\n"
        "assert set(outrider_compiler.__all__) <= {n for n in dir(outrider_compiler)} | set(outrider_compiler._LATER)\n"
        "from outrider_compiler import BuildRequest, Gate, Release\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_help_answers_at_once() -> None:
    """CMP-API-2: the best of five starts, so that another process on the machine does not count."""
    best = min(_started() for _ in range(5))
    assert best < 0.5


def _started() -> float:
    before = time.perf_counter()
    subprocess.run([sys.executable, "-m", "outrider_compiler", "--help"], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - before

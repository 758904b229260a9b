"""Two releases side by side."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import CliRunner, Result
from onnx import numpy_helper

from outrider_compiler import build
from outrider_compiler.cli import main
from outrider_compiler.compare import compare, compare_reports
from outrider_compiler.errors import LayoutError
from outrider_compiler.release import Release
from outrider_compiler.report import side_by_side
from outrider_protocol.manifest import BLOBS
from tests.compiler.conftest import Kit

Json = dict[str, Any]


def call(*arguments: object) -> Result:
    """`compare` in this process."""
    return CliRunner().invoke(main, ["compare", *map(str, arguments)])


@pytest.fixture(scope="session")
def worse(kit: Kit, tmp_path_factory: pytest.TempPathFactory) -> Release:
    """A release of a worse model: half of its head is noise. On one profile, with one precision."""
    folder = tmp_path_factory.mktemp("worse")
    model = onnx.load_model(kit.model)
    head = next(tensor for tensor in model.graph.initializer if tensor.name == "head")
    weights = numpy_helper.to_array(head).copy()
    weights[::2] = 0
    head.CopyFrom(numpy_helper.from_array(weights, "head"))
    onnx.save_model(model, folder / "worse.onnx")
    changes: Json = {"source": str(folder / "worse.onnx"), "version": "1.1", "counter": 2, "embedding": "embedding"}
    return build(kit.request(folder / "out", profiles=("x86-64",), precisions=("fp16",), **changes))


def test_both_are_shown_with_what_differs(release: Release, worse: Release, tmp_path: Path) -> None:
    """CMP-CMP-1: chosen, size, latency, metrics, agreement, signal to noise, digests, inputs, words, lone profiles."""
    done = call(release.directory, worse.directory, "--json", "--markdown", tmp_path / "table.md")
    assert done.exit_code == 0, done.stderr
    value = json.loads(done.stdout)
    assert (value["a"]["version"], value["b"]["version"]) == ("1.0", "1.1")
    assert value["only_in_a"] == ["x86-64-vnni"]
    assert set(value["inputs"]) == {"model", "profile:x86-64-vnni"}
    assert value["request"] == {"precisions": [[], ["fp16"]]}
    profile = value["profiles"]["x86-64"]
    for key, one in (("a", release), ("b", worse)):
        listed = one.report()["profiles"]["x86-64"]
        chosen = next(item for item in listed["candidates"] if item["name"] == listed["chosen"])
        for name in ("size_bytes", "latency_us", "agreement", "sqnr_db", "sha256", "proxy", "measured_on"):
            assert profile[key][name] == chosen[name]
        assert profile[key]["manifest"] == listed["manifest"]
        assert profile["metrics"]["accuracy"][key] == chosen["metrics"]["accuracy"]
    text = (tmp_path / "table.md").read_text(encoding="utf-8")
    people = call(release.directory, worse.directory).stdout
    for said in ("waves 1.0 and waves 1.1", "Only in A: x86-64-vnni", "balanced accuracy"):
        assert said in text
        assert said in people
    assert "beyond the intervals" in text


def test_a_changed_release_is_not_compared(release: Release, tmp_path: Path) -> None:
    """CMP-CMP-1: both are verified first."""
    shutil.copytree(release.directory, tmp_path / "copy")
    blob = next((tmp_path / "copy" / BLOBS).iterdir())
    blob.write_bytes(blob.read_bytes() + b"x")
    assert call(release.directory, tmp_path / "copy").exit_code == 3
    assert call(release.directory, tmp_path).exit_code == 3


def test_the_report_is_the_verified_one(release: Release, tmp_path: Path) -> None:
    """CMP-CMP-1: a copy of report.json beside the layout that says something else changes nothing."""
    shutil.copytree(release.directory, tmp_path / "copy")
    (tmp_path / "copy" / "report.json").write_text("{}", encoding="utf-8")
    assert compare(release, Release.open(tmp_path / "copy")) == compare(release, release)


def report(accuracy: float = 0.9, **changes: Any) -> Json:
    """A small report with one profile; `accuracy` ± 0.02."""
    metric = {"value": accuracy, "low": accuracy - 0.02, "high": accuracy + 0.02, "n": 100, "no_skill": 0.5}
    candidate = {
        "name": "fp32", "precision": "fp32", "size_bytes": 1000, "sha256": "aa", "latency_us": 10.0,
        "latency_ratio": 1.0, "threads_latency_us": 5.0, "load_ms": 1.0, "memory_bytes": 0, "proxy": "",
        "measured_on": "x86_64", "agreement": 1.0, "sqnr_db": {}, "drop": 0.0, "quantized_share": 0.0,
        "metrics": {"accuracy": metric},
    }  # fmt: skip
    fast = {**candidate, "name": "int8", "sha256": "bb", "size_bytes": 300, "latency_us": 5.0, "latency_ratio": 0.5}
    profile = {
        "status": "built", "engine": "onnxruntime", "manifest": "sha256:1", "chosen": "int8",
        "candidates": [candidate, fast],
    }  # fmt: skip
    gate = {"primary_drop_max": 0.005}
    return {
        "request": {"model": "m", "version": "1", "counter": 1, "task": "classification", "gate": gate},
        "inputs": {"evaluation": "sha256:e"},
        "tools": {},
        "evaluation": {"primary": "accuracy", "n": 100},
        "profiles": {"board": profile},
        **changes,
    }


@pytest.mark.parametrize(("accuracy", "beyond"), [(0.9, False), (0.93, False), (0.95, True), (0.85, True)])
def test_a_difference_is_beyond_where_intervals_are_apart(accuracy: float, beyond: bool) -> None:
    """CMP-CMP-2: and it is B's figure less A's."""
    metric = compare_reports(report(0.9), report(accuracy))["profiles"]["board"]["metrics"]["accuracy"]
    assert metric["difference"] == pytest.approx(accuracy - 0.9)
    assert metric["beyond"] == beyond


def test_other_evaluation_sets_say_nothing_of_each_other() -> None:
    """CMP-CMP-2: no difference, none worse, and it is said."""
    found = compare_reports(report(0.9), report(0.1, inputs={"evaluation": "sha256:f"}))
    metric = found["profiles"]["board"]["metrics"]["accuracy"]
    assert (metric["difference"], metric["beyond"], found["worse"]) == (None, None, [])
    assert any("different evaluation sets" in text for text in side_by_side.notes(found))


def test_latencies_meet_in_fp32() -> None:
    """CMP-CMP-3: the paired ratios where both timed one fp32 file, the times of two runs else; it says which."""
    slower = report()
    slower["profiles"]["board"]["candidates"][1] |= {"latency_us": 20.0, "latency_ratio": 0.75}
    profile = compare_reports(report(), slower)["profiles"]["board"]
    assert (profile["latency_ratio"], profile["latency_by"]) == (1.5, "the same fp32")
    slower["profiles"]["board"]["candidates"][0]["sha256"] = "cc"
    profile = compare_reports(report(), slower)["profiles"]["board"]
    assert (profile["latency_ratio"], profile["latency_by"]) == (4.0, "two separate runs")


@pytest.mark.parametrize(
    ("lost", "gates", "worse"), [(0.004, (5, 5), 0), (0.006, (5, 5), 1), (0.006, (5, 10), 1), (0.006, (10, 10), 0)]
)
def test_the_stricter_gate_decides(lost: float, gates: tuple[int, int], worse: int) -> None:
    """CMP-CMP-4: a loss beyond it is listed with both numbers."""
    a, b = report(0.9), report(0.9 - lost)
    for value, most in zip((a, b), gates, strict=True):
        value["request"]["gate"]["primary_drop_max"] = most / 1000
    found = compare_reports(a, b)["worse"]
    assert len(found) == worse
    if found:
        assert found[0]["lost"] == pytest.approx(lost)


@pytest.mark.parametrize(("rmse", "worse"), [(1.0, 0), (1.04, 0), (1.2, 1), (0.5, 0)])
def test_an_error_is_lost_as_a_share_of_no_skill(rmse: float, worse: int) -> None:
    """CMP-CMP-4: for a regression the loss is the RMSE gained in parts of what no skill errs, as in the gate."""

    def regression(value: float) -> Json:
        made = report(value, evaluation={"primary": "rmse", "n": 100})
        for item in made["profiles"]["board"]["candidates"]:
            item["metrics"] = {"rmse": {**item["metrics"]["accuracy"], "no_skill": 10.0}}
        return made

    assert len(compare_reports(regression(1.0), regression(rmse))["worse"]) == worse


def test_a_report_of_another_form_is_refused() -> None:
    """CMP-CMP-1: a key that is missing is named, not a traceback."""
    old = copy.deepcopy(report())
    del old["profiles"]["board"]["manifest"]
    with pytest.raises(LayoutError, match="manifest"):
        compare_reports(report(), old)


def test_a_profile_without_artifact_has_no_figures() -> None:
    """CMP-CMP-1: it is shown as not built."""
    absent = report()
    absent["profiles"]["board"] |= {"status": "not_built", "chosen": None, "manifest": None, "candidates": []}
    found = compare_reports(report(), absent)
    rows = {row.what: row for row in side_by_side.rows(found["profiles"]["board"])}
    assert (rows["status"].b, rows["size"].b, rows["accuracy"].b) == ("not built", "–", "–")
    assert found["worse"] == []


def test_worse_is_a_status_of_its_own(kit: Kit, release: Release, worse: Release, tmp_path: Path) -> None:
    """CMP-CMP-4: 0 without the flag, 4 with it, 0 the other way round, 2 for another evaluation set."""
    assert call(release.directory, worse.directory).exit_code == 0
    failed = call(release.directory, worse.directory, "--fail-on-worse", "--json")
    assert failed.exit_code == 4
    assert [item["profile"] for item in json.loads(failed.stdout)["worse"]] == ["x86-64"]
    assert call(worse.directory, release.directory, "--fail-on-worse").exit_code == 0
    with np.load(kit.evaluation) as data:
        np.savez(tmp_path / "fewer.npz", x=data["x"][:900], y=data["y"][:900])
    request = kit.request(
        tmp_path / "out", evaluation=tmp_path / "fewer.npz", profiles=("x86-64",), precisions=("fp16",)
    )
    other = build(request)
    refused = call(release.directory, other.directory, "--fail-on-worse")
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "cannot be said" in refused.stderr
    assert call(release.directory, other.directory).exit_code == 0

"""Whole builds with real files."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from outrider_compiler import GateError, UsageError, build
from outrider_compiler.errors import DataError, LockError, NothingBuiltError, UnchangedError
from outrider_compiler.release import Release
from outrider_compiler.request import Gate
from tests.compiler.conftest import Kit


def candidates(release: Release, profile: str) -> dict[str, dict[str, object]]:
    """Candidates of a profile in report.json, by name."""
    return {item["name"]: item for item in release.report()["profiles"][profile]["candidates"]}


def test_a_release_has_an_artifact_for_each_profile(release: Release) -> None:
    """CMP-CAN-1: every precision that a profile allows was built and measured, and one was chosen."""
    release.verify()
    assert release.profiles == ("x86-64", "x86-64-vnni")
    for profile in release.profiles:
        measured = candidates(release, profile)
        assert set(measured) == {"fp32", "fp16", "int8_static", "int8_dynamic", "int8_weight"}
        absent = {item["name"]: item["reason"] for item in release.report()["profiles"][profile]["not_built"]}
        assert set(absent) == {"int8_mixed", "int4_weight"}
        assert absent["int8_mixed"].startswith(("int8_static already reaches", "nothing worth it would be left"))
        assert [name for name, item in measured.items() if item["verdict"] == "chosen"] == [
            release.report()["profiles"][profile]["chosen"]
        ]


def test_nothing_that_ships_is_slower_or_worse(release: Release) -> None:
    """CMP-GAT-1: what was chosen is no slower than fp32, agrees with the source and keeps its signal."""
    for profile in release.profiles:
        chosen = next(item for item in candidates(release, profile).values() if item["verdict"] == "chosen")
        assert chosen["latency_ratio"] <= 1.0
        assert chosen["agreement"] >= 0.98
        assert min(chosen["sqnr_db"].values()) >= 20


def test_int8_is_small(release: Release) -> None:
    """CMP-CAN-2: int8 files take at most 0.36 of fp32, and static ones really run convolutions on integers."""
    measured = candidates(release, "x86-64-vnni")
    for name, share in (("int8_static", 0.7), ("int8_dynamic", 0.2), ("int8_weight", 0.0)):
        assert measured[name]["size_bytes"] <= 0.36 * measured["fp32"]["size_bytes"]
        assert measured[name]["quantized_share"] >= share


def test_fp32_is_kept_with_the_measured_reason(release: Release) -> None:
    """CMP-CHO-3: where fp32 ships, the reason names every other candidate with what it measured."""
    profile = release.report()["profiles"]["x86-64"]
    if profile["chosen"] != "fp32":
        pytest.skip("int8 won on this machine")
    assert profile["reason"].startswith("fp32 kept because of what was measured")
    assert all(name in profile["reason"] for name in ("fp16", "int8_static", "int8_dynamic"))
    assert "µs" in profile["reason"]


def test_broken_calibration_is_refused(kit: Kit, tmp_path: Path) -> None:
    """CMP-GAT-2: ranges from data in the wrong unit: refused on signal-to-noise and agreement, with the numbers."""
    with np.load(kit.calibration) as data:
        np.savez(tmp_path / "unscaled.npz", x=data["x"] * np.float32(0.02))
    request = kit.request(tmp_path / "out", calibration=tmp_path / "unscaled.npz", profiles=("x86-64-vnni",))
    found = candidates(build(request), "x86-64-vnni")
    said = " ".join(found["int8_static"]["refusals"])
    assert found["int8_static"]["verdict"] == "refused"
    assert "signal-to-quantization-noise" in said
    assert "dB are needed" in said
    assert "agreement with the source model" in said


@pytest.mark.parametrize("hash_seed", ["1", "2"])
def test_locked_rebuild_is_byte_identical(kit: Kit, release: Release, tmp_path: Path, hash_seed: str) -> None:
    """CMP-REP-1: from another folder, with another hash seed and other threads, the lock gives the same directory."""
    elsewhere = tmp_path / f"copy-{hash_seed}"
    shutil.copytree(kit.folder, elsewhere)
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "OMP_NUM_THREADS": hash_seed}
    arguments = ["waves.onnx", "--name", "waves", "--version", "1.0", "--counter", "1", "--profile", "x86-64-vnni"]
    arguments += ["--profile", "x86-64", "--calibration", "calib.npz", "--evaluation", "eval.npz", "--out", "out"]
    arguments += ["--embedding", "embedding", "--locked", str(release.directory / "outrider.lock")]
    command = [sys.executable, "-m", "outrider_compiler", "build", *arguments]
    done = subprocess.run(command, cwd=elsewhere, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert tree(elsewhere / "out") == tree(release.directory)


def tree(folder: Path) -> dict[str, bytes]:
    """Every file of a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_a_lock_of_other_inputs_is_refused(kit: Kit, release: Release, tmp_path: Path) -> None:
    """CMP-REP-2: a lock says which input, tool or word of the request differs."""
    with np.load(kit.calibration) as data:
        np.savez(tmp_path / "fewer.npz", x=data["x"][:200])
    request = kit.request(tmp_path / "out", locked=release.directory / "outrider.lock", embedding="embedding")
    with pytest.raises(LockError, match="input 'calibration'"):
        build(replace(request, calibration=tmp_path / "fewer.npz"))
    with pytest.raises(LockError, match="request 'version'"):
        build(replace(request, version="2.0"))


def test_a_damaged_lock_is_refused(kit: Kit, release: Release, tmp_path: Path) -> None:
    """CMP-REP-2: a lock that is no lock is an error, not a traceback."""
    value = json.loads((release.directory / "outrider.lock").read_bytes())
    for damaged in (b"{", json.dumps({**value, "profiles": {"x86-64": {}}}).encode(), b'{"v":1}'):
        (tmp_path / "lock").write_bytes(damaged)
        with pytest.raises(LockError):
            build(kit.request(tmp_path / "out", locked=tmp_path / "lock"))


def test_no_trace_of_the_machine(release: Release, kit: Kit) -> None:
    """CMP-NRM-1: no path, no stack trace and no producer in any file of the release."""
    for name, data in tree(release.directory).items():
        for trace in (b"/secret/place", str(kit.folder).encode(), b"someone", b"stack_trace"):
            assert trace not in data, name


def test_nothing_half_written(kit: Kit, tmp_path: Path) -> None:
    """CMP-OUT-1: a build that fails leaves neither the release nor a scratch folder."""
    impossible = Gate(agreement_min=1.1)
    with pytest.raises(GateError, match="not even fp32 passes"):
        build(kit.request(tmp_path / "out", gate=impossible, profiles=("x86-64",)))
    assert list(tmp_path.iterdir()) == []


def test_an_existing_release_is_not_touched(kit: Kit, tmp_path: Path) -> None:
    """CMP-OUT-2: a directory that exists is a usage error."""
    (tmp_path / "out").mkdir()
    with pytest.raises(UsageError, match="exists already"):
        build(kit.request(tmp_path / "out"))


def test_a_profile_without_its_engine_is_said(kit: Kit, tmp_path: Path) -> None:
    """CMP-CAN-3: LiteRT from an ONNX source is not built; alone, that is a refusal that says why."""
    with pytest.raises(NothingBuiltError, match="LiteRT is built from torch sources alone"):
        build(kit.request(tmp_path / "out", profiles=("raspberry-pi-5",)))
    made = build(kit.request(tmp_path / "out", profiles=("x86-64", "raspberry-pi-5")))
    said = made.report()["profiles"]["raspberry-pi-5"]
    assert (made.profiles, said["status"]) == (("x86-64",), "not_built")
    assert {item["name"] for item in said["not_built"]} == {"fp32", "int8_static", "int8_dynamic", "int8_weight"}


def test_evaluation_data_was_not_calibrated_on(kit: Kit, tmp_path: Path) -> None:
    """CMP-DAT-3: one sample in both sets is refused, by content."""
    with np.load(kit.calibration) as calibration, np.load(kit.evaluation) as evaluation:
        mixed = np.concatenate([calibration["x"], evaluation["x"][:1]])
    np.savez(tmp_path / "mixed.npz", x=mixed)
    with pytest.raises(DataError, match="1 samples stand in both"):
        build(kit.request(tmp_path / "out", calibration=tmp_path / "mixed.npz"))


def test_a_precision_that_was_asked_for_must_change_something(kit: Kit, tmp_path: Path) -> None:
    """CMP-CHO-7: `--precision` builds that form beside fp32; one that changes nothing is an error with the reason."""
    asked = kit.request(tmp_path / "out", profiles=("x86-64",), precisions=("int8_static",))
    assert {item["precision"] for item in candidates(build(asked), "x86-64").values()} == {"fp32", "int8_static"}
    nodes = [onnx.helper.make_node("Softmax", ["x"], ["probabilities"], axis=1)]
    infos = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n", 4]) for name in ("x", "probabilities")
    ]
    bare = onnx.helper.make_model(
        onnx.helper.make_graph(nodes, "g", infos[:1], infos[1:]),
        opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9,
    )  # fmt: skip
    onnx.save_model(bare, tmp_path / "bare.onnx")
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 4)).astype(np.float32)
    np.savez(tmp_path / "calib.npz", x=x[:50])
    np.savez(tmp_path / "eval.npz", x=x[50:], y=x[50:].argmax(axis=1))
    request = kit.request(
        tmp_path / "bare", source=str(tmp_path / "bare.onnx"), calibration=tmp_path / "calib.npz",
        evaluation=tmp_path / "eval.npz", profiles=("x86-64",), precisions=("int8_static",),
    )  # fmt: skip
    with pytest.raises(UnchangedError, match="int8_static was asked for and not built"):
        build(request)
    with pytest.raises(UsageError, match="raspberry-pi-5 does not allow fp16"):
        build(replace(request, profiles=("raspberry-pi-5",), precisions=("fp16",)))
    assert not (tmp_path / "bare").exists()


def test_limits_of_the_gate_can_be_set(kit: Kit, tmp_path: Path) -> None:
    """CMP-GAT-6: `--gate` sets a limit by name, the lock remembers it, and nonsense is a usage error."""
    assert Gate().with_limits(("agreement_min=0.9", "sqnr_min_db=15")) == Gate(agreement_min=0.9, sqnr_min_db=15.0)
    for word in ("agreement=1", "agreement_min", "agreement_min=high", "agreement_min=nan", "unmeasured_latency=1"):
        with pytest.raises(UsageError, match="--gate"):
            Gate().with_limits((word,))
    made = build(kit.request(tmp_path / "out", profiles=("x86-64",), gate=Gate(sqnr_min_db=25.0)))
    assert json.loads((made.directory / "outrider.lock").read_bytes())["request"]["gate"]["sqnr_min_db"] == 25.0

"""Damaged files through the real command: each ends in success or in a refusal of one line, never otherwise.

`make test` runs a slice; `make soak` runs 1,000 models and a few dozen of the other kinds.
"""

from __future__ import annotations

import importlib.util
import io
import json
import os
import random
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from outrider_compiler import data, importers, lock
from outrider_compiler.errors import CompilerError
from outrider_compiler.release import Release
from tests.compiler.conftest import Kit
from tests.compiler.mutations import Mutant, damaged_bytes, mutants

PROFILES = {".onnx": "x86-64", ".tflite": "raspberry-pi-5", ".pt2": "x86-64"}
WAIT_S = 90
OURS = re.compile(r": (Name|Attribute|Import|ModuleNotFound|Type|Assertion|UnboundLocal|Key|Index)Error: ")
LITERT = importlib.util.find_spec("ai_edge_litert") is not None


def ending(path: Path) -> tuple[int, str]:
    """Status and last words of `outrider-compiler check`; −1 where it did not end."""
    command = [sys.executable, "-m", "outrider_compiler", "check", str(path), "--profile", PROFILES[path.suffix]]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    try:
        done = subprocess.run(command, capture_output=True, env=environment, timeout=WAIT_S, check=False)
    except subprocess.TimeoutExpired:
        return -1, "did not end"
    return done.returncode, (done.stdout + done.stderr).decode("utf-8", "replace")


def is_clean(status: int, said: str) -> bool:
    """Success, or a refusal in one line with one hint, which is not a mistake of ours in a child."""
    one_line = "Traceback" not in said and len(said.strip().splitlines()) <= 2
    return status in (0, 3) and one_line and not OURS.search(said)


def run_all(files: Iterable[Mutant], folder: Path) -> Counter[int]:
    """How often each status came; fails with every file that ended otherwise."""

    def one(mutant: Mutant) -> tuple[str, int, str]:
        path = folder / f"{mutant.name}{mutant.suffix}"
        path.write_bytes(mutant.data)
        status, said = ending(path)
        path.unlink()
        return mutant.name + mutant.suffix, status, said

    with ThreadPoolExecutor(2) as pool:
        ends = list(pool.map(one, files))
    bad = [(name, status, said[-400:]) for name, status, said in ends if not is_clean(status, said)]
    assert not bad, bad
    return Counter(status for _, status, _ in ends)


def test_a_slice_of_damaged_models(tmp_path: Path) -> None:
    """CMP-SRC-16: twenty damaged models end in success or refusal."""
    counted = run_all(mutants(1, 20, litert=LITERT), tmp_path)
    assert counted[3] > 5


@pytest.mark.soak
@pytest.mark.timeout(1200)
def test_a_thousand_damaged_models(tmp_path: Path) -> None:
    """CMP-SRC-16: so do a thousand; the count is printed."""
    started = time.monotonic()
    counted = run_all(mutants(int(os.environ.get("SEED", "0")), 1000, litert=LITERT), tmp_path)
    print(f"1000 models: {counted[0]} read, {counted[3]} refused in {time.monotonic() - started:.0f} s")
    assert counted[3] > 300
    assert counted[0] > 30


def survives(read: Callable[[Path], object], path: Path) -> bool:
    """Read, or refused with exit status 3."""
    try:
        read(path)
    except CompilerError as error:
        return error.exit_code == 3 and bool(str(error))
    return True


def test_damaged_data(tmp_path: Path) -> None:
    """CMP-DAT-1, CMP-DAT-4: damaged .npz files, plain and compressed, are read or refused."""
    x, y = np.arange(60, dtype=np.float32).reshape(10, 6), np.arange(10)
    for save in (np.savez, np.savez_compressed):
        buffer = io.BytesIO()
        save(buffer, x=x, y=y)
        for i in range(300):
            (tmp_path / "set.npz").write_bytes(damaged_bytes(random.Random(i), buffer.getvalue()))
            assert survives(data.load, tmp_path / "set.npz")


def test_damaged_locks(release: Release, tmp_path: Path) -> None:
    """CMP-REP-2: a damaged lock is read or refused, whether its bytes or its values are wrong."""
    whole = (release.directory / "outrider.lock").read_bytes()
    for i in range(300):
        (tmp_path / "lock").write_bytes(damaged_bytes(random.Random(i), whole))
        assert survives(lock.load, tmp_path / "lock")
    for i in range(300):
        value = json.loads(whole)
        replace_somewhere(random.Random(i), value)
        (tmp_path / "lock").write_text(json.dumps(value), encoding="utf-8")
        assert survives(lock.load, tmp_path / "lock")


def replace_somewhere(rng: random.Random, value: dict[str, object] | list[object]) -> None:
    """Put something else into the place of one value, however deep."""
    places: list[tuple[object, object]] = []
    waiting: list[object] = [value]
    while waiting:
        item = waiting.pop()
        pairs = item.items() if isinstance(item, dict) else enumerate(item) if isinstance(item, list) else ()
        for key, inner in pairs:
            places.append((item, key))
            waiting.append(inner)
    holder, key = rng.choice(places)
    holder[key] = rng.choice((None, 0, -1, 1e300, "", "text", [], {}, [[]], {"a": {}}, True, 2**70))  # type: ignore[index]  # a dict or list


@pytest.mark.soak
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("suffix", [".pt", ".safetensors", ".pt2"])
def test_damaged_weights_and_programs(kit: Kit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str) -> None:
    """CMP-SRC-5, CMP-SRC-8, CMP-SRC-12: damaged checkpoints and programs are read or refused."""
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file

    (tmp_path / "linear_of_test.py").write_text(
        "import torch\n\ndef make():\n    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(600, 4))\n",
        encoding="utf-8",
    )
    monkeypatch.chdir(tmp_path)
    module, path = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(600, 4)), tmp_path / f"whole{suffix}"
    if suffix == ".pt2":
        torch.export.save(torch.export.export(module, (torch.ones(2, 100, 6),)), path)
    else:
        (save_file if suffix == ".safetensors" else torch.save)(module.state_dict(), path)
    whole, example = path.read_bytes(), data.load(kit.calibration)
    architecture = None if suffix == ".pt2" else "linear_of_test:make"

    def one(i: int) -> None:
        folder = tmp_path / f"{i}"
        folder.mkdir()
        (folder / f"net{suffix}").write_bytes(damaged_bytes(random.Random(i), whole))
        assert survives(lambda file: importers.load(str(file), architecture, example, folder), folder / f"net{suffix}")

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(one, range(12 if suffix == ".pt2" else 24)))

"""Candidates are built once, and their bytes depend on nothing but the inputs."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from outrider_compiler.candidate import Candidate
from outrider_compiler.candidates import naming
from outrider_compiler.normalise import copied
from outrider_profiles import load
from tests.architecture.tree import ROOT
from tests.compiler.candidates import nets

VNNI, PLAIN = load("x86-64-vnni"), load("x86-64")
SCRIPT = """
import sys, json, hashlib, dataclasses, pathlib
from outrider_compiler.candidate import Candidate
from outrider_profiles import load
from tests.compiler.candidates import nets
found = {}
for make in (nets.transformer, nets.spiky):
    for board in ("x86-64-vnni", "x86-64", "jetson-orin-nano"):
        folder = pathlib.Path(sys.argv[1]) / make.__name__ / board
        folder.mkdir(parents=True)
        shop, profile = nets.workshop(make(), folder), load(board)
        for precision in ("fp32", "fp16", "int8_static", "int8_dynamic", "int4_weight", "int16_activation"):
            for item in shop.build(profile, precision):
                found[f"{make.__name__} {board} {item.name}"] = digest(item)
        recipe = {"float": [2, 3, 4]}
        for item in shop.build(profile, "int8_mixed", recipe):
            found[f"{make.__name__} {board} mixed"] = digest(item)
print(json.dumps(found))
"""


def digests(folder: Path, hash_seed: str, threads: str) -> dict[str, str]:
    """Digest of each candidate as another process builds it."""
    head = "import hashlib\ndef digest(item): return hashlib.sha256(getattr(item, 'data', b'')).hexdigest()\n"
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "OMP_NUM_THREADS": threads, "PYTHONPATH": str(ROOT)}
    folder.mkdir()
    command = [sys.executable, "-c", head + SCRIPT, str(folder)]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.timeout(300)
def test_bytes_depend_on_the_inputs_alone(tmp_path: Path) -> None:
    """CMP-INT-16: hash seed, number of threads and folder change no byte of any candidate."""
    first, second = digests(tmp_path / "a", "1", "1"), digests(tmp_path / "b", "2", "2")
    assert first == second
    assert len(set(first.values())) > 20


def test_profiles_share_what_is_the_same(tmp_path: Path) -> None:
    """CMP-INT-17: two profiles that need the same bytes get the same candidate, built once."""
    shop = nets.workshop(nets.swishing(), tmp_path)
    for precision, same in (("fp32", True), ("int8_static", False)):
        one, other = shop.build(VNNI, precision)[0], shop.build(PLAIN, precision)[0]
        assert (one.data == other.data if isinstance(one, Candidate) and isinstance(other, Candidate) else None) is same
    assert shop.build(VNNI, "int8_static")[0] is shop.build(VNNI, "int8_static")[0]


def test_the_source_is_not_changed(tmp_path: Path) -> None:
    """CMP-INT-17: building candidates leaves the imported model as it was."""
    made = nets.transformer()
    before = hashlib.sha256(made.SerializeToString(deterministic=True)).hexdigest()
    shop = nets.workshop(made, tmp_path)
    simplified = copied(shop.simplified) if shop.simplified is not None else None
    shop.build(VNNI)
    assert hashlib.sha256(made.SerializeToString(deterministic=True)).hexdigest() == before
    assert shop.simplified == simplified


def test_layers_have_the_names_of_modules() -> None:
    """CMP-INT-18: torch's exporter numbers nodes, and writes down the module: the layer is called by its path."""
    made = nets.transformer(1)
    layer, function = (node for node in made.graph.node if node.name in ("b0.q", "b0.scores"))
    for node, scopes, classes in (
        (layer, "['', 'b', 'blocks.0.query', 'linear']", "['N', 'N.Block', 'torch.nn.modules.linear.Linear', 'a']"),
        (function, "['', 'blocks.0', 'matmul']", "['N', 'N.Block', 'aten.matmul.default']"),
    ):  # fmt: skip
        node.metadata_props.add(key=naming.SCOPES, value=scopes)
        node.metadata_props.add(key=naming.CLASSES, value=classes)
    named = copied(made)
    naming.name_nodes(named, made)
    names = [node.name for node in named.graph.node]
    assert "blocks.0.query" in names
    assert "blocks.0.matmul" in names
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("text", ["['a'", "__import__('os')", "[1, 2]", "x" * 5000, "(" * 300])
def test_what_is_no_list_of_names_is_ignored(text: str) -> None:
    """CMP-INT-18: what a file claims about its modules is read as data."""
    made = nets.swishing()
    made.graph.node[0].metadata_props.add(key=naming.SCOPES, value=text)
    made.graph.node[0].metadata_props.add(key=naming.CLASSES, value=text)
    assert naming.module_path(made.graph.node[0]) == ""

"""Load time of a sealed model beside a plain one: `python -m examples.bench.at_rest`.

Models of several sizes are packed as an agent keeps them, plain and sealed, and loaded by the worker's own code: from
the open file to a session that is ready, hashing and (sealed) decryption included. Each load runs in a fresh process,
after one that fills the page cache; imports apart, and told apart.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from outrider_agent import sealed
from outrider_agent.durable import Durable
from outrider_agent.paths import Paths
from outrider_agent.update import download
from outrider_protocol import ids
from outrider_protocol.limits import CHUNK_BYTES
from outrider_protocol.manifest import Config, Descriptor, Load, Manifest, Role, TensorSpec, device_layer

AIM = 2.0
SIZES_MB = (1, 16, 96)
LOADER = """
import json, sys, time
from pathlib import Path
import onnxruntime
from outrider_agent.worker import artifact, engine
began = time.perf_counter()
if sys.argv[2] == "sealed":
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF
imports_ms = (time.perf_counter() - began) * 1e3
loaded = engine.load(artifact.read_artifact(Path(sys.argv[1])))
print(json.dumps([loaded.load_ms, imports_ms]))
"""


class Given:
    """A source of one blob."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def document(self, name: str, limit_bytes: int) -> bytes | None:
        """None."""
        del name, limit_bytes
        return None

    def chunks(self, hex_digest: str, numbers: Sequence[int]) -> Iterator[tuple[int, bytes]]:
        """See `outrider_agent.update.sources.Source`."""
        del hex_digest
        for number in numbers:
            yield number, self._data[number * CHUNK_BYTES : (number + 1) * CHUNK_BYTES]


def model_of(megabytes: int) -> bytes:
    """A chain of products with so many megabytes of weights."""
    rng, width, layers = np.random.default_rng(0), 512, megabytes
    weights = [
        numpy_helper.from_array(rng.normal(size=(width, width)).astype(np.float32), f"w{n}") for n in range(layers)
    ]
    names = ["x", *[f"h{n}" for n in range(layers - 1)], "probabilities"]
    nodes = [helper.make_node("MatMul", [names[n], f"w{n}"], [names[n + 1]]) for n in range(layers)]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", width])]
    outputs = [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", width])]
    graph = helper.make_graph(nodes, "chain", inputs, outputs, weights)
    return bytes(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    )


def config_of(mode: str) -> Config:
    """What the worker reads beside the model."""
    spec = TensorSpec("x", "float32", (-1, 512))
    return Config(
        "bench",
        "1.0",
        1,
        "x86-64",
        "onnxruntime",
        "fp32",
        (spec,),
        (replace(spec, name="probabilities"),),
        "probabilities",
        tuple(f"c{n}" for n in range(512)),
        load=Load(mode=mode),
    )


def pack(directory: Path, model: bytes, layer: Descriptor, mode: str, key: bytes | None) -> None:
    """An artifact's directory as the update process commits it."""
    directory.mkdir(parents=True)
    config = config_of(mode).encode()
    manifest = Manifest(Descriptor("application/json", ids.digest_of(config), len(config)), (layer,), {})
    (directory / "manifest.json").write_bytes(manifest.encode())
    (directory / "config.json").write_bytes(config)
    download.layer(Given(model), layer, directory, Durable(), key)


def load_ms(directory: Path, home: Path, how: str) -> tuple[float, float]:
    """(load, imports of cryptography) in ms, in a process of its own."""
    environment = {**os.environ, "OUTRIDER_HOME": str(home), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", LOADER, str(directory), how]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    loaded, imports = json.loads(done.stdout)
    return float(loaded), float(imports)


def rows(home: Path, repeats: int) -> Iterator[str]:
    """One row a size."""
    paths = Paths.under(home)
    paths.var.mkdir(parents=True)
    key = sealed.make_key(paths, Durable())
    for megabytes in SIZES_MB:
        model = model_of(megabytes)
        layer = device_layer(Role.MODEL, "model.onnx", model)
        places = {"plain": ("default", None), "mapped": ("mmap", None), "sealed": ("default", key)}
        times: dict[str, list[tuple[float, float]]] = {}
        for name, (mode, with_key) in places.items():
            pack(home / f"{megabytes}-{name}", model, layer, mode, with_key)
            load_ms(home / f"{megabytes}-{name}", home, name)
            times[name] = []
        for _ in range(repeats):
            for name in places:
                times[name].append(load_ms(home / f"{megabytes}-{name}", home, name))
        middle = {name: statistics.median(loaded for loaded, _ in found) for name, found in times.items()}
        imports = statistics.median(found for _, found in times["sealed"])
        cells = [f"{len(model) / 1e6:.0f} MB", *(f"{middle[name]:.1f} ms" for name in ("plain", "mapped", "sealed"))]
        yield f"| {' | '.join(cells)} | {middle['sealed'] / middle['plain']:.2f} | {imports:.0f} ms |"


def main() -> None:
    """Measure, print the table as Markdown."""
    parser = argparse.ArgumentParser(description="Load time of a sealed model beside a plain one.")
    parser.add_argument("--repeats", type=int, default=7)
    repeats: int = parser.parse_args().repeats
    with tempfile.TemporaryDirectory(prefix="outrider-at-rest-") as name:
        lines = list(rows(Path(name) / "home", repeats))
    head = [
        "| model | plain | plain, mapped | sealed | sealed / plain | import of cryptography |",
        "|---|---|---|---|---|---|",
    ]
    machine = f"Python {platform.python_version()}, {platform.system()} {platform.machine()}, {os.cpu_count()} CPUs"
    last = f"Aim: sealed at most {AIM:.0f} times plain. {machine}, ONNX Runtime {onnxruntime.__version__}."
    sys.stdout.write("\n".join([*head, *lines, "", last]) + "\n")


if __name__ == "__main__":
    main()

"""How long `outrider-compiler check` takes to refuse a small model: `python -m examples.bench.refusals`.

Each file goes to the command as a user starts it, and must end with status 3; rounds are interleaved with a file that
passes and with a bare import of onnx and ONNX Runtime, which is what no checker of ONNX files can save.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

AIM_S: Final = 2.0
REFUSED: Final = 3
OPSET: Final = 17
WIDTH: Final = 64


@dataclass(frozen=True)
class Case:
    """One file, and the status that the command must end with."""

    title: str
    data: bytes
    status: int = REFUSED


def net(*tail: onnx.NodeProto, opset: int = OPSET, outside: bool = False) -> bytes:
    """A dense layer with a softmax, and what comes after it; `outside`: its weights are in a file that is missing."""
    weights = numpy_helper.from_array(np.random.default_rng(0).normal(size=(WIDTH, 10)).astype(np.float32), "w")
    if outside:
        onnx.external_data_helper.set_external_data(weights, "elsewhere.bin")
        weights.ClearField("raw_data")
    nodes = [helper.make_node("MatMul", ["x", "w"], ["h"], "dense"), helper.make_node("Softmax", ["h"], ["p"], "end")]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", WIDTH])]
    outputs = [helper.make_tensor_value_info("p", TensorProto.FLOAT, ["n", 10])]
    graph = helper.make_graph([*nodes, *tail], "net", inputs, outputs, [weights])
    imports = [helper.make_opsetid("", opset), helper.make_opsetid("com.acme", 1)]
    return bytes(helper.make_model(graph, opset_imports=imports, ir_version=8).SerializeToString())


def cases() -> list[Case]:
    """What is refused, and one that passes."""
    whole = net()
    custom = helper.make_node("Swirl", ["h"], ["s"], "swirl", domain="com.acme")
    return [
        Case("no model at all", b"junk"),
        Case("cut in half", whole[: len(whole) // 2]),
        Case("an operator that no engine has", net(custom)),
        Case("weights in a file that is missing", net(outside=True)),
        Case("an opset from the future", net(opset=99)),
        Case("passes", whole, 0),
    ]


def seconds(command: list[str], status: int) -> float:
    """By the clock, from start to end; the status must be the one that was expected."""
    began_s = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    took_s = time.perf_counter() - began_s
    if done.returncode != status:
        raise RuntimeError(f"{command}: status {done.returncode}, expected {status}\n{done.stdout}{done.stderr}")
    return took_s


def measured(repeats: int, directory: Path) -> dict[str, list[float]]:
    """Seconds of every round, by title."""
    commands = {"import of onnx and ONNX Runtime": ([sys.executable, "-c", "import onnx, onnxruntime"], 0)}
    for n, case in enumerate(cases()):
        path = directory / f"{n}.onnx"
        path.write_bytes(case.data)
        check = [str(Path(sys.executable).with_name("outrider-compiler")), "check", str(path), "--profile", "x86-64"]
        commands[case.title] = (check, case.status)
    found: dict[str, list[float]] = {title: [] for title in commands}
    for _ in range(repeats):
        for title, (command, status) in commands.items():
            found[title].append(seconds(command, status))
    return found


def main() -> int:
    """Measure and print; 1 where a median is over the aim."""
    parser = argparse.ArgumentParser(description="Refusals of small models, as a user starts them.")
    parser.add_argument("--repeats", type=int, default=15)
    with tempfile.TemporaryDirectory() as directory:
        found = measured(parser.parse_args().repeats, Path(directory))
    print("| file | median | 10–90 % |\n|---|---|---|")
    for title, times in found.items():
        low, *_, high = statistics.quantiles(times, n=10)
        print(f"| {title} | {statistics.median(times):.2f} s | {low:.2f}–{high:.2f} s |")
    print(
        f"\nAim: at most {AIM_S:g} s. Python {platform.python_version()}, {platform.system()} {platform.machine()}, "
        f"{os.cpu_count()} CPUs, onnx {onnx.__version__}, ONNX Runtime {onnxruntime.__version__}."
    )
    return 0 if max(map(statistics.median, found.values())) <= AIM_S else 1


if __name__ == "__main__":
    sys.exit(main())

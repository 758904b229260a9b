"""Sources: what is read, what is refused, and in which process."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from outrider_compiler import data, importers
from outrider_compiler.candidate import Candidate
from outrider_compiler.engines import load
from outrider_compiler.errors import CompilerError, SourceError, UsageError
from outrider_compiler.importers import sandbox
from outrider_profiles import Load
from tests.compiler.conftest import Kit

ARCHITECTURE = """
import torch
from torch import nn

class Net(nn.Module):
    output_names = ("probabilities", "embedding")

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.dense, self.head = nn.Linear(6, 8), nn.Linear(8, 4)

    def forward(self, x):
        embedding = torch.relu(self.dense(x.mean(1)))
        return torch.softmax(self.head(embedding), 1), embedding

def make():
    return Net()

def not_a_module():
    return 7
"""


@pytest.fixture
def workshop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with an importable architecture, which is the current folder."""
    (tmp_path / "arch_of_test.py").write_text(ARCHITECTURE, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "arch_of_test", raising=False)
    return tmp_path


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"", "checker|graph|IR|ir_version|opset"), (b"not a model at all", "not an ONNX file"), (os.urandom(300), ".")],
    ids=["empty", "text", "random"],
)
def test_a_corrupt_file_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    """CMP-SRC-1: bytes that are no model are a `SourceError` that names the file."""
    path = tmp_path / "broken.onnx"
    path.write_bytes(content)
    with pytest.raises(SourceError, match=said) as caught:
        importers.onnx_file.load(path)
    assert "broken.onnx" in str(caught.value)


def test_truncated_and_mutated_files_never_crash(kit: Kit) -> None:
    """CMP-SRC-1: cut off or with bytes changed, a file is refused or read, never anything else."""
    whole, rng = kit.model.read_bytes(), np.random.default_rng(0)
    for _ in range(60):
        damaged = bytearray(whole[: rng.integers(1, len(whole) + 1)])
        for place in rng.integers(0, min(len(damaged), 2000), 4):
            damaged[place] = rng.integers(0, 256)
        try:
            importers.onnx_file.parse(bytes(damaged), "damaged")
        except CompilerError:
            continue


def test_tensors_outside_the_file_are_refused(kit: Kit, tmp_path: Path) -> None:
    """CMP-SRC-2: external data is refused, naming the tensor."""
    model = onnx.load_model(kit.model)
    onnx.save_model(model, tmp_path / "split.onnx", save_as_external_data=True, size_threshold=0, location="weights")
    with pytest.raises(SourceError, match=r"tensor '.+' lies outside the file"):
        importers.onnx_file.load(tmp_path / "split.onnx")


def test_what_is_no_source_is_refused(kit: Kit, tmp_path: Path) -> None:
    """CMP-SRC-3: another ending, a missing file, weights without an architecture."""
    example = data.load(kit.calibration)
    for source, architecture, kind in (
        ("model.h5", None, SourceError),
        ("gone.onnx", None, SourceError),
        ("weights.pt", None, UsageError),
        ("weights.pt", "no colon", UsageError),
        ("gone.pt", "a:b", SourceError),
    ):
        with pytest.raises(kind):
            importers.load(source, architecture, example, tmp_path)


def run(model: onnx.ModelProto, x: np.ndarray) -> dict[str, np.ndarray]:
    """Outputs of a model."""
    return load(Candidate("test", "fp32", "onnxruntime", model.SerializeToString()), Load()).run({"x": x})


def test_a_module_is_exported_in_a_process_of_its_own(kit: Kit, workshop: Path) -> None:
    """CMP-SRC-4: `module:callable` becomes a graph with the module's output names, its answers and a free batch."""
    torch = pytest.importorskip("torch")
    example = data.load(kit.calibration)
    x = example.feeds["x"][:7]
    imported = importers.load("arch_of_test:make", None, example, workshop)
    module = sandbox.make_module("arch_of_test:make", "")
    with torch.no_grad():
        expected = module(torch.from_numpy(x))[0].numpy()
    assert [item.name for item in imported.model.graph.output] == ["probabilities", "embedding"]
    np.testing.assert_allclose(run(imported.model, x)["probabilities"], expected, atol=1e-5)


def test_state_dicts_give_their_weights(workshop: Path) -> None:
    """CMP-SRC-4: .pt and .safetensors put the same weights into the module."""
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file

    source = sandbox.make_module("arch_of_test:make", "")
    with torch.no_grad():
        source.head.bias += 1
    torch.save(source.state_dict(), workshop / "net.pt")
    save_file(source.state_dict(), workshop / "net.safetensors")
    for name in ("net.pt", "net.safetensors"):
        made = sandbox.make_module("arch_of_test:make", name)
        assert torch.equal(made.head.bias, source.head.bias)
        assert not made.training


class Payload:
    """Runs code when it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (os.system, ("touch pwned",))


def test_a_pickle_that_runs_code_is_refused(kit: Kit, workshop: Path) -> None:
    """CMP-SRC-5: a checkpoint is data: code in it is refused by name and not run."""
    torch = pytest.importorskip("torch")
    torch.save({"weight": Payload()}, workshop / "evil.pt")
    (workshop / "old.pth").write_bytes(pickle.dumps({"weight": Payload()}))
    with pytest.raises(SourceError, match=r"evil\.pt: refused to unpickle"):
        importers.load("evil.pt", "arch_of_test:make", data.load(kit.calibration), workshop)
    with pytest.raises(sandbox.ChildRefusalError, match="refused to unpickle"):
        sandbox.make_module("arch_of_test:make", "old.pth")
    assert not (workshop / "pwned").exists()


@pytest.mark.parametrize(
    ("architecture", "said"),
    [
        ("arch_of_test:not_a_module", "returned int"),
        ("arch_of_test:gone", "gone"),
        ("no_such_module:make", "no_such_module"),
    ],
)
def test_what_is_no_module_is_refused(workshop: Path, architecture: str, said: str) -> None:
    """CMP-SRC-6: a callable that is missing or returns something else is refused in one sentence."""
    pytest.importorskip("torch")
    with pytest.raises(sandbox.ChildRefusalError, match=said):
        sandbox.make_module(architecture, "")


def test_foreign_code_has_no_network() -> None:
    """CMP-SRC-7: after `cut_network` no socket of the process connects or resolves."""
    code = (
        "import socket, sys\n"
        "from outrider_compiler.importers import sandbox\n"
        "listener = socket.create_server(('127.0.0.1', 0))\n"
        "sandbox.cut_network()\n"
        "connect = lambda: socket.create_connection(listener.getsockname())\n"
        "for use in (connect, lambda: socket.getaddrinfo('localhost', 1)):\n"
        "    try:\n        use()\n    except PermissionError:\n        continue\n    sys.exit(1)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_foreign_weights_are_refused(workshop: Path) -> None:
    """CMP-SRC-8: a state dict of another architecture, or a damaged file, is refused by name."""
    torch = pytest.importorskip("torch")
    torch.save({"other": torch.zeros(3)}, workshop / "other.pt")
    (workshop / "cut.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{")
    with zipfile.ZipFile(workshop / "zip.pt", "w") as archive:
        archive.writestr("x", b"y")
    for name in ("other.pt", "cut.safetensors", "zip.pt"):
        with pytest.raises(sandbox.ChildRefusalError, match=name):
            sandbox.make_module("arch_of_test:make", name)


def test_inconsistent_graphs_are_refused(tmp_path: Path) -> None:
    """CMP-SRC-1: a graph whose node reads a value that nobody makes is refused."""
    value = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n"])
    graph = helper.make_graph([helper.make_node("Relu", ["ghost"], ["y"])], "g", [], [value])
    onnx.save_model(helper.make_model(graph), tmp_path / "ghost.onnx")
    with pytest.raises(SourceError, match="ghost"):
        importers.onnx_file.load(tmp_path / "ghost.onnx")

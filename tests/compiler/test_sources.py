"""Sources: what is read, what is refused, and in which process."""

from __future__ import annotations

import os
import pickle
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from outrider_compiler import data, importers
from outrider_compiler.candidate import Candidate
from outrider_compiler.engines import load
from outrider_compiler.errors import SourceError, UsageError
from outrider_compiler.importers import sandbox
from outrider_profiles import Load
from tests.compiler import graphs
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
    [(b"", "holds no graph"), (b"not a model at all", "not an ONNX file"), (os.urandom(300), ".")],
    ids=["empty", "text", "random"],
)
def test_a_corrupt_file_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    """CMP-SRC-1: bytes that are no model are a `SourceError` that names the file."""
    path = tmp_path / "broken.onnx"
    path.write_bytes(content)
    with pytest.raises(SourceError, match=said) as caught:
        importers.check(path, ())
    assert "broken.onnx" in str(caught.value)


def read(path: Path) -> onnx.ModelProto:
    """What the child does with a file first, in this process: none of these files crashes a parser."""
    return importers.onnx_file.checked(importers.onnx_file.read(path)[0], str(path))


def damaged(change: Callable[[onnx.ModelProto], object]) -> onnx.ModelProto:
    """The dense net after a change to its protobuf."""
    model = graphs.dense()
    change(model)
    return model


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda m: m.graph.node[2].input.__setitem__(0, "ghost"), "ghost"),
        (lambda m: m.graph.node[0].input.__setitem__(0, "h"), "topologically"),
        (lambda m: m.graph.initializer[0].dims.append(3), r"'w1' of shape \[4, 8, 3\] needs 384 bytes.*128 are there"),
        (lambda m: m.graph.initializer[0].dims.__setitem__(0, -4), r"'w1' has the shape \[-4, 8\]"),
        (lambda m: m.graph.initializer[0].dims.extend([1 << 40, 1 << 40]), "'w1' of shape .* bytes, .* are allowed"),
        (lambda m: m.graph.initializer[0].ClearField("raw_data"), "'w1' .* needs 128 bytes of values, 0 are there"),
        (lambda m: setattr(m.graph.initializer[0], "data_type", 99), "'w1' has the unknown type 99"),
        (lambda m: m.graph.initializer[0].float_data.append(1), "'w1' has values as raw_data and as float_data"),
        (lambda m: setattr(m.graph.initializer[1], "name", "w1"), "two tensors have the name 'w1'"),
        (lambda m: setattr(m.graph.initializer[0], "raw_data", b"\0\0\xc0\x7f" * 32), "'w1': 32 of 32 values are NaN"),
        (lambda m: setattr(m.graph.node[3], "op_type", "Gemmm"), "Gemmm"),
        (lambda m: setattr(m, "ir_version", 99), "IR version 99: 3 to [0-9]+ are read"),
        (lambda m: setattr(m.opset_import[0], "version", 99), "opset 99: 8 to [0-9]+ are read"),
        (lambda m: m.ClearField("opset_import"), "no opset of the standard operators"),
        (lambda m: m.graph.output[0].type.tensor_type.shape.dim[1].__setattr__("dim_value", 7), "7"),
    ],
)
def test_inconsistent_graphs_are_refused(
    tmp_path: Path, change: Callable[[onnx.ModelProto], object], said: str
) -> None:
    """CMP-SRC-1, CMP-SRC-9: what does not fit together is refused, naming the node or tensor."""
    (tmp_path / "net.onnx").write_bytes(damaged(change).SerializeToString())
    with pytest.raises(SourceError, match=said) as caught:
        read(tmp_path / "net.onnx")
    assert "net.onnx" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.hint


def split(folder: Path, *, place: str = "weights", size: int | None = None, offset: int | None = None) -> Path:
    """The dense net with its first tensor in a file of its own."""
    model = graphs.dense()
    tensor = model.graph.initializer[0]
    (folder / "weights").write_bytes(tensor.raw_data)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", place), ("length", size), ("offset", offset)):
        if value is not None:
            tensor.external_data.add(key=key, value=str(value))
    path = folder / "net.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def test_tensors_beside_the_file_are_read(kit: Kit, tmp_path: Path) -> None:
    """CMP-SRC-2: external data inside the model's folder, in a folder below it too, gives the same model."""
    example = data.load(kit.calibration)
    (tmp_path / "below").mkdir()
    whole = importers.load(str(kit.model), None, example, tmp_path).model
    model = onnx.load_model(kit.model)
    onnx.save_model(model, tmp_path / "net.onnx", save_as_external_data=True, size_threshold=0, location="weights")
    first = importers.load(str(tmp_path / "net.onnx"), None, example, tmp_path)
    assert first.model.graph.initializer == whole.graph.initializer
    (tmp_path / "weights").rename(tmp_path / "below" / "weights")
    model = onnx.load_model(tmp_path / "net.onnx", load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            entry.value = "below/weights" if entry.key == "location" else entry.value
    (tmp_path / "net.onnx").write_bytes(model.SerializeToString())
    assert importers.load(str(tmp_path / "net.onnx"), None, example, tmp_path).model == first.model


def test_the_digest_covers_external_data(kit: Kit, tmp_path: Path) -> None:
    """CMP-SRC-10: one changed byte in a file beside the model is another source."""
    path, example = split(tmp_path), data.load(kit.calibration)
    before = importers.load(str(path), None, example, tmp_path).digest
    assert importers.load(str(path), None, example, tmp_path).digest == before
    values = bytearray((tmp_path / "weights").read_bytes())
    values[0] ^= 1
    (tmp_path / "weights").write_bytes(values)
    assert importers.load(str(path), None, example, tmp_path).digest != before


def linked(folder: Path) -> None:
    """The data file is a symbolic link."""
    (folder / "weights").rename(folder / "real")
    (folder / "weights").symlink_to("real")


def linked_folder(folder: Path) -> None:
    """A folder on the way is a symbolic link."""
    (folder / "there").mkdir()
    (folder / "weights").rename(folder / "there" / "weights")
    (folder / "below").symlink_to("there")


def pipe(folder: Path) -> None:
    """The data file is a pipe, which would block its reader."""
    (folder / "weights").unlink()
    os.mkfifo(folder / "weights")


@pytest.mark.parametrize(
    ("place", "more", "prepare", "said"),
    [
        ("/etc/hostname", {}, None, "'/etc/hostname' is no plain path"),
        ("../weights", {}, None, "no plain path"),
        ("below/../weights", {}, None, "no plain path"),
        ("below\\weights", {}, None, "no plain path"),
        ("", {}, None, "external data with the keys"),
        ("gone", {}, None, "No such file"),
        (".", {}, None, "no plain path"),
        ("weights", {"size": 127}, None, "128 are needed"),
        ("weights", {"offset": 1}, None, r"bytes 1 to 129 of 'weights' \(128 bytes\)"),
        ("weights", {"offset": -1}, None, "offset '-1' is no size"),
        ("weights", {"offset": "1" * 40}, None, "is no size"),
        ("weights", {}, linked, "links are not followed"),
        ("weights", {}, lambda folder: os.link(folder / "weights", folder / "second"), "several names"),
        ("below/weights", {}, linked_folder, "links are not followed"),
        ("weights", {}, pipe, "no plain file"),
        ("weights", {}, lambda folder: os.truncate(folder / "weights", 1 << 40), "1099511627776 bytes, .* are allowed"),
        ("weights", {}, lambda folder: (folder / "weights").write_bytes(b""), r"\(0 bytes\)"),
    ],
)
def test_external_data_stays_in_the_folder(
    tmp_path: Path, place: str, more: dict[str, Any], prepare: Callable[[Path], object] | None, said: str
) -> None:
    """CMP-SRC-2: everything but a plain file of one name inside the model's folder is refused, naming the tensor."""
    path = split(tmp_path, place=place, **more)
    if prepare is not None:
        prepare(tmp_path)
    with pytest.raises(SourceError, match=r"tensor 'w1' lies outside the file: ") as caught:
        read(path)
    assert re.search(said, str(caught.value)), str(caught.value)
    assert "without links" in caught.value.hint


def test_external_data_has_a_limit(tmp_path: Path) -> None:
    """CMP-SRC-2: many tensors of one large file are counted each, before any is read."""
    path = split(tmp_path)
    model = onnx.load_model(path, load_external_data=False)
    with (tmp_path / "weights").open("r+b") as file:
        file.truncate(1 << 30)  # sparse: takes no space
    for i in range(3):
        tensor = model.graph.initializer.add()
        tensor.CopyFrom(model.graph.initializer[0])
        tensor.name, tensor.dims[:] = f"big{i}", [1 << 28]
    path.write_bytes(model.SerializeToString())
    with pytest.raises(SourceError, match=r"external data: \d+ bytes with the model"):
        read(path)


def test_what_is_no_source_is_refused(kit: Kit, tmp_path: Path) -> None:
    """CMP-SRC-3: another ending, a missing file, weights without an architecture."""
    example = data.load(kit.calibration)
    for source, architecture, kind in (
        ("model.h5", None, SourceError),
        ("gone.onnx", None, SourceError),
        ("weights.pt", None, UsageError),
        ("weights.pt", "no colon", UsageError),
        ("gone.pt", "a:b", SourceError),
        ("gone.pt2", None, SourceError),
        ("gone.tflite", None, SourceError),
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


def test_a_scripted_module_is_no_state_dict(kit: Kit, workshop: Path) -> None:
    """CMP-SRC-5: a TorchScript archive, which holds code, is refused by name."""
    torch = pytest.importorskip("torch")
    with pytest.warns(DeprecationWarning, match="torch.jit"):
        torch.jit.save(torch.jit.trace(torch.nn.Linear(2, 2), torch.ones(1, 2)), "scripted.pt")
    with pytest.raises(SourceError, match=r"scripted\.pt: "):
        importers.load("scripted.pt", "arch_of_test:make", data.load(kit.calibration), workshop)


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

"""`.pt2` files: programs of `torch.export.save`, read as data and never as code."""

from __future__ import annotations

import io
import json
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from outrider_compiler import data, importers
from outrider_compiler.errors import SourceError
from outrider_compiler.importers import program_file
from outrider_compiler.importers.sandbox import ChildRefusalError
from outrider_compiler.inspection import check_file
from outrider_profiles import load

torch = pytest.importorskip("torch")
PROFILE = load("x86-64")
STEM = "program"


class Payload:
    """Leaves a file behind when it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (os.system, ("touch pwned",))


def pickled() -> bytes:
    """A checkpoint with the payload."""
    buffer = io.BytesIO()
    torch.save((Payload(),), buffer)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """tokens [batch, 5] int32 and scale [batch, 1] → a dict of probabilities and embedding, with a free batch."""

    class Net(torch.nn.Module):  # type: ignore[misc]  # torch comes from importorskip
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.table, self.head = torch.nn.Embedding(20, 8), torch.nn.Linear(8, 3)

        def forward(self, tokens: object, scale: object) -> dict[str, object]:
            embedding = self.table(tokens).mean(1) * scale
            return {"probabilities": torch.softmax(self.head(embedding), 1), "embedding": embedding}

    batch = torch.export.Dim("batch")
    example = torch.zeros(2, 5, dtype=torch.int32), torch.ones(2, 1)
    made = torch.export.export(Net().eval(), example, dynamic_shapes=({0: batch}, {0: batch}))
    path = tmp_path_factory.mktemp("programs") / f"{STEM}.pt2"
    torch.export.save(made, path)
    return path


def rewritten(
    program: Path, folder: Path, change: Callable[[str, bytes], bytes], extra: dict[str, bytes] | None = None
) -> Path:
    """The program with `change` made to its entries, and more of them."""
    path = folder / "changed.pt2"
    with zipfile.ZipFile(program) as source, zipfile.ZipFile(path, "w") as made:
        for name in source.namelist():
            entry = name.partition("/")[2]
            made.writestr(f"{STEM}/{entry}", change(entry, source.read(name)))
        for entry, content in (extra or {}).items():
            made.writestr(f"{STEM}/{entry}", content)
    return path


def same(entry: str, content: bytes) -> bytes:
    """No change."""
    return content


def in_model(old: bytes, new: bytes) -> Callable[[str, bytes], bytes]:
    """Replace in the program's JSON; fails where `old` is not there."""

    def change(entry: str, content: bytes) -> bytes:
        if entry != "models/model.json":
            return content
        assert old in content
        return content.replace(old, new)

    return change


def constants(config: object) -> Callable[[str, bytes], bytes]:
    """Replace the list of constants."""
    return lambda entry, content: json.dumps(config).encode() if entry.endswith("constants_config.json") else content


def test_a_program_keeps_names_types_and_free_batch(
    program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CMP-SRC-11: inputs, outputs, dtypes and the free batch are the program's, and so are its answers."""
    import onnxruntime as ort

    rng = np.random.default_rng(0)
    tokens = rng.integers(0, 20, (9, 5)).astype(np.int32)
    scale = rng.normal(size=(9, 1)).astype(np.float32)
    np.savez(tmp_path / "calib.npz", **{"x:tokens": tokens, "x:scale": scale})  # type: ignore[arg-type]  # keyword flags
    imported = importers.load(str(program), None, data.load(tmp_path / "calib.npz"), tmp_path)
    session = ort.InferenceSession(imported.model.SerializeToString(), providers=["CPUExecutionProvider"])
    assert [(item.name, item.type, item.shape[1:]) for item in session.get_inputs()] == [
        ("tokens", "tensor(int32)", [5]),
        ("scale", "tensor(float)", [1]),
    ]
    assert [item.name for item in session.get_outputs()] == ["probabilities", "embedding"]
    expected = torch.export.load(program).module()(torch.from_numpy(tokens), torch.from_numpy(scale))
    answers = session.run(None, {"tokens": tokens, "scale": scale})
    np.testing.assert_allclose(answers[0], expected["probabilities"].detach().numpy(), atol=1e-5)
    assert imported.digest == data.digest_of_file(program)


@pytest.mark.parametrize(
    ("change", "extra", "said"),
    [
        (same, {"data/aotinductor/model/net.so": b"\x7fELF"}, "net.so', which is not read"),
        (same, {"data/constants/opaque_obj_0": pickle.dumps(Payload())}, "opaque_obj_0', which is not read"),
        (same, {"data/constants/custom_obj_0": b""}, "custom_obj_0', which is not read"),
        (
            constants({"config": {"k": {"path_name": "opaque_obj_0", "use_pickle": True, "tensor_meta": None}}}),
            {},
            "holds the object 'opaque_obj_0', no tensor",
        ),
        (in_model(b"torch.ops.aten.mul.Tensor", b"torch.os.system"), {}, "operator 'torch.os.system' is not one"),
        (in_model(b"torch.ops.aten.mul.Tensor", b"torch.ops.acme.mul"), {}, "operator 'torch.ops.acme.mul' is not one"),
        (in_model(b"Symbol('", b"__import__('"), {}, "is no expression of a shape"),
        (in_model(b"Symbol('", b"().__class__('"), {}, "is no expression of a shape"),
        (
            in_model(b'\\"type\\": \\"builtins.tuple\\"', b'\\"type\\": \\"collections.defaultdict\\"'),
            {},
            "inputs or outputs are",
        ),
        (
            in_model(b'\\"context\\": \\"[\\\\\\"prob', b'\\"context\\": \\"[\\\\\\"__enum__\\\\\\", \\\\\\"prob'),
            {},
            "inputs or outputs are",
        ),
        (lambda entry, content: b"{" if entry == "models/model.json" else content, {}, "model.json: "),
    ],
)
def test_what_would_run_is_refused(
    program: Path, tmp_path: Path, change: Callable[[str, bytes], bytes], extra: dict[str, bytes], said: str
) -> None:
    """CMP-SRC-12: compiled code, objects, foreign operators, expressions and structures are refused before loading."""
    with pytest.raises(ChildRefusalError) as caught:
        program_file.check(rewritten(program, tmp_path, change, extra))
    assert said in str(caught.value)
    assert caught.value.hint


def test_pickled_samples_are_not_run(program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """CMP-SRC-12: torch's reader falls back to unpickling; here it cannot."""
    monkeypatch.chdir(tmp_path)
    path = rewritten(program, tmp_path, lambda entry, was: pickled() if entry.startswith("data/sample") else was)
    with pytest.raises(SourceError, match=r"changed\.pt2: refused to unpickle"):
        check_file(path, (PROFILE,))
    assert not (tmp_path / "pwned").exists()


def test_guards_are_not_run(program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """CMP-SRC-12: the source code of guards is dropped; the program itself is read."""
    monkeypatch.chdir(tmp_path)
    guard = b"L['tokens'].size()[0] == L['scale'].size()[0]"
    path = rewritten(program, tmp_path, in_model(guard, b"__import__('os').system('touch pwned')"))
    assert check_file(path, (PROFILE,))["x86-64"]["ok"]
    assert not (tmp_path / "pwned").exists()


def test_what_is_no_program_is_refused(tmp_path: Path) -> None:
    """CMP-SRC-1: bytes that are no archive are refused by name."""
    (tmp_path / "junk.pt2").write_bytes(b"junk")
    with pytest.raises(ChildRefusalError, match=r"junk\.pt2: File is not a zip file"):
        program_file.check(tmp_path / "junk.pt2")

"""Foreign files in processes of their own: what crashes, hangs, grows or reaches out ends there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from outrider_compiler.errors import SourceError
from outrider_compiler.importers import child, probing
from outrider_compiler.inspection import check_file
from outrider_profiles import load
from tests.compiler import graphs
from tests.compiler.conftest import Kit
from tests.compiler.graphs import array, value

PROFILE = load("x86-64")


def looping(times: int) -> onnx.ModelProto:
    """A Loop whose number of turns cannot be known before it runs."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Relu", ["v"], ["w"])],
        "body",
        [value("i", [], TensorProto.INT64), value("go", [], TensorProto.BOOL), value("v", ["n", 4])],
        [value("on", [], TensorProto.BOOL), value("w", ["n", 4])],
    )
    nodes = [
        helper.make_node("ReduceSum", ["x"], ["sum"], keepdims=0),
        helper.make_node("Cast", ["sum"], ["whole"], to=TensorProto.INT64),
        helper.make_node("Add", ["whole", "times"], ["turns"]),
        helper.make_node("Loop", ["turns", "yes", "x"], ["y"], body=body),
    ]
    weights = [array("times", np.array(times, np.int64)), array("yes", np.array(True))]
    return graphs.model(nodes, [value("x", ["n", 4])], [value("y", ["n", 4])], weights)


def growing(size: int) -> onnx.ModelProto:
    """A small file that makes `size` × `size` numbers when it runs."""
    nodes = [
        helper.make_node("ConstantOfShape", ["shape"], ["big"]),
        helper.make_node("ReduceSum", ["big"], ["sum"], keepdims=0),
        helper.make_node("Add", ["x", "sum"], ["y"]),
    ]
    weights = [array("shape", np.array([size, size], np.int64))]
    return graphs.model(nodes, [value("x", ["n", 4])], [value("y", ["n", 4])], weights)


def test_a_hang_is_a_refusal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """CMP-SRC-13: a model that never answers is refused when its time is up, and its process is gone."""
    monkeypatch.setattr(probing, "BASE_TIMEOUT_S", 4)
    onnx.save_model(looping(10**15), tmp_path / "hang.onnx")
    with pytest.raises(SourceError, match=r"hang\.onnx: no answer within 4 s"):
        check_file(tmp_path / "hang.onnx", (PROFILE,))
    left = subprocess.run(["pgrep", "-f", "hang.onnx"], capture_output=True, text=True, check=False)
    assert not left.stdout


@pytest.mark.parametrize("size", [40_000, 10**5, 10**9, 2**32])
def test_growth_is_a_refusal(tmp_path: Path, size: int) -> None:
    """CMP-SRC-13: a file that wants more memory than its size allows is refused."""
    onnx.save_model(growing(size), tmp_path / "grow.onnx")
    with pytest.raises(SourceError, match=r"grow\.onnx: .*ConstantOfShape"):
        check_file(tmp_path / "grow.onnx", (PROFILE,))


def test_a_crash_is_a_refusal(tmp_path: Path) -> None:
    """CMP-SRC-13: the smallest integer by −1 kills the native engine; here it is one line that names the file."""
    nodes = [
        helper.make_node("Mul", ["x", "least"], ["a"]),
        helper.make_node("Mul", ["x", "minus"], ["b"]),
        helper.make_node("Div", ["a", "b"], ["y"]),
    ]
    weights = [array("least", np.array(-(2**31), np.int32)), array("minus", np.array(-1, np.int32))]
    ends = [value(name, ["n", 1], TensorProto.INT32) for name in ("x", "y")]
    onnx.save_model(graphs.model(nodes, ends[:1], ends[1:], weights), tmp_path / "crash.onnx")
    with pytest.raises(SourceError, match=r"crash\.onnx: the process that read it ended with SIGFPE") as caught:
        check_file(tmp_path / "crash.onnx", (PROFILE,))
    assert "export it again" in caught.value.hint


def run(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Python code in a process of its own, after `sandbox` was imported."""
    text = f"import os, sys\nfrom pathlib import Path\nfrom outrider_compiler.importers import sandbox\n{code}"
    return subprocess.run([sys.executable, "-c", text], cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    "deed",
    [
        "os.system('touch pwned')",
        "__import__('subprocess').run(['touch', 'pwned'])",
        "os.posix_spawn('/usr/bin/touch', ['touch', 'pwned'], {})",
        "os.execv('/usr/bin/touch', ['touch', 'pwned'])",
        "os.fork()",
        "__import__('ctypes').CDLL('libc.so.6')",
        "open('pwned', 'w')",
        "os.open('pwned', os.O_CREAT | os.O_WRONLY)",
        "open('inside/../pwned', 'w')",
        "os.symlink('/etc', 'inside/link')",
        "os.rename('kept', 'inside/kept')",
        "os.remove('kept')",
        "os.kill(os.getppid(), 0)",
        "__import__('socket').create_connection(('127.0.0.1', 9))",
    ],
)
def test_a_file_that_is_read_does_nothing(tmp_path: Path, deed: str) -> None:
    """CMP-SRC-5: while a foreign file is read, nothing is started, loaded, sent, or written outside one folder."""
    (tmp_path / "inside").mkdir()
    for name in ("kept", "net.pt"):
        (tmp_path / name).write_text("kept", encoding="utf-8")
    code = (
        "import ctypes, subprocess, socket\n"
        "sandbox.cut_network()\n"
        "try:\n"
        "    with sandbox.reading(Path('net.pt'), Path('inside')):\n"
        "        open('inside/allowed', 'w').close()\n"
        f"        {deed}\n"
        "except sandbox.ChildRefusalError as error:\n"
        "    print(error)\n"
    )
    done = run(code, tmp_path)
    assert done.stdout.startswith("net.pt: "), done
    assert not (tmp_path / "pwned").exists()
    assert (tmp_path / "kept").exists()
    assert (tmp_path / "inside" / "allowed").exists()


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("raise ValueError('what\\nis this')", "ValueError: what is this"),
        ("raise MemoryError", "takes more memory than its size allows"),
        ("return f(n)", "nested too deeply"),
        ("os.kill(os.getpid(), 11)", "ended with SIGSEGV"),
        ("os._exit(7)", "ended without a word"),
        ("print('not JSON'); os._exit(0)", "ended without a word"),
    ],
)
def test_however_a_child_ends_it_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, said: str
) -> None:
    """CMP-SRC-13: an error nobody foresaw, a crash and silence are a refusal that names the source, in one line."""
    text = (
        "import os, sys\nfrom outrider_compiler.importers import sandbox\n"
        f"def f(n):\n    {code}\n"
        "sys.exit(sandbox.main(f))\n"
    )
    (tmp_path / "ending_of_test.py").write_text(text, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(SourceError, match=said) as caught:
        child.run("ending_of_test", {}, "net.onnx", 60)
    assert str(caught.value).startswith("net.onnx: ")
    assert "\n" not in str(caught.value)


def test_what_a_child_started_ends_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """CMP-SRC-13: when a child's time is up, so is that of the processes that it started."""
    text = "import subprocess, sys\nchild = subprocess.Popen(['sleep', '600'])\n"
    text += "open(sys.argv[0] + '.pid', 'w').write(str(child.pid))\nchild.wait()\n"
    (tmp_path / "starting_of_test.py").write_text(text, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(SourceError, match="no answer within 2 s"):
        child.run("starting_of_test", {}, "net.onnx", 2)
    state = Path(f"/proc/{(tmp_path / 'starting_of_test.py.pid').read_text(encoding='utf-8')}/stat")
    assert not state.exists() or ") Z " in state.read_text(encoding="utf-8")


def test_children_import_nothing_from_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """CMP-SRC-7: a file named like a package, beside the model, is not imported."""
    (tmp_path / "onnx.py").write_text("open('pwned', 'w')", encoding="utf-8")
    onnx.save_model(graphs.dense(), tmp_path / "net.onnx")
    monkeypatch.chdir(tmp_path)
    assert check_file(Path("net.onnx"), (PROFILE,))["x86-64"]["ok"]
    assert not (tmp_path / "pwned").exists()


def test_nothing_is_reported_to_anybody(kit: Kit, tmp_path: Path) -> None:
    """CMP-SRC-17: a check and a build leave the home folder empty, where ONNX Runtime would keep its device id."""
    (home := tmp_path / "home").mkdir()
    environment = {**os.environ, "HOME": str(home), "OMP_NUM_THREADS": "1"}
    environment.pop("ORT_DISABLE_TELEMETRY", None)
    environment.pop("XDG_CACHE_HOME", None)
    data = ["--calibration", str(kit.calibration), "--evaluation", str(kit.evaluation), "--out", str(tmp_path / "out")]
    names = ["--name", "waves", "--version", "1", "--counter", "1"]
    for more in (["check", str(kit.model)], ["build", str(kit.model), *names, *data]):
        command = [sys.executable, "-m", "outrider_compiler", *more, "--profile", "x86-64"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert list(home.rglob("*")) == []

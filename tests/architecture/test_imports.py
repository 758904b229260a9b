"""What each process may load, seen in a fresh interpreter: import-linter reads the code, this runs it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.architecture.tree import ROOT, module_files

HEAVY = {"torch", "onnx", "fastapi", "starlette", "pydantic", "sqlalchemy", "sqlite_utils"}
NOT_IN_SUPERVISOR = {"numpy", "onnxruntime", "ai_edge_litert", "tflite_runtime", "tuf", "cryptography", "urllib3"}
# Foreign modules that `outrider-agent run` may load: measured, then rounded up.
SUPERVISOR_FOREIGN_MODULES = 110

_PROBE = """
import importlib, json, sys
before = set(sys.modules)
for name in json.loads(sys.argv[1]):
    importlib.import_module(name)
print(json.dumps(sorted(set(sys.modules) - before)))
"""


def loaded_by(*modules: str) -> set[str]:
    """Names in `sys.modules` after a fresh interpreter imported these modules, less those of its own start."""
    command = [sys.executable, "-c", _PROBE, json.dumps(modules)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout))


def test_the_contracts_hold() -> None:
    """ARC-IMP-1: import-linter keeps the contracts of pyproject.toml, the layers first."""
    program = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([program, "--no-cache"], capture_output=True, text=True, cwd=ROOT, check=False, timeout=60)
    assert done.returncode == 0, done.stdout


def tops(modules: set[str]) -> set[str]:
    """Top-level names of dotted modules."""
    return {name.partition(".")[0] for name in modules}


@pytest.mark.parametrize("package", ["outrider_protocol", "outrider_profiles", "outrider_agent"])
def test_a_device_never_loads_what_a_server_needs(package: str) -> None:
    """ARC-IMP-2: every module of protocol, profiles and agent, imported together, loads none of the heavy packages."""
    loaded = loaded_by(*module_files(package))
    assert not tops(loaded) & HEAVY


def supervisor_modules() -> list[str]:
    """What the supervisor process may run: its package, the outbox and the command that starts it."""
    names = [*module_files("outrider_agent.supervisor"), *module_files("outrider_agent.outbox")]
    return [*names, *module_files("outrider_agent.cli")]


def test_the_supervisor_loads_no_tensor_and_no_key() -> None:
    """ARC-IMP-3: the supervisor's modules load neither numpy nor an engine nor anything that verifies."""
    loaded = loaded_by(*supervisor_modules())
    assert not tops(loaded) & NOT_IN_SUPERVISOR


def test_the_supervisor_keeps_its_import_budget() -> None:
    """ARC-IMP-3: beside the standard library and Outrider itself, the supervisor loads paho alone."""
    loaded = loaded_by(*supervisor_modules())
    known = sys.stdlib_module_names | {"outrider_agent", "outrider_protocol", "outrider_profiles", "__mp_main__"}
    foreign = {name for name in loaded if name.partition(".")[0] not in known}
    assert tops(foreign) <= {"paho", "tomli"}
    assert len(foreign) <= SUPERVISOR_FOREIGN_MODULES


def test_the_agent_cannot_sign() -> None:
    """ARC-IMP-4: no module of the agent loads `outrider_protocol.signing`, not even through another."""
    assert "outrider_protocol.signing" not in loaded_by(*module_files("outrider_agent"))


def test_importing_starts_nothing(tmp_path: Path) -> None:
    """ARC-IMP-6: importing every module of the agent starts no thread, opens no socket and writes no file."""
    probe = (
        "import importlib, json, sys, threading, os\n"
        "for name in json.loads(sys.argv[1]):\n    importlib.import_module(name)\n"
        "sockets = [f for f in os.listdir('/proc/self/fd') if 'socket' in os.path.realpath('/proc/self/fd/' + f)]\n"
        "print(threading.active_count(), len(sockets), len(os.listdir('.')))\n"
    )
    command = [sys.executable, "-c", probe, json.dumps(list(module_files("outrider_agent")))]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False, stdin=subprocess.DEVNULL)
    assert done.stdout.split() == ["1", "0", "0"], done.stderr

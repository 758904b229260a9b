"""State machines and domains decide without clock, disk, network or chance: those are arguments."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.architecture.tree import imported_names, module_files

IMPURE = {
    *("asyncio", "ftplib", "glob", "http", "io", "logging", "multiprocessing", "os", "pathlib", "random", "secrets"),
    *("select", "selectors", "shutil", "signal", "smtplib", "socket", "sqlite3", "ssl", "subprocess", "tempfile"),
    *("threading", "time", "urllib", "uuid"),
}
# Names that read the clock or the disk without an import of their own.
IMPURE_CALLS = {"open", "input", "print", "now", "utcnow", "today", "exec", "eval", "__import__"}


def pure_modules() -> dict[str, Path]:
    """Modules that promise to be pure: the protocol, the fleet's domain, each machine and detector by its name."""
    everywhere = {**module_files("outrider_fleet"), **module_files("outrider_agent")}
    machines = {name: path for name, path in everywhere.items() if path.name in {"machine.py", "detector.py"}}
    signing = "outrider_protocol.signing"  # makes keys and reads their files: the one part of the protocol that acts
    protocol = {name: path for name, path in module_files("outrider_protocol").items() if not name.startswith(signing)}
    return {**protocol, **module_files("outrider_fleet.domain"), **machines}


@pytest.mark.parametrize("module", sorted(pure_modules()))
def test_pure_modules_touch_nothing(module: str) -> None:
    """ARC-IMP-5: a pure module imports nothing that acts, and calls nothing that reads a clock or a file."""
    path = pure_modules()[module]
    assert not {name.partition(".")[0] for name in imported_names(path)} & IMPURE
    calls = {node.func for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Call)}
    names = {f.id if isinstance(f, ast.Name) else getattr(f, "attr", "") for f in calls}
    assert not names & IMPURE_CALLS


def test_the_check_covers_what_it_should() -> None:
    """ARC-IMP-5: the agent's execution machine and the fleet's rollout engine are among the pure modules."""
    assert {"outrider_agent.supervisor.machine", "outrider_fleet.domain.rollout"} <= set(pure_modules())

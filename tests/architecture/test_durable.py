"""One module of the agent writes what must survive: every other place that touches names or contents says why."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from tests.architecture.tree import module_files

WRITER = "outrider_agent.durable"
CALLS = {
    *("write_bytes", "write_text", "unlink", "rename", "mkdir", "makedirs", "touch", "symlink_to", "hardlink_to"),
    *("rmdir", "rmtree", "copy", "copy2", "copyfile", "copytree", "move", "fsync", "truncate", "ftruncate", "link"),
}
FLAGS = {"O_WRONLY", "O_RDWR", "O_CREAT", "O_APPEND", "O_TRUNC"}
# Module → what it touches, and why a power cut may take it.
ELSEWHERE = {
    "outrider_agent.supervisor.lock": "lock files: empty, and the kernel's hold on them is what counts",
    "outrider_agent.supervisor.listeners": "sockets, the supervisor's own too",
    "outrider_agent.supervisor.process": "the directory of sockets",
    "outrider_agent.update.workflow": "python-tuf's scratch directory",
    "outrider_agent.update.trust_file": "scratch directories of killed runs",
}


def touches(tree: ast.AST) -> Iterator[str]:
    """Calls that change names or contents on a disk."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in FLAGS:
            yield node.attr
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if isinstance(node.func, ast.Attribute) and name in CALLS and not _is_of_a_disk(node.func):
            yield name
        if isinstance(node.func, ast.Attribute) and name == "replace" and len(node.args) == 1 and not node.keywords:
            yield "replace"  # a text's takes two, a date's takes names
        if name == "open" and any(set(mode) & set("wax+") for mode in _modes(node)):
            yield "open for writing"


def _is_of_a_disk(function: ast.Attribute) -> bool:
    """`disk.rename(…)`: the writer itself."""
    of = function.value
    return (of.attr if isinstance(of, ast.Attribute) else getattr(of, "id", "")) in {"disk", "_disk"}


def _modes(node: ast.Call) -> list[str]:
    given = [argument.value for argument in node.args[:2] if isinstance(argument, ast.Constant)]
    named = [keyword.value.value for keyword in node.keywords if isinstance(keyword.value, ast.Constant)]
    return [mode for mode in [*given, *named] if isinstance(mode, str) and len(mode) <= 3]


MODULES = {name: path for name, path in module_files("outrider_agent").items() if name != WRITER}


@pytest.mark.parametrize("module", sorted(MODULES))
def test_only_the_durable_module_writes(module: str) -> None:
    """ARC-DUR-1: no other module creates, writes, renames or deletes files, sockets and scratch apart."""
    found = sorted(set(touches(ast.parse(MODULES[module].read_text("utf-8")))))
    assert bool(found) == (module in ELSEWHERE), f"{module}: {found}"


def test_the_check_sees_what_it_should() -> None:
    """ARC-DUR-1: the writer itself does all of these things, and each planted line is seen."""
    assert {"fsync", "mkdir", "unlink"} <= set(touches(ast.parse(module_files("outrider_agent")[WRITER].read_text())))
    for line in ("p.write_bytes(b'')", "p.replace(q)", "open(p, 'wb')", "p.open('r+b')", "os.open(p, os.O_WRONLY)"):
        assert list(touches(ast.parse(line))), line
    for line in ("s.replace('a', 'b')", "open(p, 'rb')", "self._disk.rename(p, q)", "d.replace(day=1)"):
        assert not list(touches(ast.parse(line))), line

"""The table fits the tree; a slice of the guards is taken away; the tool itself can fail. Rules: docs/spec/trust.md."""

from __future__ import annotations

import datetime as dt
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.architecture.tree import ROOT
from tests.guards.mutation import Verdict, children, judge
from tests.guards.table import Guard, functions_of, guards, markdown, mutated, with_others

KNOWN = guards()
RULES = "".join(page.read_text("utf-8") for page in sorted((ROOT / "docs/spec").glob("*.md")))
SLICE_S = 60
# In CI the slice is the same each time; elsewhere each day has its own, so that all guards have their turn.
SEED = 1 if os.environ.get("CI") else dt.datetime.now(dt.UTC).date().toordinal()


def tool(*arguments: str | Path, timeout_s: float = 600) -> subprocess.CompletedProcess[str]:
    """Run the tool as a person would."""
    command = [sys.executable, "-m", "tests.guards", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=timeout_s)


@pytest.mark.parametrize("guard", KNOWN.values(), ids=list(KNOWN))
def test_every_guard_is_where_the_table_says(guard: Guard) -> None:
    """GRD-3: its text stands once in its file, what replaces it is Python, its rule and its test exist."""
    changed = mutated(with_others(guard, KNOWN))
    assert changed[guard.inside] != (ROOT / guard.file).read_text("utf-8")
    path, _, test = guard.test.partition("::")
    assert test.partition("[")[0] in functions_of(ROOT / path)
    assert f"\n- **{guard.rule}** " in RULES


def test_the_table_on_the_page_is_the_table() -> None:
    """GRD-3: docs/spec/trust.md lists the guards as `make docs` writes them now."""
    assert markdown() in (ROOT / "docs/spec/trust.md").read_text("utf-8"), "run `make docs`"


@pytest.mark.timeout(SLICE_S + 240)
def test_a_slice_of_the_guards_is_noticed() -> None:
    """GRD-1: those that a minute allows, in an order that the seed gives."""
    done = tool("--seed", str(SEED), "--seconds", str(SLICE_S))
    print(done.stdout)
    assert done.returncode == 0, f"seed {SEED}\n{done.stdout[-6000:]}{done.stderr}"


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_every_guard_is_noticed() -> None:
    """GRD-1: all of them, after their tests passed with every guard in place."""
    done = tool(timeout_s=3600)
    print(done.stdout)
    assert done.returncode == 0, f"{done.stdout[-6000:]}{done.stderr}"


PLANTED = """
[TRU-3.noticed]
file = "protocol/outrider_protocol/trust.py"
text = 'if director.epoch < floors.epoch:  # [TRU-3]'
becomes = 'if False:'
test = "tests/protocol/test_trust.py::test_new_epoch"

[TRU-3.unseen]
file = "protocol/outrider_protocol/trust.py"
text = 'if director.epoch < floors.epoch:  # [TRU-3]'
becomes = 'if False:'
test = "tests/protocol/test_trust.py::test_target"

[TRU-3.moved]
file = "protocol/outrider_protocol/trust.py"
text = 'if this.was_here_once:'
becomes = 'if False:'
test = "tests/protocol/test_trust.py::test_new_epoch"

[TRU-3.broken]
file = "protocol/outrider_protocol/trust.py"
text = 'if director.epoch < floors.epoch:  # [TRU-3]'
becomes = 'if nobody_knows_this_name:'
test = "tests/protocol/test_trust.py::test_new_epoch"

[TRU-3.uncollected]
file = "protocol/outrider_protocol/trust.py"
text = 'from outrider_protocol.order import TYPE, Order'
becomes = 'from outrider_protocol.order import TYPE, Orders'
test = "tests/protocol/test_trust.py::test_new_epoch"

[TRU-3.endless]
file = "protocol/outrider_protocol/trust.py"
text = 'if director.epoch < floors.epoch:  # [TRU-3]'
becomes = "while True:\\n        pass\\n    if False:"
test = "tests/protocol/test_trust.py::test_new_epoch"
limit_s = 4

[TRU-3.elsewhere]
file = "protocol/outrider_protocol/trust.py"
text = 'if director.epoch < floors.epoch:  # [TRU-3]'
becomes = 'if False:'
test = "tests/protocol/test_trust.py::test_new_epoch"
needs = "a-program-that-nobody-has"
"""


def test_the_tool_can_fail(tmp_path: Path) -> None:
    """GRD-2, GRD-3, GRD-4, GRD-5: of planted guards one is noticed, each other one is told as what it is."""
    (tmp_path / "table.toml").write_text(PLANTED)
    before = (ROOT / "protocol/outrider_protocol/trust.py").read_bytes()
    done = tool("--table", tmp_path / "table.toml", "--quick")
    assert done.returncode == 1
    wanted = {
        "noticed": Verdict.NOTICED,
        "unseen": Verdict.PASSED,
        "moved": Verdict.MOVED,
        "broken": Verdict.BROKEN,
        "uncollected": Verdict.BROKEN,
        "endless": Verdict.HUNG,
        "elsewhere": Verdict.NOT_TRIED,
    }
    for name, verdict in wanted.items():
        assert re.search(rf"^{re.escape(verdict.value)} +TRU-3\.{name} ", done.stdout, re.MULTILINE), done.stdout
    assert "1 of 7 guards noticed" in done.stdout
    assert (ROOT / "protocol/outrider_protocol/trust.py").read_bytes() == before


def test_tests_that_fail_with_every_guard_prove_nothing(tmp_path: Path) -> None:
    """GRD-2: where a named test fails unmutated the run ends there."""
    (tmp_path / "table.toml").write_text(PLANTED.replace("::test_target", "::test_that_is_not_there"))
    done = tool("--table", tmp_path / "table.toml", "--only", "TRU-3.unseen")
    assert done.returncode == 1
    assert "nothing can be said of the guards" in done.stdout


@pytest.mark.parametrize(
    ("status", "said", "hang", "verdict"),
    [
        (1, "FAILED tests/x.py::test_y - assert False", False, Verdict.NOTICED),
        (1, "FAILED tests/x.py::test_y[a b] - assert False", False, Verdict.NOTICED),
        (1, "FAILED tests/x.py::test_yes - assert False", False, Verdict.BROKEN),
        (1, "ERROR tests/x.py::test_y - OSError", False, Verdict.BROKEN),
        (1, "E   NameError: name 'x'\nFAILED tests/x.py::test_y - NameError", False, Verdict.BROKEN),
        (2, "ERROR tests/x.py - ImportError", False, Verdict.BROKEN),
        (4, "ERROR: not found: tests/x.py::test_y", False, Verdict.BROKEN),
        (5, "no tests ran", False, Verdict.BROKEN),
        (0, "1 passed", False, Verdict.PASSED),
        (None, "", False, Verdict.HUNG),
        (None, "", True, Verdict.NOTICED),
    ],
)
def test_what_counts(status: int | None, said: str, hang: bool, verdict: Verdict) -> None:
    """GRD-2: exit status 1 with the named test among the failures, and nothing else."""
    assert judge(Guard("TRU-3.x", "", "", "", "tests/x.py::test_y", hang=hang), status, said) is verdict


def test_orphans_are_found() -> None:
    """GRD-4: the processes that this one started are known by their parent."""
    with subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE) as child:
        assert child.pid in children()

"""Takes one guard away in a copy of the five packages, and runs the test that must notice.

1. The copy stands first on `PYTHONPATH`: tests and the processes that they start import it; the tree is only read.
2. Noticed means: pytest ends with status 1 and the named test is among the failures. A test that passes, cannot be
   collected, meets an error of its fixtures, or fails because the copy's code is broken has noticed nothing.
3. A run that lasts too long is ended with its whole process group, and whatever it left behind.
"""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import Enum, unique
from pathlib import Path

from tests.architecture.tree import DISTRIBUTIONS, ROOT, tracked_files
from tests.guards.table import Guard, GuardMovedError, mutated

PR_SET_CHILD_SUBREAPER = 36
BROKEN_CODE = re.compile(
    r"^E +(?:NameError|UnboundLocalError|ImportError|ModuleNotFoundError|SyntaxError)\b", re.MULTILINE
)
TAIL = 1500


@unique
class Verdict(Enum):
    """What became of a guard that was taken away."""

    NOTICED = "noticed"
    PASSED = "NOT NOTICED"
    BROKEN = "NOT NOTICED: the test did not run, or the code broke"
    HUNG = "NOT NOTICED: the test did not end"
    MOVED = "MOVED"
    NOT_TRIED = "not tried"


@dataclass(frozen=True)
class Result:
    """The verdict, and the end of what pytest said."""

    verdict: Verdict
    said: str = ""


def adopt_orphans() -> None:
    """Whatever a run leaves behind becomes a child of this process, so that it can be ended."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)


class Copy:
    """The packages, copied into `scratch`; holds at most one mutation at a time."""

    def __init__(self, scratch: Path) -> None:
        self.scratch, self.packages = scratch, scratch / "packages"
        self._turn = 0
        for path in tracked_files():
            parts = path.relative_to(ROOT).parts
            if parts[0] in DISTRIBUTIONS and parts[1:2] == (DISTRIBUTIONS[parts[0]],):
                target = self.packages.joinpath(*parts[1:])
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(path, target)

    @contextmanager
    def without(self, taken: Sequence[Guard]) -> Iterator[None]:
        """The copy lacks these guards meanwhile; raises `GuardMovedError`."""
        sources = mutated(taken)
        before = {path: (self.packages / path).stat() for path in sources}
        kept = {path: (self.packages / path).read_bytes() for path in sources}
        self._turn += 1
        try:
            for path, text in sources.items():
                self._replace(path, text.encode(), before[path].st_mtime + self._turn)
            yield
        finally:
            for path, data in kept.items():
                self._replace(path, data, before[path].st_mtime)

    def _replace(self, path: Path, data: bytes, modified_s: float) -> None:
        """With a time of its own: bytecode is known by the second and the length of its source."""
        (self.packages / path).write_bytes(data)
        os.utime(self.packages / path, (modified_s, modified_s))

    def environment(self) -> dict[str, str]:
        """The environment of tests that import the copy; examples are the same each time."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "COV_"))}
        storage = str(self.scratch / "hypothesis")
        return {**inherited, "PYTHONPATH": str(self.packages), "CI": "1", "HYPOTHESIS_STORAGE_DIRECTORY": storage}

    def pytest(self, tests: Sequence[str], limit_s: float) -> tuple[int | None, str]:
        """(exit status, or None where it did not end; what it said)."""
        place = self.scratch / "t"
        arguments = ["-x", "-q", "-m", "not soak", "-p", "no:cacheprovider", "--basetemp", str(place), *tests]
        with (self.scratch / "said").open("w+b") as said:
            process = subprocess.Popen(
                [sys.executable, "-m", "pytest", *arguments],
                cwd=ROOT,
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                start_new_session=True,
            )
            status = _ended(process, limit_s)
            end_orphans(process.pid)
            said.seek(0)
            text = said.read().decode("utf-8", "replace")
        shutil.rmtree(place, ignore_errors=True)
        return status, text


def _ended(process: subprocess.Popen[bytes], limit_s: float) -> int | None:
    try:
        return process.wait(limit_s)
    except subprocess.TimeoutExpired:
        return None
    finally:  # also when a person breaks this process off
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def end_orphans(group: int) -> None:
    """End what is left of a run: its process group, and children that it left to this process."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)
    for pid in children():
        with suppress(ProcessLookupError, ChildProcessError):
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def children() -> list[int]:
    """The processes whose parent is this one."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            parent = entry.read_text("utf-8", "replace").rpartition(")")[2].split()[1]
            if int(parent) == os.getpid():
                found.append(int(entry.parent.name))
    return found


def try_without(copy: Copy, taken: Sequence[Guard]) -> Result:
    """Take the guards away and run the first one's test."""
    guard = taken[0]
    if not guard.can_be_tried:
        return Result(Verdict.NOT_TRIED, f"there is no {guard.needs} here")
    try:
        with copy.without(taken):
            status, said = copy.pytest([guard.test], guard.limit_s)
    except GuardMovedError as error:
        return Result(Verdict.MOVED, str(error))
    return Result(judge(guard, status, said), said[-TAIL:])


def judge(guard: Guard, status: int | None, said: str) -> Verdict:
    """What pytest's end means; see rule 2."""
    if status is None:
        return Verdict.NOTICED if guard.hang else Verdict.HUNG
    if status == 0:
        return Verdict.PASSED
    failed = re.search(rf"^FAILED {re.escape(guard.test)}(?:\[| |$)", said, re.MULTILINE)
    return Verdict.NOTICED if status == 1 and failed and not BROKEN_CODE.search(said) else Verdict.BROKEN


@contextmanager
def copied() -> Iterator[Copy]:
    """A copy, and a check that it is what Python imports; gone afterwards. The name is short: it holds sockets."""
    with tempfile.TemporaryDirectory(prefix="grd-", ignore_cleanup_errors=True) as name:
        copy = Copy(Path(name))
        look = f"import {', '.join(DISTRIBUTIONS.values())}; print(outrider_protocol.__file__)"
        found = subprocess.run(
            [sys.executable, "-c", look], env=copy.environment(), capture_output=True, text=True, check=True
        ).stdout
        if not found.startswith(name):
            raise GuardMovedError(f"Python imports {found.strip()}, not the copy")
        yield copy

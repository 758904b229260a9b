"""Processes of a run: started by argument lists, watched through log files, ended by process id.

1. Every process that is started here is ended here, whatever happened, unless it is meant to stay (`KEEP=1`).
2. A command that fails ends the story with its last lines.
3. Threads of numeric libraries are kept to one: two cores are shared by the whole fleet.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from examples.watch.errors import StageError
from examples.watch.story.plan import ROOT

BIN = Path(sys.executable).parent
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
STOP_S = 15.0
LAST_LINES = 25
T = TypeVar("T")


def command(name: str, *arguments: str | Path) -> list[str]:
    """One of the project's commands, or `python` of the same environment."""
    program = sys.executable if name == "python" else str(BIN / name)
    return [program, *map(str, arguments)]


def environment(**more: str) -> dict[str, str]:
    """This process's environment without anyone's OUTRIDER settings."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OUTRIDER_")}
    places = os.pathsep.join(filter(None, (str(ROOT), kept.get("PYTHONPATH"))))
    return {**kept, **ONE_THREAD, "PYTHONPATH": places, **more}


def run(arguments: Sequence[str], log: Path, timeout_s: float = 120.0, **env: str) -> str:
    """Run a command to its end; its standard output. Raises `StageError` with its last lines."""
    done = subprocess.run(
        arguments, capture_output=True, text=True, timeout=timeout_s, check=False, cwd=ROOT, env=environment(**env)
    )
    log.write_text(f"$ {' '.join(arguments)}\n{done.stdout}\n{done.stderr}")
    if done.returncode != 0:
        said = "\n".join(f"{done.stdout}\n{done.stderr}".strip().splitlines()[-LAST_LINES:])
        raise StageError(f"{Path(arguments[0]).name} ended with status {done.returncode}:\n{said}", f"See {log}.")
    return done.stdout


def eventually(look: Callable[[], T | None], what: str, timeout_s: float, pause_s: float = 0.1) -> T:
    """Ask `look` until it returns something true. Raises `StageError` naming `what`."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if found := look():
            return found
        time.sleep(pause_s)
    raise StageError(f"{what}: not within {timeout_s:.0f} s")


@dataclass
class Processes:
    """The long-running processes of a run."""

    logs: Path
    started: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self, name: str, arguments: Sequence[str], **env: str) -> subprocess.Popen[bytes]:
        """Start one; its output goes to `logs/<name>.log`."""
        with (self.logs / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                arguments, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=ROOT, env=environment(**env)
            )
        self.started[name] = process
        return process

    def check(self) -> None:
        """Raise `StageError` where one has ended."""
        for name, process in self.started.items():
            if process.poll() is not None:
                raise StageError(f"{name} ended with status {process.returncode}:\n{self.tail(name)}")

    def stop(self, name: str) -> None:
        """SIGTERM to one, and wait."""
        _end([self.started.pop(name)])

    def kill(self, name: str) -> None:
        """SIGKILL to one: no chance to tidy up."""
        process = self.started.pop(name)
        process.kill()
        process.wait()

    def stop_all(self) -> None:
        """End everything, the youngest first."""
        _end(list(self.started.values())[::-1])
        self.started.clear()

    def tail(self, name: str) -> str:
        """The end of a log."""
        path = self.logs / f"{name}.log"
        return "\n".join(path.read_text("utf-8", "replace").splitlines()[-LAST_LINES:]) if path.exists() else ""


def _end(processes: list[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
    for process in processes:
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

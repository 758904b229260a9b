"""Runs one step as a process group, watches it and keeps its log.

1. While the step runs, `beat` is called with the last line of its log: that keeps the claim alive.
2. When `beat` raises, or the time is over, the whole process group is ended.
"""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from outrider_fleet.training.errors import CommandFailedError, CommandTimeoutError

TAIL_BYTES: Final = 4000
TAIL_LINES: Final = 15
GRACE_S: Final = 5.0


@dataclass(frozen=True)
class Step:
    """One command: its name, arguments, working directory, environment, log and limits (seconds)."""

    name: str
    argv: Sequence[str]
    directory: Path
    environment: Mapping[str, str]
    log: Path
    timeout_s: float
    beat_s: float


def execute(step: Step, beat: Callable[[str], None]) -> None:
    """Run to the end; raises `CommandFailedError`, `CommandTimeoutError`, or what `beat` raises."""
    with step.log.open("ab") as log:
        try:
            process = subprocess.Popen(
                step.argv,
                cwd=step.directory,
                env=dict(step.environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            raise CommandFailedError(f"{step.name}: {step.argv[0]}: {error.strerror}") from error
    try:
        status = _watch(process, step, beat)
    finally:
        _end_group(process)
    if status != 0:
        raise CommandFailedError(f"{step.name} ended with status {status}:\n{tail(step.log)}")


def tail(log: Path, lines: int = TAIL_LINES) -> str:
    """The last lines of a log."""
    with log.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL_BYTES))
        return "\n".join(file.read().decode(errors="replace").splitlines()[-lines:])


def _watch(process: subprocess.Popen[bytes], step: Step, beat: Callable[[str], None]) -> int:
    deadline = time.monotonic() + step.timeout_s
    while True:
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            raise CommandTimeoutError(f"{step.name} took longer than {step.timeout_s:g} s:\n{tail(step.log)}")
        try:
            return process.wait(min(step.beat_s, left_s))
        except subprocess.TimeoutExpired:
            beat(tail(step.log, lines=1))


def _end_group(process: subprocess.Popen[bytes]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            break
        try:
            process.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            continue
    process.wait()

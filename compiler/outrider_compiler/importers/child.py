"""Starts the processes that touch foreign files and foreign code, and turns however they end into one answer.

1. A child leads a session of its own: when its time is up or nobody waits any more, it ends with all it started.
2. Its last line of output is JSON: an answer (status 0) or `{"error", "hint"}` (any other status).
3. A crash, a hang or silence is a `SourceError` that names the source; nothing of a child's traceback is shown.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Any, Final

from outrider_compiler import quiet
from outrider_compiler.errors import SourceError

DAMAGED: Final = "The file is damaged, or made to break its reader: export it again."
SAID_CHARS: Final = 400


def idle() -> None:
    """What a parent does meanwhile: nothing."""


def run(
    module: str, task: dict[str, Any], what: str, timeout_s: float, meanwhile: Callable[[], None] = idle
) -> dict[str, Any]:
    """Run `python -P -m module TASK` (no import from the current folder); returns its answer or raises `SourceError`.

    `what` is the source's name in errors; `meanwhile` runs in this process while the child works.
    """
    command = [sys.executable, "-P", "-m", module, json.dumps(task)]
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, **quiet.NO_TELEMETRY},
        start_new_session=True,
    ) as child:
        try:
            meanwhile()
            stdout, stderr = child.communicate(timeout=timeout_s)
        except BaseException as error:
            os.killpg(child.pid, signal.SIGKILL)  # not waited for yet: the number is still its own
            if isinstance(error, subprocess.TimeoutExpired):
                raise SourceError(f"{what}: no answer within {timeout_s:.0f} s", DAMAGED) from error
            raise
    return _answer(what, int(child.returncode), _text(stdout), _text(stderr))


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def _answer(what: str, status: int, stdout: str, stderr: str) -> dict[str, Any]:
    if status < 0:
        raise SourceError(f"{what}: the process that read it ended with {_signal(-status)}", DAMAGED)
    said = _last_word(stdout)
    if status == 0 and said is not None:
        return said
    if said is not None and isinstance(said.get("error"), str):
        reason = said["error"]
        raise SourceError(reason if what in reason else f"{what}: {reason}", str(said.get("hint") or DAMAGED))
    last = stderr.strip().splitlines()[-1:] or ["the process that read it ended without a word"]
    raise SourceError(f"{what}: {one_line(last[0])}", DAMAGED)


def _last_word(stdout: str) -> dict[str, Any] | None:
    try:
        value = json.loads(stdout.strip().splitlines()[-1])
    except (IndexError, ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def one_line(text: str) -> str:
    """The text on one line, without characters that a terminal would obey, at most `SAID_CHARS` long."""
    words = " ".join(text.split())[:SAID_CHARS]
    return "".join(c if c.isprintable() else "?" for c in words)

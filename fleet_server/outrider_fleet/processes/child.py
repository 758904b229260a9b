"""A child process of the server: started, watched, started again when it dies, ended with its parent.

1. The child's standard input is the leash: it ends when the parent does, however that happens.
2. After `stop` nothing is left running.
3. One that dies at once again and again, or cannot be started just now, is started ever more slowly.
"""

import logging
import subprocess
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

_log: Final = logging.getLogger(__name__)
STOP_TIMEOUT_S: Final = 5.0
RESTART_DELAY_S: Final = 0.2
RESTART_DELAY_MAX_S: Final = 30.0


class Child:
    """One command, kept running; its output goes to `log`."""

    def __init__(
        self, name: str, argv: Sequence[str | Path], log: Path, *, stop_timeout_s: float = STOP_TIMEOUT_S
    ) -> None:
        self.name, self._argv, self._log_file, self._stop_timeout_s = name, argv, log, stop_timeout_s
        self._process: subprocess.Popen[bytes] | None = None
        self._stopping = threading.Event()
        self._watcher: threading.Thread | None = None

    @property
    def pid(self) -> int | None:
        """Process id, None between two lives."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    def start(self) -> None:
        """Start and watch."""
        self._stopping.clear()
        self._watcher = threading.Thread(
            target=self._watch, args=(self._spawn(),), name=f"{self.name}-watch", daemon=True
        )
        self._watcher.start()

    def stop(self) -> None:
        """End it for good."""
        self._stopping.set()
        self._end()
        if self._watcher is not None:
            self._watcher.join(self._stop_timeout_s)
        self._end()  # one that the watcher started at the last moment

    def log_tail(self, limit_bytes: int = 2000) -> str:
        """The end of its output."""
        return self._log_file.read_bytes()[-limit_bytes:].decode(errors="replace") if self._log_file.exists() else ""

    def _spawn(self) -> subprocess.Popen[bytes]:
        self._log_file.parent.mkdir(parents=True, exist_ok=True)
        with self._log_file.open("ab") as output:
            self._process = subprocess.Popen(
                self._argv, stdin=subprocess.PIPE, stdout=output, stderr=output, start_new_session=True
            )
        return self._process

    def _watch(self, process: subprocess.Popen[bytes]) -> None:
        delay_s, started = RESTART_DELAY_S, time.monotonic()
        while True:
            status = process.wait()
            _close_leash(process)
            delay_s = next_delay_s(delay_s, time.monotonic() - started, RESTART_DELAY_S, RESTART_DELAY_MAX_S)
            if self._stopping.wait(delay_s):
                return
            _log.warning("%s ended with status %d, starting it again", self.name, status)
            started = time.monotonic()
            try:
                process = self._spawn()
            except OSError:  # a full disk, no process to be had: `wait` gives the old status at once
                _log.exception("%s cannot be started", self.name)

    def _end(self) -> None:
        if self._process is not None:
            end(self._process, self._stop_timeout_s)
            _close_leash(self._process)


def end(process: subprocess.Popen[bytes], timeout_s: float) -> None:
    """Ask a process to leave, and kill it where it has not after `timeout_s`; returns when it is gone."""
    process.terminate()
    try:
        process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def next_delay_s(delay_s: float, lived_s: float, least_s: float, most_s: float) -> float:
    """How long to wait after a life of `lived_s`, when `delay_s` was waited before it.

    >>> next_delay_s(0.2, 100, 0.2, 30), next_delay_s(0.2, 1, 0.2, 30), next_delay_s(20, 1, 0.2, 30)
    (0.2, 0.4, 30)
    """
    return least_s if lived_s > most_s else min(most_s, 2 * delay_s)


def _close_leash(process: subprocess.Popen[bytes]) -> None:
    if process.stdin is not None:
        process.stdin.close()

"""Starts the signer process, watches it, and starts it again when it dies.

signer = SignerProcess(home)
signer.start()
SignerClient(signer.socket).sign_order(order)
"""

import logging
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Final

from outrider_fleet.signing import framing
from outrider_fleet.signing.errors import SignerError
from outrider_fleet.signing.server import socket_path

_log: Final = logging.getLogger(__name__)
START_TIMEOUT_S: Final = 20.0
STOP_TIMEOUT_S: Final = 5.0
RESTART_DELAY_S: Final = 0.2
POLL_S: Final = 0.02


class SignerProcess:
    """One signer for one home; it ends when this process does."""

    def __init__(self, home: Path) -> None:
        self._home = home.absolute()
        self.socket = socket_path(self._home)
        self._process: subprocess.Popen[bytes] | None = None
        self._stopping = threading.Event()
        self._watcher: threading.Thread | None = None

    @property
    def pid(self) -> int | None:
        """Process id, None between two lives."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    def start(self) -> None:
        """Start; returns when the signer answers. Raises `SignerError` with the end of its log."""
        self._stopping.clear()
        self.socket.unlink(missing_ok=True)
        process = self._spawn()
        deadline = time.monotonic() + START_TIMEOUT_S
        while not _answers(self.socket):
            if process.poll() is not None or time.monotonic() > deadline:
                self._end()
                raise SignerError(f"the signer does not start:\n{self._log_tail()}")
            time.sleep(POLL_S)
        self._watcher = threading.Thread(target=self._watch, args=(process,), name="signer-watch", daemon=True)
        self._watcher.start()

    def stop(self) -> None:
        """End the signer for good."""
        self._stopping.set()
        self._end()
        if self._watcher is not None:
            self._watcher.join(STOP_TIMEOUT_S)
        self._end()

    def _spawn(self) -> subprocess.Popen[bytes]:
        log = self._home / "logs" / "signer.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "outrider_fleet.signing", "--home", self._home, "--leash"],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        return self._process

    def _watch(self, process: subprocess.Popen[bytes]) -> None:
        while True:
            status = process.wait()
            _close_leash(process)
            if self._stopping.wait(RESTART_DELAY_S):
                return
            _log.warning("signer ended with status %d, starting it again", status)
            process = self._spawn()

    def _end(self) -> None:
        process = self._process
        if process is None:
            return
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        _close_leash(process)

    def _log_tail(self, limit_bytes: int = 2000) -> str:
        log = self._home / "logs" / "signer.log"
        return log.read_bytes()[-limit_bytes:].decode(errors="replace") if log.exists() else ""


def _close_leash(process: subprocess.Popen[bytes]) -> None:
    if process.stdin is not None:
        process.stdin.close()


def _answers(path: Path) -> bool:
    try:
        with socket.socket(socket.AF_UNIX) as probe, framing.short_path(path) as name:
            probe.connect(name)
            return True
    except OSError:
        return False

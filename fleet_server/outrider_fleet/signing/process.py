"""Starts the signer process and waits until it answers.

signer = SignerProcess(home)
signer.start()
SignerClient(signer.socket).sign_order(order)
"""

import socket
import sys
import time
from pathlib import Path
from typing import Final

from outrider_fleet.processes.child import Child
from outrider_fleet.signing import framing
from outrider_fleet.signing.client import SignerClient
from outrider_fleet.signing.errors import SignerError
from outrider_fleet.signing.server import socket_path

START_TIMEOUT_S: Final = 20.0
ANSWER_TIMEOUT_S: Final = 5.0
POLL_S: Final = 0.02


class SignerProcess:
    """One signer for one home; it ends when this process does."""

    def __init__(self, home: Path) -> None:
        home = home.absolute()
        self.socket = socket_path(home)
        argv: list[str | Path] = [sys.executable, "-m", "outrider_fleet.signing", "--home", home, "--leash"]
        self._child = Child("signer", argv, home / "logs" / "signer.log")

    @property
    def pid(self) -> int | None:
        """Process id, None between two lives."""
        return self._child.pid

    @property
    def alive(self) -> bool:
        """Whether its process runs."""
        return self.pid is not None

    def start(self) -> None:
        """Start; returns when the signer answers. Raises `SignerError` with the end of its log."""
        self.socket.unlink(missing_ok=True)
        self._child.start()
        deadline = time.monotonic() + START_TIMEOUT_S
        while not _answers(self.socket):
            if self._child.pid is None or time.monotonic() > deadline:
                self._child.stop()
                raise SignerError(f"the signer does not start:\n{self._child.log_tail()}")
            time.sleep(POLL_S)

    def stop(self) -> None:
        """End the signer for good."""
        self._child.stop()


class ForeignSigner:
    """A signer that another user runs; this process only looks whether it answers."""

    def __init__(self, home: Path) -> None:
        self.socket = socket_path(home)

    @property
    def pid(self) -> int | None:
        """Not this process's to know."""
        return None

    @property
    def alive(self) -> bool:
        """Whether it answers this user."""
        try:
            SignerClient(self.socket, timeout_s=ANSWER_TIMEOUT_S).audit_head()
        except SignerError:
            return False
        return True

    def start(self) -> None:
        """Return when it answers; raises `SignerError`."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self.alive:
            if time.monotonic() > deadline:
                raise SignerError(
                    f"{self.socket}: no answer for this user; `outrider-fleet signer --client USER` runs it"
                )
            time.sleep(POLL_S)

    def stop(self) -> None:
        """It goes on for itself."""


def _answers(path: Path) -> bool:
    try:
        with socket.socket(socket.AF_UNIX) as probe, framing.short_path(path) as name:
            probe.connect(name)
            return True
    except OSError:
        return False

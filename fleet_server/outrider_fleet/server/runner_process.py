"""The training runner that `up` starts: its own process, with its own token.

1. It is started as soon as `training.toml` is in the home, and again when it dies.
2. It ends with the server (its standard input is the server's leash).
"""

import logging
import subprocess
import sys
from typing import Final

from outrider_fleet.config import Home

_log: Final = logging.getLogger(__name__)
STOP_TIMEOUT_S: Final = 10.0


class RunnerProcess:
    """One runner; `look` is called now and then."""

    def __init__(self, home: Home, api: str) -> None:
        self._home, self._api = home, api
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """Process id while it runs."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    def look(self) -> None:
        """Start it where it should run and does not."""
        if self.pid is not None or not (self._home.path / "training.toml").exists():
            return
        if self._process is not None:
            _log.warning("the training runner ended with status %d, starting it again", self._process.returncode)
        command = [sys.executable, "-m", "outrider_fleet.training", "--api", self._api, "--leash"]
        files = ["--token-file", str(self._home.runner_token), "--home", str(self._home.path)]
        with (self._home.logs / "runner.log").open("ab") as log:
            self._process = subprocess.Popen(
                [*command, *files], stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True
            )

    def stop(self) -> None:
        """End it for good."""
        process = self._process
        if process is None:
            return
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdin is not None:
            process.stdin.close()

"""The training runner that `up` starts: its own process, with its own token.

1. It is started as soon as `training.toml` is in the home, and again when it dies.
2. It ends with the server.
"""

import sys
from typing import Final

from outrider_fleet.config import Home
from outrider_fleet.processes.child import Child

STOP_TIMEOUT_S: Final = 10.0


class RunnerProcess:
    """One runner; `look` is called now and then."""

    def __init__(self, home: Home, api: str) -> None:
        self._training = home.path / "training.toml"
        command = [sys.executable, "-m", "outrider_fleet.training", "--api", api, "--leash"]
        files = ["--token-file", str(home.runner_token), "--home", str(home.path)]
        log = home.logs / "runner.log"
        self._child = Child("training runner", [*command, *files], log, stop_timeout_s=STOP_TIMEOUT_S)
        self._started = False

    @property
    def pid(self) -> int | None:
        """Process id while it runs."""
        return self._child.pid

    def look(self) -> None:
        """Start it once there is something to train with."""
        if not self._started and self._training.exists():
            self._started = True
            self._child.start()

    def stop(self) -> None:
        """End it for good."""
        self._child.stop()

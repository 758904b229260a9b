"""Starts the training runner beside the server (it may as well run on another machine)."""

import sys
from pathlib import Path

from outrider_fleet.signing.child import Child


def runner_process(home: Path, url: str, token_file: Path, *, ca: Path | None = None) -> Child:
    """The runner as a child: `start`, `stop`; its configuration is `training.toml` in `home`."""
    argv = [sys.executable, "-m", "outrider_fleet.training", "--api", url, "--token-file", str(token_file)]
    argv += ["--home", str(home), "--leash", *(["--ca", str(ca)] if ca else [])]
    return Child("training runner", argv, home / "logs" / "runner.log")

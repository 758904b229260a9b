"""Starts the training runner beside the server (it may as well run on another machine)."""

import sys
from pathlib import Path

from outrider_fleet.signing.child import Child


def runner_process(home: Path, url: str, token_file: Path, *, ca: Path | None = None) -> Child:
    """The runner as a child: `start`, `stop`; its configuration is `training.toml` in `home`."""
    argv: list[str | Path] = [
        sys.executable, "-m", "outrider_fleet.training", "--api", url, "--token-file", token_file, "--home", home,
        "--leash", *(["--ca", ca] if ca else []),
    ]  # fmt: skip
    return Child("training runner", argv, home / "logs" / "runner.log")

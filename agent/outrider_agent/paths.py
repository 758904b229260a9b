"""Where the agent's files are: the one place that knows the layout.

`$OUTRIDER_HOME` holds `etc`, `var` and `run`; without it the system's own directories are used.

>>> Paths.under("/tmp/dev-1").config.as_posix()
'/tmp/dev-1/etc/agent.toml'
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

HOME: Final = "OUTRIDER_HOME"


@dataclass(frozen=True)
class Paths:
    """The directories of one agent: configuration, state, sockets."""

    etc: Path
    var: Path
    run: Path

    @classmethod
    def under(cls, home: str | Path) -> Paths:
        """All three below one directory (a user without root)."""
        root = Path(home).absolute()
        return cls(root / "etc", root / "var", root / "run")

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> Paths:
        """Below `$OUTRIDER_HOME`, or the system's directories."""
        if environ.get(HOME):
            return cls.under(environ[HOME])
        return cls(Path("/etc/outrider"), Path("/var/lib/outrider"), Path("/run/outrider"))

    @property
    def config(self) -> Path:
        """agent.toml."""
        return self.etc / "agent.toml"

    @property
    def artifacts(self) -> Path:
        """One directory an artifact, named by the hex digest of its manifest."""
        return self.var / "artifacts"

    @property
    def downloads(self) -> Path:
        """Incomplete artifacts, by the same name."""
        return self.var / "downloads"

    @property
    def trust(self) -> Path:
        """The last verified TUF metadata."""
        return self.var / "trust"

    @property
    def outbox(self) -> Path:
        """The outbox's database."""
        return self.var / "outbox.db"

    @property
    def lock(self) -> Path:
        """Held by the one agent that runs here."""
        return self.var / "agent.lock"

    @property
    def update_lock(self) -> Path:
        """Held by the one update process that works."""
        return self.var / "update.lock"

    @property
    def update(self) -> Path:
        """update.json."""
        return self.var / "update.json"

    @property
    def desired(self) -> Path:
        """The last accepted order as it came, so that a restart needs no broker to resume."""
        return self.var / "desired.json"

    @property
    def removal(self) -> Path:
        """A verified order to erase this device, until that is done."""
        return self.var / "removal.json"

    @property
    def seal_key(self) -> Path:
        """The key of sealed artifacts, where no credential holds it."""
        return self.var / "artifacts.key"

    @property
    def identity(self) -> Path:
        """device.key, device.pem, ca.pem, root.json, identity.json."""
        return self.var / "identity"

    @property
    def status_socket(self) -> Path:
        """The supervisor's own socket (`outrider-agent status`)."""
        return self.run / "supervisor.sock"

    @property
    def import_socket(self) -> Path:
        """Where the supervisor takes orders that a person brings (`outrider-agent import`)."""
        return self.run / "supervisor.import"

    def artifact(self, hex_digest: str) -> Path:
        """The directory of one committed artifact."""
        return self.artifacts / hex_digest

    def model_socket(self, model: str) -> Path:
        """The local API of one model."""
        return self.run / f"{model}.sock"

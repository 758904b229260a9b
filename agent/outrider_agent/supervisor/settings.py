"""What the update process is told of agent.toml: it reads no configuration itself."""

from __future__ import annotations

from typing import Any

from outrider_agent.config import Config


def update_settings(config: Config) -> dict[str, Any]:
    """The fields of `begin` that come from the configuration."""
    return {"server": config.server.url, "encrypt": config.artifacts.encrypt}

"""fleet.toml. Rule: docs/spec/server.md."""

from __future__ import annotations

from pathlib import Path

import pytest

from outrider_fleet import config
from outrider_fleet.config import FleetConfig, Home
from outrider_fleet.errors import ConfigError


def test_defaults() -> None:
    """SRV-8: an empty file is a whole configuration."""
    assert config.parse("") == FleetConfig()


def test_values() -> None:
    """SRV-8: numbers may be written without a point; lists become tuples."""
    parsed = config.parse('name = "w"\n[api]\nport = 0\nallowed_hosts = ["fleet.example"]\n[engine]\ntick_s = 1\n')
    assert (parsed.name, parsed.api.port, parsed.engine.tick_s) == ("w", 0, 1.0)
    assert parsed.api.allowed_hosts == ("fleet.example",)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("colour = 1", "colour"),
        ("name = 7", "name"),
        ("[api]\nporto = 1", "porto"),
        ('[api]\nport = "8080"', "port"),
        ("[api]\nport = true", "port"),
        ("[engine]\ntick_s = true", "tick_s"),
        ("[api]\nallowed_hosts = [1]", "allowed_hosts"),
        ("api = 3", "api"),
        ("[api", "fleet.toml"),
    ],
)
def test_refused(text: str, named: str) -> None:
    """SRV-8: the error names what is wrong."""
    with pytest.raises(ConfigError, match=named):
        config.parse(text)


def test_missing_file(tmp_path: Path) -> None:
    """SRV-8: a home without its configuration is none."""
    with pytest.raises(ConfigError):
        config.load(tmp_path / "fleet.toml")


def test_database_url(tmp_path: Path) -> None:
    """SRV-8: SQLite in the home, unless another is named."""
    home = Home(tmp_path)
    assert home.url(FleetConfig()) == f"sqlite:///{tmp_path}/fleet.db"
    assert home.url(config.parse('[store]\nurl = "postgresql://db/fleet"')) == "postgresql://db/fleet"

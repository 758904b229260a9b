"""agent.toml: every refusal names file, key and reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from outrider_agent import config
from outrider_agent.errors import ConfigError
from outrider_agent.paths import Paths

BASE = '[device]\nid = "dev-1"\nprofile = "x86-64"\n[broker]\nhost = "b"\nport = 8883\n'


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[device]\nid = 'dev-1'\nprofile = 'p'\n", r"\[broker\] is missing"),
        (BASE + "[telemetri]\n", r"\[telemetri\] is not a section"),
        (BASE + "[telemetry]\nflush = 1\n", "flush: unknown key"),
        (BASE + "[telemetry]\nbatch_records = '250'\n", "batch_records: int expected, not str"),
        (BASE + "[telemetry]\nbatch_records = 0\n", "batch_records"),
        (BASE + "[telemetry]\noutbox_bytes = -1\n", "negative"),
        (BASE + "[samples]\nenabled = 1\n", "enabled: bool expected, not int"),
        (BASE + "[models.har]\nhttp = '0.0.0.0:80'\n", "not on loopback"),
        (BASE + "[models.har]\nlisten = 'tcp'\n", "listen"),
        (BASE + "[models.Har]\n", "not a model name"),
        (BASE.replace("dev-1", "Dev 1"), "not a device id"),
        (BASE.replace("port = 8883", ""), "port: missing"),
        ("nonsense", "agent.toml"),
    ],
)
def test_refusals(tmp_path: Path, text: str, named: str) -> None:
    """AGT-CFG-1: unknown, missing and mistyped keys are refused by name."""
    path = tmp_path / "agent.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=named) as caught:
        config.load(path)
    assert str(path) in str(caught.value)
    assert caught.value.hint


def test_what_enrolment_writes_is_read(tmp_path: Path) -> None:
    """AGT-CFG-2: the default file is valid, and everything else has its default."""
    device, broker, server = config.Device("dev-1", "x86-64"), config.Broker("b", 1), config.Server("https://s")
    path = tmp_path / "agent.toml"
    path.write_text(config.default_toml(device, broker, server))
    assert config.load(path) == config.Config(device, broker, server)
    assert not config.load(path).samples.enabled


def test_a_missing_file_says_who_writes_it(tmp_path: Path) -> None:
    """AGT-CFG-1: the hint names the command."""
    with pytest.raises(ConfigError) as caught:
        config.load(tmp_path / "agent.toml")
    assert "enrol" in caught.value.hint


def test_home_or_the_systems_directories(tmp_path: Path) -> None:
    """AGT-CFG-3: everything lies under OUTRIDER_HOME, or where the design says."""
    assert Paths.from_environment({"OUTRIDER_HOME": str(tmp_path)}).update == tmp_path / "var" / "update.json"
    system = Paths.from_environment({})
    assert [str(p) for p in (system.config, system.outbox, system.model_socket("har"))] == [
        "/etc/outrider/agent.toml",
        "/var/lib/outrider/outbox.db",
        "/run/outrider/har.sock",
    ]

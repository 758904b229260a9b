"""agent.toml: every refusal names file, key and reason."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from outrider_agent import config
from outrider_agent.errors import ConfigError
from outrider_agent.paths import Paths
from outrider_agent.supervisor.listeners import listen

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
        (BASE + "[models.har]\nhttp = '127.0.0.1:99999'\n", "not on loopback"),
        (BASE + "[models.har]\nhttp = '127.0.0.1:http'\n", "not on loopback"),
        (BASE + "[server]\nurl = 'https://fleet:port'\n", "url: 'https://fleet:port' is no address"),
        (BASE + "[telemetry]\nflush_s = 0\n", r"\[telemetry\] flush_s: more than 0"),
        (BASE + "[telemetry]\nflush_s = nan\n", "no number"),
        (BASE + "[telemetry]\nin_flight = 0\n", r"\[telemetry\] in_flight: more than 0"),
        (BASE + "[supervisor]\nrenew_every_s = inf\n", "no number"),
        (BASE + "[supervisor]\nstate_every_s = 0.0\n", r"\[supervisor\] state_every_s: more than 0"),
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


def test_what_a_server_answers_adds_nothing_to_the_file(tmp_path: Path) -> None:
    """AGT-CFG-2: a broker's name with quotes and lines in it stays a name."""
    path, broker = tmp_path / "agent.toml", config.Broker('b"\n[samples]\nenabled = true # \x7f\\ü', 8883)
    path.write_text(config.default_toml(config.Device("dev-1", "x86-64"), broker, config.Server()), encoding="utf-8")
    assert config.load(path).broker == broker
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


@pytest.mark.parametrize("port", [0, 65_536])
def test_a_port_that_is_none(port: int) -> None:
    """AGT-CFG-1: refused when the file is read, not at every connection."""
    with pytest.raises(ConfigError, match="port"):
        config.parse({"device": {"id": "dev-1", "profile": "x86-64"}, "broker": {"host": "b", "port": port}})


def test_a_model_listens_on_ipv6(tmp_path: Path) -> None:
    """AGT-CFG-1: each address that is allowed can be listened on; what is taken leaves nothing open."""
    if not socket.has_ipv6:
        pytest.skip("this machine has no IPv6")
    with socket.socket(socket.AF_INET6) as probe:
        probe.bind(("::1", 0))
        port = probe.getsockname()[1]
    made = listen(tmp_path / "m.sock", config.Model(http=f"[::1]:{port}"))
    assert made.tcp is not None
    assert made.tcp.getsockname()[:2] == ("::1", port)
    made.close()

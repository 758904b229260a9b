"""agent.toml, as frozen dataclasses.

1. Unknown sections and keys are refused, with the file, the key and the reason.
2. Every key has a default except `[device] id, profile` and `[broker] host, port`.
3. Names carry their units; nothing is read or written at import.
4. A number that nobody can mean (no port, a period of nothing, infinity) is refused here, not where it would be used.

    [device]             id = "dev-1"          profile = "x86-64"
    [broker]             host = "127.0.0.1"    port = 8883
    [server]             url = "https://fleet:8443"
    [models.har]         listen = "unix"       http = "127.0.0.1:8080"
    [telemetry]          batch_records = 250   flush_s = 1.0   outbox_bytes = 67108864
    [samples]            enabled = false       per_batch_max = 16
    [drift]              baseline_windows = 115
    [artifacts]          encrypt = false

>>> parse({"device": {"id": "dev-1", "profile": "x86-64"}, "broker": {"host": "b", "port": 1}}).telemetry.batch_records
250
"""

from __future__ import annotations

import json
import sys
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

from outrider_agent.errors import ConfigError
from outrider_protocol import ids
from outrider_protocol.errors import MalformedError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

CONFIG_BYTES: Final = 256 * 1024
NUMBER_MAX: Final = 1e12
T = TypeVar("T")
_LOOPBACK: Final = ("127.0.0.1", "localhost", "[::1]")
_PORT_MAX: Final = 65_535
_POSITIVE: Final = {
    "broker": ("keepalive_s",),
    "telemetry": ("flush_s", "outbox_bytes", "in_flight", "ack_timeout_s"),
    "supervisor": ("worker_start_s", "drain_s", "state_every_s", "renew_every_s"),
}


@dataclass(frozen=True)
class Device:
    """Who this device is and which board it is; `erasable`: whether the fleet may order it to erase itself."""

    id: str
    profile: str
    erasable: bool = True


@dataclass(frozen=True)
class Broker:
    """Where the MQTT broker listens; the connection is always mutual TLS."""

    host: str
    port: int
    keepalive_s: int = 30


@dataclass(frozen=True)
class Server:
    """The fleet server's address, for enrolment and renewal."""

    url: str = ""


@dataclass(frozen=True)
class Model:
    """The local API of one model: a Unix socket, and loopback TCP where `http` names `host:port`."""

    listen: str = "unix"
    http: str = ""


@dataclass(frozen=True)
class Telemetry:
    """Batches and the outbox. `in_flight` batches a stream wait for their ack at once."""

    batch_records: int = 250
    flush_s: float = 1.0
    outbox_bytes: int = 64 * 1024 * 1024
    in_flight: int = 16
    ack_timeout_s: float = 10.0


@dataclass(frozen=True)
class Samples:
    """Whether raw inputs may leave this device, and how many a batch; `control_ratio` of them are chosen at random."""

    enabled: bool = False
    per_batch_max: int = 16
    control_ratio: float = 0.5


@dataclass(frozen=True)
class Drift:
    """The detector: `baseline_windows` inferences make this device's own baseline."""

    enabled: bool = True
    baseline_windows: int = 115


@dataclass(frozen=True)
class Artifacts:
    """Artifacts at rest: `encrypt` seals their files with this device's key."""

    encrypt: bool = False


@dataclass(frozen=True)
class Supervisor:
    """Limits of what the supervisor waits for, and how often it looks after the device's certificate."""

    worker_start_s: float = 60.0
    drain_s: float = 10.0
    state_every_s: float = 5.0
    renew_every_s: float = 21_600.0


@dataclass(frozen=True)
class Config:
    """Everything agent.toml says."""

    device: Device
    broker: Broker
    server: Server = Server()
    models: dict[str, Model] = field(default_factory=dict)
    telemetry: Telemetry = Telemetry()
    samples: Samples = Samples()
    drift: Drift = Drift()
    artifacts: Artifacts = Artifacts()
    supervisor: Supervisor = Supervisor()

    def model(self, name: str) -> Model:
        """How one model is served; a model without a section has the defaults."""
        return self.models.get(name, Model())


_SECTIONS: Final[dict[str, type[Any]]] = {
    "device": Device,
    "broker": Broker,
    "server": Server,
    "telemetry": Telemetry,
    "samples": Samples,
    "drift": Drift,
    "artifacts": Artifacts,
    "supervisor": Supervisor,
}


def load(path: Path) -> Config:
    """Read agent.toml; raises `ConfigError` naming file, key and reason."""
    try:
        data = path.read_bytes()
        if len(data) > CONFIG_BYTES:
            raise ConfigError(f"{path}: {len(data)} bytes, at most {CONFIG_BYTES} are allowed")
        return parse(tomllib.loads(data.decode("utf-8")), str(path))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file", "`outrider-agent enrol` writes it.") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path}: {error}") from error


def parse(document: dict[str, Any], file: str = "agent.toml") -> Config:
    """Turn a TOML document into a `Config`; raises `ConfigError`."""
    for name in ("device", "broker"):
        if name not in document:
            raise ConfigError(f"{file}: [{name}] is missing")
    sections: dict[str, Any] = {}
    for name, value in document.items():
        where = f"{file}: [{name}]"
        if name == "models":
            sections[name] = _models(value, where)
        elif name in _SECTIONS:
            sections[name] = _section(_SECTIONS[name], value, where)
        else:
            raise ConfigError(f"{where} is not a section ({', '.join([*_SECTIONS, 'models'])})")
    return _checked(Config(**sections), file)


def _models(value: Any, where: str) -> dict[str, Model]:
    if not isinstance(value, dict):
        raise ConfigError(f"{where} must be a table")
    return {
        _named(ids.model_name, name, where): _section(Model, item, f"{where}.{name}") for name, item in value.items()
    }


def _section(kind: type[T], value: Any, where: str) -> T:
    if not isinstance(value, dict):
        raise ConfigError(f"{where} must be a table")
    known = {item.name: item for item in fields(kind)}  # type: ignore[arg-type]  # every kind here is a dataclass
    for name in value:
        if name not in known:
            raise ConfigError(f"{where} {name}: unknown key (known: {', '.join(known)})")
    for name, item in known.items():
        if name not in value and item.default is MISSING:
            raise ConfigError(f"{where} {name}: missing")
    return kind(**{name: _typed(item, str(known[name].type), f"{where} {name}") for name, item in value.items()})


def _typed(value: Any, kind: str, where: str) -> Any:
    if kind == "float" and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value).__name__ != kind:
        raise ConfigError(f"{where}: {kind} expected, not {type(value).__name__}")
    if kind in {"int", "float"} and value < 0:
        raise ConfigError(f"{where}: {value} is negative")
    if kind in {"int", "float"} and not value <= NUMBER_MAX:  # what is not a number is not below it either
        raise ConfigError(f"{where}: {value} is no number up to {NUMBER_MAX:g}")
    return value


def _checked(config: Config, file: str) -> Config:
    _named(ids.device_id, config.device.id, f"{file}: [device] id")
    _named(ids.profile_name, config.device.profile, f"{file}: [device] profile")
    for name, model in config.models.items():
        where = f"{file}: [models.{name}]"
        if model.listen != "unix":
            raise ConfigError(f'{where} listen: only "unix" is known')
        if model.http and not _is_loopback(model.http):
            raise ConfigError(f"{where} http: {model.http!r} is not on loopback (127.0.0.1:PORT)")
    if not 1 <= config.telemetry.batch_records <= 10_000:
        raise ConfigError(f"{file}: [telemetry] batch_records: 1..10000 are allowed")
    _check_addresses_and_periods(config, file)
    return config


def _check_addresses_and_periods(config: Config, file: str) -> None:
    if not 1 <= config.broker.port <= _PORT_MAX:
        raise ConfigError(f"{file}: [broker] port: 1..{_PORT_MAX} are allowed")
    if config.server.url and not is_address(config.server.url):
        raise ConfigError(f"{file}: [server] url: {config.server.url!r} is no address (https://HOST:PORT)")
    if config.broker.keepalive_s > _PORT_MAX:
        raise ConfigError(f"{file}: [broker] keepalive_s: at most {_PORT_MAX} is allowed")
    for section, names in _POSITIVE.items():
        for name in names:
            if not getattr(getattr(config, section), name):
                raise ConfigError(f"{file}: [{section}] {name}: more than 0 is needed")


def is_address(url: str) -> bool:
    """Whether a URL has a host and a port that can be connected to, for all that its text says."""
    try:
        parts = urlsplit(url)
        return bool((parts.hostname or "").encode("idna")) and parts.port != 0
    except ValueError:  # no number, out of range, half an IPv6 address, a name that is none
        return False


def _is_loopback(address: str) -> bool:
    host, _, port = address.rpartition(":")
    return host in _LOOPBACK and port.isascii() and port.isdigit() and 0 < int(port) <= _PORT_MAX


def _named(check: Any, value: str, where: str) -> str:
    try:
        return str(check(value))
    except MalformedError as error:
        raise ConfigError(f"{where}: {error}") from error


def default_toml(device: Device, broker: Broker, server: Server) -> str:
    """The agent.toml that enrolment writes."""
    return (
        f"[device]\nid = {_quoted(device.id)}\nprofile = {_quoted(device.profile)}\n\n"
        f"[broker]\nhost = {_quoted(broker.host)}\nport = {broker.port}\n\n"
        f"[server]\nurl = {_quoted(server.url)}\n"
    )


def _quoted(text: str) -> str:
    """A basic string of TOML: a server's answer adds no line to the file."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")

"""fleet.toml, and where everything lies in the server's home.

1. Unknown keys are refused; every number has its unit in its name.
2. A port of 0 means: choose one. The chosen ones stand in `run/endpoints.json` while the server runs.

    name = "workshop"
    [api]
    host = "127.0.0.1"
    port = 8080
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from outrider_fleet.errors import ConfigError


@dataclass(frozen=True)
class ApiConfig:
    """The HTTP server. `allowed_hosts` are the host names that requests may name."""

    host: str = "127.0.0.1"
    port: int = 8080
    anonymous_read: bool = True
    allowed_hosts: tuple[str, ...] = ("127.0.0.1", "localhost", "[::1]")


@dataclass(frozen=True)
class BrokerConfig:
    """The embedded broker; `advertise_host` is what devices are told, `binary` another nats-server.

    `mosquitto` names the directory of an external broker instead (`outrider-fleet broker-config mosquitto` writes it).
    """

    host: str = "127.0.0.1"
    port: int = 0
    advertise_host: str = "127.0.0.1"
    binary: str | None = None
    mosquitto: str | None = None


@dataclass(frozen=True)
class EnrolmentConfig:
    """HTTPS for devices: enrolment and renewal, with a certificate of the fleet's own for `names`. Port 0: none."""

    host: str = "127.0.0.1"
    port: int = 0
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class StoreConfig:
    """`url` empty: fleet.db in the home."""

    url: str = ""


@dataclass(frozen=True)
class EngineConfig:
    """How often time is looked at, how many messages are committed at once, how long an order may be accepted."""

    tick_s: float = 0.5
    ingest_batch: int = 200
    order_lifetime_s: float = 7 * 86_400.0


@dataclass(frozen=True)
class SigningConfig:
    """`home` is that of a signer which another user runs (`outrider-fleet signer`); empty: `up` starts one here."""

    home: str = ""


@dataclass(frozen=True)
class TrainingConfig:
    """The runner that `up` starts; how to train each model stands in `training.toml`, the runner's own file."""

    enabled: bool = True


@dataclass(frozen=True)
class FleetConfig:
    """All of fleet.toml."""

    name: str = "outrider"
    api: ApiConfig = field(default_factory=ApiConfig)
    broker: BrokerConfig = field(default_factory=BrokerConfig)
    enrolment: EnrolmentConfig = field(default_factory=EnrolmentConfig)
    store: StoreConfig = field(default_factory=StoreConfig)
    engine: EngineConfig = field(default_factory=EngineConfig)
    signing: SigningConfig = field(default_factory=SigningConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)


_SECTIONS: Mapping[str, type[Any]] = {
    "api": ApiConfig,
    "broker": BrokerConfig,
    "enrolment": EnrolmentConfig,
    "store": StoreConfig,
    "engine": EngineConfig,
    "signing": SigningConfig,
    "training": TrainingConfig,
}


def load(path: Path) -> FleetConfig:
    """Read fleet.toml; raises `ConfigError`."""
    try:
        return parse(path.read_text())
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error


def parse(text: str) -> FleetConfig:
    """Read the text of fleet.toml; raises `ConfigError`."""
    try:
        value = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"fleet.toml: {error}") from error
    sections = {name: _section(kind, value.pop(name, {}), name) for name, kind in _SECTIONS.items()}
    name = value.pop("name", "outrider")
    if value or not isinstance(name, str) or not name:
        raise ConfigError(f"fleet.toml: {next(iter(value), 'name')!r} is not known or no text")
    return FleetConfig(name=name, **sections)


def _section(kind: type[Any], value: Any, what: str) -> Any:
    known = {item.name: item for item in fields(kind)}
    if not isinstance(value, dict):
        raise ConfigError(f"fleet.toml: [{what}] is a table")
    unknown = sorted(set(value) - set(known))
    if unknown:
        raise ConfigError(f"fleet.toml: [{what}] {unknown[0]} is not known")
    return kind(**{name: _typed(item, getattr(kind(), name), f"[{what}] {name}") for name, item in value.items()})


def _typed(value: Any, default: Any, what: str) -> Any:
    if isinstance(default, tuple) and isinstance(value, list) and all(isinstance(item, str) for item in value):
        return tuple(value)
    if isinstance(default, float) and type(value) is int:
        return float(value)
    if type(value) is type(default) or (default is None and isinstance(value, str)):
        return value
    raise ConfigError(f"fleet.toml: {what} = {value!r} has the wrong type")


@dataclass(frozen=True)
class Home:
    """The server's directory; `signing` is that of a signer which runs as another user."""

    path: Path
    signing: Path | None = None

    @property
    def signer(self) -> Path:
        """Where the signer's keys, metadata and socket are."""
        return self.signing or self.path

    def configured(self, config: FleetConfig) -> "Home":
        """The same home, with what its fleet.toml says of the signer's."""
        return Home(self.path, Path(config.signing.home)) if config.signing.home else self

    @property
    def config(self) -> Path:
        """fleet.toml."""
        return self.path / "fleet.toml"

    @property
    def database(self) -> Path:
        """The SQLite file."""
        return self.path / "fleet.db"

    @property
    def blobs(self) -> Path:
        """Artifact blobs by hex digest."""
        return self.path / "artifacts" / "blobs" / "sha256"

    @property
    def snapshots(self) -> Path:
        """Dataset snapshots."""
        return self.path / "snapshots"

    @property
    def trust(self) -> Path:
        """The TUF repository."""
        return self.signer / "trust"

    @property
    def ca(self) -> Path:
        """The certificate authority."""
        return self.path / "ca"

    @property
    def broker(self) -> Path:
        """The broker's files."""
        return self.path / "broker"

    @property
    def run(self) -> Path:
        """Sockets and `endpoints.json`."""
        return self.path / "run"

    @property
    def logs(self) -> Path:
        """Logs of the children."""
        return self.path / "logs"

    @property
    def operator_token(self) -> Path:
        """The token that the command line uses (0600)."""
        return self.path / "keys" / "operator.token"

    @property
    def runner_token(self) -> Path:
        """The training runner's token (0600)."""
        return self.path / "keys" / "runner.token"

    @property
    def endpoints(self) -> Path:
        """What a running server listens on."""
        return self.run / "endpoints.json"

    def blob(self, hex_digest: str) -> Path:
        """Where a blob lies."""
        return self.blobs / hex_digest

    def url(self, config: FleetConfig) -> str:
        """The database's URL."""
        return config.store.url or f"sqlite:///{self.database}"

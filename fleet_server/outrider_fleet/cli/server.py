"""Commands on the server's own machine: making a home, running it, and the offline ceremonies."""

from __future__ import annotations

import getpass
import os
from pathlib import Path
from typing import Any, Final

import click

from outrider_fleet.cli.connection import Connection, refuse
from outrider_fleet.cli.options import as_json
from outrider_fleet.cli.output import emit
from outrider_fleet.errors import FleetError
from outrider_protocol.errors import ProtocolError

_OFFLINE = click.option(
    "--offline",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="Where the offline keys lie (a stick, not this machine's disk).",
)


@click.command()
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False))
@click.option("--name", "fleet", default="fleet", show_default=True, help="The fleet's name; stands in every order.")
@_OFFLINE
@as_json
def init(directory: Path, fleet: str, offline: Path, *, as_json: bool) -> None:
    """Make a home: authority, trust roles, database, operator token. Offline keys go to --offline alone.

    A passphrase for the offline keys is taken from OUTRIDER_PASSPHRASE_FILE or OUTRIDER_PASSPHRASE.
    """
    from outrider_fleet.server import initialise

    made: dict[str, Any] = _told(lambda: initialise(directory.absolute(), fleet, _offline(offline)))
    emit(made, as_json=as_json)


@click.command()
@click.option("--http-port", type=click.IntRange(0, 65535), help="0 takes a free one [default: fleet.toml].")
@click.option("--mqtt-port", type=click.IntRange(0, 65535), help="0 takes a free one [default: fleet.toml].")
@click.option(
    "--broker",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="Use the mosquitto of this directory (see `broker-config`) [default: fleet.toml, else the embedded broker].",
)
@click.option("--no-runner", is_flag=True, help="Do not start the training runner here.")
@click.pass_obj
def up(
    server: Connection, *, http_port: int | None, mqtt_port: int | None, broker: Path | None, no_runner: bool
) -> None:
    """Run the server: signer, broker, HTTP interface, rollout engine and training runner. Ends on SIGTERM."""
    from outrider_fleet.server import serve

    external = broker.absolute() if broker else None
    ports = {"http_port": http_port, "mqtt_port": mqtt_port}
    _told(lambda: serve(server.home, **ports, broker=external, runner=not no_runner))


@click.group("broker-config")
def broker_config() -> None:
    """Configuration of brokers that are not the embedded one."""


@broker_config.command("mosquitto")
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False))
@click.option("--listen", "listen_host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(1, 65535), default=8883, show_default=True)
@click.option("--host", default="127.0.0.1", show_default=True, help="How this server reaches the broker.")
@click.option("--advertise-host", help="What devices are told [default: --host].")
@click.option("--user", help="System user that mosquitto runs as [default: whoever runs this].")
@as_json
@click.pass_obj
def broker_config_mosquitto(
    server: Connection, *, directory: Path, listen_host: str, port: int, host: str, advertise_host: str | None,
    user: str | None, as_json: bool,
) -> None:  # fmt: skip
    """Write all that a mosquitto 2.0 needs to serve this fleet into DIRECTORY, its certificate included.

    Start it with `mosquitto -c DIRECTORY/mosquitto.conf`, then this server with `up --broker DIRECTORY`.
    """
    from outrider_fleet.broker import mosquitto
    from outrider_fleet.broker.mosquitto_files import CONFIG, Listener
    from outrider_fleet.config import Home
    from outrider_fleet.pki.ca import CertificateAuthority

    place = directory.absolute()
    address = mosquitto.Address(host, port, advertise_host or host)
    listener = Listener(listen_host, port, user or getpass.getuser())
    authority = _told(lambda: CertificateAuthority.load(Home(server.home).ca))
    _told(lambda: mosquitto.write_files(place, authority, listener, address))
    emit({"configuration": str(place / CONFIG), "fleet_toml": f'[broker] mosquitto = "{place}"'}, as_json=as_json)


@click.command()
@click.argument("model")
@click.option("--key", type=click.Path(path_type=Path, exists=True, dir_okay=False), required=True, help="Public PEM.")
@_OFFLINE
@click.pass_obj
def delegate(server: Connection, *, model: str, key: Path, offline: Path) -> None:
    """Let the pipeline with this public key sign the releases of MODEL."""
    from outrider_fleet.signing import ceremony

    _told(lambda: ceremony.delegate(server.home, _offline(offline), model, ceremony.public_from_file(key)))
    click.echo(f"{model}: releases signed by {key} will be accepted")


@click.group()
def trust() -> None:
    """Ceremonies with the offline keys."""


@trust.command("floor")
@click.argument("model")
@click.argument("counter", type=click.IntRange(min=1))
@_OFFLINE
@as_json
@click.pass_obj
def trust_floor(server: Connection, *, model: str, counter: int, offline: Path, as_json: bool) -> None:
    """Declare every release of MODEL below COUNTER unsafe: no device will install one again."""
    from outrider_fleet.signing import ceremony

    floors = _told(lambda: ceremony.set_floor(server.home, _offline(offline), model, counter))
    emit(floors.min_counter, as_json=as_json)


@trust.command("pipeline-key")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
def trust_pipeline_key(file: Path) -> None:
    """Make a release pipeline's key: FILE (private, keep it in the pipeline) and FILE.pub (for `delegate`)."""
    from outrider_fleet.signing import ceremony

    _told(lambda: ceremony.make_pipeline_key(file.absolute(), ceremony.passphrase_from(os.environ)))
    click.echo(f"{ceremony.public_path(file)}")


def _offline(directory: Path) -> Any:
    from outrider_fleet.signing import ceremony

    return ceremony.Offline(directory.absolute(), _told(lambda: ceremony.passphrase_from(os.environ)))


def _told(act: Any) -> Any:
    """Run `act`; errors raised on purpose end the command with their hint."""
    try:
        return act()
    except FleetError as error:
        refuse(error)
    except ProtocolError as error:
        raise refused_by_protocol(error) from error


def refused_by_protocol(error: ProtocolError) -> click.ClickException:
    """The command-line form of a protocol error."""
    from outrider_fleet.cli.connection import RefusedByServerError

    return RefusedByServerError(3, type(error).__name__, str(error), error.hint)


COMMANDS: Final = (init, up, broker_config, delegate, trust)

"""Commands on the server's own machine: making a home, running it, running its signer apart."""

from __future__ import annotations

import getpass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from outrider_fleet.cli.connection import Connection
from outrider_fleet.cli.keys import offline_keys
from outrider_fleet.cli.options import as_json
from outrider_fleet.cli.output import emit
from outrider_fleet.cli.refusals import told

if TYPE_CHECKING:
    from outrider_fleet.signing.offline import Offline


@click.command()
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False))
@click.option("--name", "fleet", default="fleet", show_default=True, help="The fleet's name; stands in every order.")
@click.option(
    "--signer-home",
    type=click.Path(path_type=Path, exists=True, file_okay=False, readable=False),
    help="Where `trust init` made the keys of a signer that runs as another user.",
)
@offline_keys(makes=True)
@as_json
def init(directory: Path, fleet: str, keys: Offline, *, signer_home: Path | None, as_json: bool) -> None:
    """Make a home: authority, trust roles, database, operator token. Offline keys go where you say and nowhere else.

    Their passphrase is taken from OUTRIDER_PASSPHRASE_FILE or OUTRIDER_PASSPHRASE, or asked for at a terminal.
    """
    from outrider_fleet.server import initialise

    made: dict[str, Any] = told(lambda: initialise(directory.absolute(), fleet, keys, signer_home))
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
    told(lambda: serve(server.home, **ports, broker=external, runner=not no_runner))


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
    authority = told(lambda: CertificateAuthority.load(Home(server.home).ca))
    told(lambda: mosquitto.write_files(place, authority, listener, address))
    emit({"configuration": str(place / CONFIG), "fleet_toml": f'[broker] mosquitto = "{place}"'}, as_json=as_json)


@click.command()
@click.option("--client", "clients", multiple=True, metavar="USER", help="A user beside this one to sign for; repeat.")
@click.pass_obj
@click.pass_context
def signer(context: click.Context, server: Connection, *, clients: tuple[str, ...]) -> None:
    """Run the signer alone, as its own user: --home is its home, the server's fleet.toml names it. Ends on SIGTERM."""
    from outrider_fleet.signing.standalone import run

    context.exit(run(server.home, clients))


COMMANDS: Final = (init, up, broker_config, signer)

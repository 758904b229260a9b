"""Commands on the server's own machine: making a home, running it, running its signer apart."""

from __future__ import annotations

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
@click.option("--no-runner", is_flag=True, help="Do not start the training runner here.")
@click.pass_obj
def up(server: Connection, *, http_port: int | None, mqtt_port: int | None, no_runner: bool) -> None:
    """Run the server: signer, broker, HTTP interface, rollout engine and training runner. Ends on SIGTERM."""
    from outrider_fleet.server import serve

    told(lambda: serve(server.home, http_port=http_port, mqtt_port=mqtt_port, runner=not no_runner))


@click.command()
@click.option("--client", "clients", multiple=True, metavar="USER", help="A user beside this one to sign for; repeat.")
@click.pass_obj
@click.pass_context
def signer(context: click.Context, server: Connection, *, clients: tuple[str, ...]) -> None:
    """Run the signer alone, as its own user: --home is its home, the server's fleet.toml names it. Ends on SIGTERM."""
    from outrider_fleet.signing.standalone import run

    context.exit(run(server.home, clients))


COMMANDS: Final = (init, up, signer)

"""The command group and its common options."""

from __future__ import annotations

from pathlib import Path

import click

from outrider_fleet import __version__
from outrider_fleet.cli import air_gap, audit, fleet, loop, rollouts, server, tokens, trust
from outrider_fleet.cli.connection import Connection
from outrider_fleet.cli.refusals import Commands


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="outrider-fleet")
@click.option(
    "--home",
    type=click.Path(path_type=Path, file_okay=False, readable=False),
    envvar="OUTRIDER_FLEET_HOME",
    default=Path("/var/lib/outrider-fleet"),
    show_default=True,
    help="The server's directory.",
)
@click.option("--api", envvar="OUTRIDER_FLEET_API", help="Address of another server, e.g. http://127.0.0.1:8080.")
@click.option("--token", envvar="OUTRIDER_FLEET_TOKEN", help="Token to act with [default: the home's operator token].")
@click.pass_context
def main(context: click.Context, home: Path, api: str | None, token: str | None) -> None:
    """Sign releases, roll them out to groups of devices, and close the loop back to training."""
    context.obj = Connection(home.absolute(), api, token)


for module in (server, trust, audit, tokens, fleet, rollouts, loop, air_gap):
    for command in module.COMMANDS:
        main.add_command(command)

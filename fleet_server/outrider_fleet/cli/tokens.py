"""Commands about tokens that were made before."""

from __future__ import annotations

from typing import Final

import click

from outrider_fleet.cli.connection import Connection
from outrider_fleet.cli.fleet import token
from outrider_fleet.cli.options import as_json
from outrider_fleet.cli.output import emit

_COLUMNS = ("id", "kind", "name", "device", "state", "created_ms", "expires_ms", "used_by")


@token.command("list")
@as_json
@click.pass_obj
def token_list(server: Connection, *, as_json: bool) -> None:
    """List the tokens by the ids that the audit log names."""
    emit(server.get("/tokens"), as_json=as_json, columns=_COLUMNS)


@token.command("revoke")
@click.argument("identifier")
@as_json
@click.pass_obj
def token_revoke(server: Connection, identifier: str, *, as_json: bool) -> None:
    """Refuse a token from now on: IDENTIFIER as `token list` and the audit log have it."""
    emit(server.post(f"/tokens/{identifier}/revoke", {}), as_json=as_json)


COMMANDS: Final = (token,)

"""Ceremonies in the audit log of the home they were held on: by whom, on this machine.

1. Without a database (a signer's own home, a copy on another machine) there is nothing to write to: the server records
   what changed as soon as it sees it.
2. A log that cannot be written to does not undo the ceremony: it is told.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click
from sqlalchemy.exc import SQLAlchemyError

from outrider_fleet import config
from outrider_fleet.config import Home
from outrider_fleet.errors import FleetError
from outrider_fleet.server.initialise import cli_user
from outrider_fleet.store import audit
from outrider_fleet.store.database import open_database


def record(home: Path, action: str, what: str, detail: dict[str, Any]) -> None:
    """Write an entry, if the home has a database."""
    place = Home(home)
    if not place.config.exists():
        return
    try:
        database = open_database(place.url(config.load(place.config)))
        with database.write() as connection:
            audit.append(connection, time.time_ns() // 1_000_000, cli_user(), action, what, detail=detail)
        database.close()
    except (FleetError, SQLAlchemyError) as error:
        click.echo(f"warning: this is not in the audit log yet: {error}", err=True)

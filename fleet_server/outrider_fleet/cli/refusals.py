"""Errors raised on purpose, as the end of a command."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import click

from outrider_fleet.cli.connection import RefusedByServerError, refuse
from outrider_fleet.errors import FleetError
from outrider_protocol.errors import ProtocolError

T = TypeVar("T")


def told(act: Callable[[], T]) -> T:
    """Run `act`; errors raised on purpose end the command with their hint."""
    try:
        return act()
    except FleetError as error:
        refuse(error)
    except ProtocolError as error:
        raise refused_by_protocol(error) from error


def refused_by_protocol(error: ProtocolError) -> click.ClickException:
    """The command-line form of a protocol error."""
    return RefusedByServerError(3, type(error).__name__, str(error), error.hint)

"""Errors as the end of a command: those raised on purpose, and places that the system refuses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from outrider_fleet.cli.connection import RefusedByServerError, refuse
from outrider_fleet.errors import FleetError
from outrider_protocol.errors import ProtocolError

T = TypeVar("T")


class Commands(click.Group):
    """Ends a command with a named error where a file or folder cannot be used (whose it is, a full disk, no folder)."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command."""
        try:
            return super().invoke(ctx)
        except OSError as error:
            if error.filename is None:
                raise
            hint = "Does its folder exist, may this user read or write there, and is there room?"
            message = f"{error.filename}: {error.strerror}"
            raise RefusedByServerError(2, type(error).__name__, message, hint) from error


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

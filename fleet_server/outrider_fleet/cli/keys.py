"""Options that say where offline keys are, and how their passphrases are found."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from outrider_fleet.signing.offline import Offline
    from outrider_protocol.signing import Secrets

_PLACE = "PLACE"
_WHERE = (
    click.option(
        "--offline",
        type=click.Path(path_type=Path, file_okay=False),
        help="Directory of the offline keys (a stick, not this machine's disk).",
    ),
    click.option(
        "--root-key",
        "root_keys",
        multiple=True,
        metavar=_PLACE,
        help="A root key elsewhere: file, directory or pkcs11: address; repeat.",
    ),
    click.option("--targets-key", default="", metavar=_PLACE, help="The targets key elsewhere: as above."),
)
_PLAIN = click.option(
    "--without-passphrase",
    "plain",
    is_flag=True,
    help="Let key files be made that whoever finds them can use.",
)


def offline_keys(*, makes: bool = False) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Options that say where the offline keys are; the command gets them as `keys`. With `makes`, it may make some."""

    def add(command: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(command)
        def run(*args: Any, **given: Any) -> None:
            where = [given.pop(name) for name in ("offline", "root_keys", "targets_key")]
            command(*args, keys=_offline(*where, plain=given.pop("plain", False)), **given)

        for option in (*((_PLAIN,) if makes else ()), *reversed(_WHERE)):
            run = option(run)
        return run

    return add


def _offline(offline: Path | None, root_keys: tuple[str, ...], targets_key: str, *, plain: bool) -> Offline:
    from outrider_fleet.signing.offline import Offline

    if offline is None and not (root_keys or targets_key):
        raise click.UsageError("where are the offline keys? Give --offline DIR, or --root-key and --targets-key")
    return Offline(
        (offline or Path()).absolute(),
        root=root_keys,
        targets=targets_key,
        secrets=secrets(),
        fresh=secrets(twice=True, silent=plain),
        encrypted=not plain,
    )


def secrets(*, twice: bool = False, silent: bool = False) -> Secrets:
    """Passphrases from files and the environment; at a terminal, unless `silent`, from the person there."""
    from outrider_protocol.signing import Secrets

    def ask(question: str) -> bytes:
        answer = click.prompt(question, hide_input=True, confirmation_prompt=twice, err=True)
        return str(answer).encode()

    return Secrets(os.environ, ask if sys.stdin.isatty() and not silent else None)

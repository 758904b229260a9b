"""Ceremonies: everything about keys and roles (docs/guides/trust.md)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from outrider_fleet.cli.connection import Connection
from outrider_fleet.cli.keys import offline_keys, secrets
from outrider_fleet.cli.options import as_json
from outrider_fleet.cli.output import emit, table
from outrider_fleet.cli.refusals import told

if TYPE_CHECKING:
    from outrider_fleet.signing.offline import Offline

ROLES: Final = ("root", "targets", "snapshot", "timestamp", "director", "audit")
_COLUMNS: Final = ("role", "version", "expires", "threshold", "keyids", "signed_by", "holds")


@click.group()
def trust() -> None:
    """Ceremonies with the offline keys, and how trust stands.

    Passphrases come from OUTRIDER_PASSPHRASE_FILE or OUTRIDER_PASSPHRASE (a key's own: OUTRIDER_PASSPHRASE_ROOT_1 for
    root-1.pem), PINs of tokens from OUTRIDER_PIN_FILE or OUTRIDER_PIN; at a terminal you are asked. A running server
    follows a ceremony on its home by itself.
    """


@trust.command("init")
@click.option("--name", "fleet", default="fleet", show_default=True, help="The fleet's name; stands in every order.")
@offline_keys(makes=True)
@as_json
@click.pass_obj
def trust_init(server: Connection, *, fleet: str, keys: Offline, as_json: bool) -> None:
    """Make the roles of a home that has none: root (2 of 3) and targets offline, the others in the home.

    `outrider-fleet init` does this too; alone it makes the home of a signer that runs as its own user.
    """
    from outrider_fleet.signing import ceremony

    root = told(lambda: ceremony.init_trust(server.home, keys, fleet=fleet))
    emit({"root_of_trust": str(root), "fleet": fleet}, as_json=as_json)


@trust.command("pipeline-key")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
def trust_pipeline_key(file: Path) -> None:
    """Make a release pipeline's key: FILE (private, keep it in the pipeline) and FILE.pub (for `delegate`)."""
    from outrider_fleet.signing import ceremony
    from outrider_protocol.signing import Secrets

    path = file.absolute()
    told(lambda: ceremony.make_pipeline_key(path, Secrets(os.environ).passphrase(path)))
    click.echo(f"{ceremony.public_path(file)}")


@trust.command("delegate")
@click.argument("model")
@click.option("--key", "public", multiple=True, required=True, metavar="PLACE", help="Public PEM, or pkcs11:; repeat.")
@offline_keys()
@as_json
@click.pass_obj
def trust_delegate(server: Connection, *, model: str, public: tuple[str, ...], keys: Offline, as_json: bool) -> None:
    """Let the pipelines with these public keys, any of them, sign the releases of MODEL, and no other."""
    from outrider_fleet.signing import ceremony
    from outrider_protocol.signing import public_from

    found = told(lambda: [public_from(place, secrets()) for place in public])
    told(lambda: ceremony.delegate(server.home, keys, model, *found))
    _tell(server, "delegate", model, {"model": model, "keyids": [key.keyid for key in found]}, as_json=as_json)


@trust.command("revoke")
@click.argument("model")
@click.option("--key", "keyids", multiple=True, metavar="KEYID", help="Only this key (8 or more digits); repeat.")
@offline_keys()
@as_json
@click.pass_obj
def trust_revoke(server: Connection, *, model: str, keyids: tuple[str, ...], keys: Offline, as_json: bool) -> None:
    """Believe the pipelines of MODEL no more: what they signed is not installed again. What runs goes on running."""
    from outrider_fleet.signing import ceremony

    left = told(lambda: ceremony.revoke(server.home, keys, model, keyids))
    _tell(server, "revoke", model, {"model": model, "keyids": left}, as_json=as_json)


@trust.command("rotate")
@click.argument("role", type=click.Choice(ROLES))
@click.option("--revoke", "out", multiple=True, metavar="KEYID", help="root: the key that goes; repeat.")
@click.option("--new-key", "new", multiple=True, metavar="PLACE", help="root, targets: where the new key goes; repeat.")
@click.option("--public", metavar="FILE", help="The other roles: public half of a key that `prepare` made elsewhere.")
@click.option("--reset-time-floor", is_flag=True, help="director: devices forget how late the former one dated orders.")
@offline_keys(makes=True)
@as_json
@click.pass_obj
def trust_rotate(server: Connection, /, *, role: str, keys: Offline, as_json: bool, **given: Any) -> None:
    """Put a new key in charge of ROLE.

    root: --revoke and --new-key, signed by two root keys. targets: --new-key, signed by two root keys. snapshot,
    timestamp: signed by two root keys. director, audit: signed by the targets key; a new director is a new epoch.
    """
    from outrider_fleet.cli import rotating

    _tell(server, "rotate", role, rotating.rotate(server.home, role, keys, given), as_json=as_json)


@trust.command("renew")
@click.argument("role", type=click.Choice(ROLES[:2]))
@offline_keys()
@as_json
@click.pass_obj
def trust_renew(server: Connection, *, role: str, keys: Offline, as_json: bool) -> None:
    """Sign ROLE anew before it expires, its keys unchanged."""
    from outrider_fleet.cli import rotating

    _tell(server, "renew", role, rotating.renew(server.home, role, keys), as_json=as_json)


@trust.command("prepare")
@click.argument("role", type=click.Choice(ROLES[2:]))
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@as_json
@click.pass_obj
def trust_prepare(server: Connection, *, role: str, file: Path, as_json: bool) -> None:
    """Make the next key of ROLE here, and its public half in FILE for `trust rotate --public` elsewhere."""
    from outrider_fleet.cli import rotating

    _tell(server, "prepare", role, rotating.prepare(server.home, role, file), as_json=as_json)


@trust.command("adopt")
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@as_json
@click.pass_obj
def trust_adopt(server: Connection, *, folder: Path, as_json: bool) -> None:
    """Take over what was signed elsewhere: FOLDER is the `trust` of a copy of this home. Nothing goes back."""
    from outrider_fleet.signing import adoption

    if not (folder / "root.json").is_file():
        raise click.UsageError(f"{folder} holds no root.json: give the folder `trust` of a copy of this home")
    _tell(server, "adopt", str(folder), told(lambda: adoption.adopt(server.home, folder)), as_json=as_json)


@trust.command("floor")
@click.argument("model")
@click.argument("counter", type=click.IntRange(min=1))
@offline_keys()
@as_json
@click.pass_obj
def trust_floor(server: Connection, *, model: str, counter: int, keys: Offline, as_json: bool) -> None:
    """Declare every release of MODEL below COUNTER unsafe: no device will install one again."""
    from outrider_fleet.signing import ceremony

    floors = told(lambda: ceremony.set_floor(server.home, keys, model, counter))
    _tell(server, "floor", model, floors.min_counter, as_json=as_json)


@trust.command("status")
@as_json
@click.pass_obj
def trust_status(server: Connection, *, as_json: bool) -> None:
    """Who may sign what, who did, until when, and what is due."""
    from outrider_fleet.pki.ca import utc_now
    from outrider_fleet.signing import status

    said = told(lambda: status.report(server.home, utc_now()))
    if as_json:
        emit(said, as_json=True)
        return
    rows = [{**row, **{name: _short(row[name]) for name in ("keyids", "signed_by")}} for row in said["roles"]]
    director = said["director"]
    floors = ", ".join(f"{model} ≥ {floor}" for model, floor in said["floors"].items())
    click.echo(f"fleet {said['fleet']}\n{table(rows, _COLUMNS)}")
    click.echo(f"director: epoch {director['epoch']}, keys {_short(director['keyids'])}")
    click.echo(f"audit: keys {_short(said['audit']['keyids']) or 'none'}\nfloors: {floors or 'none'}")
    for item in said["due"]:
        click.echo(f"due: {item['role']}: {item['why']}: {item['command']}")


def _tell(server: Connection, ceremony: str, what: str, result: dict[str, Any], *, as_json: bool) -> None:
    """Print what a ceremony led to, and record it on a home that has an audit log."""
    from outrider_fleet.cli import recording

    recording.record(server.home, f"trust.{ceremony}", what, result)
    emit(result, as_json=as_json)


def _short(keyids: list[str]) -> str:
    return " ".join(keyid[:8] for keyid in keyids)


COMMANDS: Final = (trust,)

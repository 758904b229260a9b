"""Commands about devices, groups, tokens and releases."""

from __future__ import annotations

from typing import Final

import click

from outrider_fleet.cli.connection import Connection
from outrider_fleet.cli.options import as_json
from outrider_fleet.cli.output import emit

TOKEN_KINDS: Final = ("device", "operator", "viewer", "pipeline", "runner")
_DEVICES: Final = ("device", "profile", "state", "online", "model", "version", "digest", "phase", "seen_ms")


@click.group()
def token() -> None:
    """Tokens: who may enrol, publish, operate or train."""


@token.command("create")
@click.option("--kind", type=click.Choice(TOKEN_KINDS), required=True)
@click.option("--name", default="", help="Who will hold it; stands in the audit log.")
@click.option("--device", help="Bind a device token to one device id.")
@click.option("--ttl-s", type=click.IntRange(min=1), help="Life in seconds (device tokens: at most 24 hours).")
@as_json
@click.pass_obj
def token_create(
    server: Connection, kind: str, name: str, device: str | None, ttl_s: int | None, *, as_json: bool
) -> None:
    """Make a token and print it: it is shown this once and stored hashed."""
    asked = {"kind": kind, "name": name or kind, "device": device, "ttl_s": ttl_s}
    answer = server.post("/tokens", {key: value for key, value in asked.items() if value is not None})
    if as_json:
        emit(answer, as_json=True)
    else:
        click.echo(answer["token"])


@click.command()
@as_json
@click.pass_obj
def devices(server: Connection, *, as_json: bool) -> None:
    """List the devices: what they run, whether they are online, where their drift stands."""
    emit(server.get("/devices"), as_json=as_json, columns=_DEVICES)


@click.group()
def device() -> None:
    """One device."""


@device.command("show")
@click.argument("name")
@as_json
@click.pass_obj
def device_show(server: Connection, name: str, *, as_json: bool) -> None:
    """Everything known of one device."""
    emit(server.get(f"/devices/{name}"), as_json=as_json)


@device.command("revoke")
@click.argument("name")
@as_json
@click.pass_obj
def device_revoke(server: Connection, name: str, *, as_json: bool) -> None:
    """Refuse a device from now on and end its live session."""
    emit(server.post(f"/devices/{name}/revoke", {}), as_json=as_json)


@device.command("approve")
@click.argument("name")
@as_json
@click.pass_obj
def device_approve(server: Connection, name: str, *, as_json: bool) -> None:
    """Let a device whose certificate has ended have the next one, for its old key."""
    emit(server.post(f"/devices/{name}/approve", {}), as_json=as_json)


@device.command("decommission")
@click.argument("name")
@click.option("--now", is_flag=True, help="Do not wait for the device: it is lost, or nothing may reach it any more.")
@as_json
@click.pass_obj
def device_decommission(server: Connection, name: str, *, now: bool, as_json: bool) -> None:
    """Let a device erase its keys and models, then erase its data here and revoke its certificate."""
    emit(server.post(f"/devices/{name}/decommission", {"wait": not now}), as_json=as_json)


@click.group()
def group() -> None:
    """Groups of devices; `all` always exists."""


@group.command("create")
@click.argument("name")
@click.option("--device", "members", multiple=True, help="A member of a static group; repeat.")
@click.option("--profile", help="Dynamic: every device of this hardware profile.")
@click.option("--prefix", help="Dynamic: every device whose id starts so.")
@as_json
@click.pass_obj
def group_create(
    server: Connection, name: str, members: tuple[str, ...], profile: str | None, prefix: str | None, *, as_json: bool
) -> None:
    """Make a static group of devices, or a dynamic one by profile and prefix."""
    query = {key: value for key, value in (("profile", profile), ("prefix", prefix)) if value}
    if bool(members) == bool(query):
        raise click.UsageError("give either --device (static) or --profile/--prefix (dynamic)")
    body = {"kind": "static", "devices": list(members)} if members else {"kind": "dynamic", "query": query}
    emit(server.post("/groups", {"name": name, **body}), as_json=as_json)


@group.command("list")
@as_json
@click.pass_obj
def group_list(server: Connection, *, as_json: bool) -> None:
    """List the groups."""
    emit(server.get("/groups"), as_json=as_json, columns=("name", "kind", "query", "devices"))


@click.group()
def release() -> None:
    """Releases that pipelines published."""


@release.command("list")
@as_json
@click.pass_obj
def release_list(server: Connection, *, as_json: bool) -> None:
    """List the releases of every model."""
    columns = ("model", "version", "counter", "state", "run", "created_by", "created_ms")
    emit(server.get("/releases"), as_json=as_json, columns=columns)


@release.command("show")
@click.argument("model")
@click.argument("version")
@as_json
@click.pass_obj
def release_show(server: Connection, model: str, version: str, *, as_json: bool) -> None:
    """One release, with an artifact per hardware profile."""
    emit(server.get(f"/releases/{model}/{version}"), as_json=as_json)


COMMANDS: Final = (devices, device, group, release)

"""Commands about rollouts."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import click

from outrider_fleet.cli.connection import Connection
from outrider_fleet.cli.options import KeyNumber, as_json, read_object
from outrider_fleet.cli.output import emit

_COLUMNS: Final = ("id", "model", "version", "group_name", "state", "phase", "verdict", "created_by", "created_ms")


@click.group()
def rollout() -> None:
    """Rollouts: one release to one group, in phases with gates."""


def _phases(texts: tuple[str, ...]) -> list[dict[str, Any]]:
    """`canary=2`, `half=50%` → phases; raises a usage error."""
    phases: list[dict[str, Any]] = []
    for text in texts:
        name, _, bound = text.partition("=")
        amount = bound.removesuffix("%")
        if not name or not amount.isdecimal() or int(amount) == 0:
            raise click.UsageError(f"--phase {text!r}: write NAME=NUMBER or NAME=PERCENT%, at least 1")
        phases.append({"name": name, ("percent" if bound.endswith("%") else "max_devices"): int(amount)})
    return phases


def _gate(numbers: tuple[tuple[str, float], ...]) -> dict[str, float]:
    return {name: int(value) if name == "min_sample" else value for name, value in numbers}


@rollout.command("create")
@click.argument("model")
@click.argument("version")
@click.option("--group", "group_name", default="all", show_default=True)
@click.option("--phase", "phases", multiple=True, help="NAME=DEVICES or NAME=PERCENT%, in order; repeat.")
@click.option("--failures", multiple=True, type=KeyNumber(), help="Gate: max_ratio=R, min_sample=N; repeat.")
@click.option("--shadow", multiple=True, type=KeyNumber(), help="Gate: max_ratio=R, min_sample=N; repeat.")
@click.option("--parameter", "parameters", multiple=True, type=KeyNumber(), help="NAME=NUMBER for every order; repeat.")
@click.option(
    "--spec", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="JSON file instead of options."
)
@click.option("--idempotency-key", help="The same key creates the rollout once.")
@as_json
@click.pass_obj
def rollout_create(
    server: Connection,
    /,
    model: str,
    version: str,
    *,
    group_name: str,
    spec: Path | None,
    idempotency_key: str | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Start a rollout of VERSION of MODEL. Without --phase: a canary of one device, then all."""
    body = {"model": model, "version": version, "group": group_name}
    body |= read_object(spec) if spec else _plan(**options)
    headers = {"Idempotency_Key": idempotency_key} if idempotency_key else {}
    emit(server.post("/rollouts", body, **headers), as_json=as_json)


def _plan(
    phases: tuple[str, ...],
    failures: tuple[tuple[str, float], ...],
    shadow: tuple[tuple[str, float], ...],
    parameters: tuple[tuple[str, float], ...],
) -> dict[str, Any]:
    gates = {name: _gate(numbers) for name, numbers in (("failures", failures), ("shadow", shadow)) if numbers}
    return {
        "phases": _phases(phases or ("canary=1", "all=100%")),
        "gates": gates or {"failures": {"max_ratio": 0.1, "min_sample": 1}},
        "parameters": dict(parameters),
    }


@rollout.command("list")
@as_json
@click.pass_obj
def rollout_list(server: Connection, *, as_json: bool) -> None:
    """List the rollouts."""
    emit(server.get("/rollouts"), as_json=as_json, columns=_COLUMNS)


@rollout.command("show")
@click.argument("identifier")
@as_json
@click.pass_obj
def rollout_show(server: Connection, identifier: str, *, as_json: bool) -> None:
    """One rollout with its executions and events."""
    emit(server.get(f"/rollouts/{identifier}"), as_json=as_json)


def _action(name: str, text: str) -> click.Command:
    @click.command(name, help=text)
    @click.argument("identifier")
    @click.option("--reason", default="", help="Stands in the events and in `why`.")
    @as_json
    @click.pass_obj
    def act(server: Connection, identifier: str, reason: str, *, as_json: bool) -> None:
        answer = server.post(f"/rollouts/{identifier}/{name}", {"reason": reason})
        emit(answer, as_json=as_json)

    return act


for _name, _text in (
    ("advance", "Enter the next phase whatever the gates say: recorded as done by hand."),
    ("pause", "Expose no further device until it is resumed."),
    ("resume", "Go on after a pause."),
    ("abort", "End it: no further device, and what has not begun is withdrawn."),
    ("approve", "Start a rollout that was proposed."),
    ("rollback", "Order the former release again for every device that was exposed."),
):
    rollout.add_command(_action(_name, _text))


@click.command()
@click.argument("identifier")
@as_json
@click.pass_obj
def why(server: Connection, identifier: str, *, as_json: bool) -> None:
    """Say why a rollout stands where it stands."""
    answer = server.get(f"/rollouts/{identifier}/why")
    if as_json:
        emit(answer, as_json=True)
    else:
        click.echo(answer["why"])


COMMANDS: Final = (rollout, why)

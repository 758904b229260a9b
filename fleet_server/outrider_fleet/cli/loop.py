"""Commands about the loop back: drift, labels, snapshots, training runs, policies and lineage."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import click

from outrider_fleet.cli.connection import Connection
from outrider_fleet.cli.options import as_json, read_json, read_object
from outrider_fleet.cli.output import emit

LABELS_A_REQUEST: Final = 500
AUTONOMY: Final = ("propose", "approve", "automatic")


@click.command()
@as_json
@click.pass_obj
def drift(server: Connection, *, as_json: bool) -> None:
    """Where drift stands, model by model and device by device, and what the policy makes of it."""
    emit(server.get("/drift"), as_json=as_json, columns=("model", "share", "estimated_harm", "decision", "why"))


@click.group()
def label() -> None:
    """Labels that people gave to predictions."""


@label.command("import")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--model", required=True)
@as_json
@click.pass_obj
def label_import(server: Connection, file: Path, model: str, *, as_json: bool) -> None:
    """Import a JSON list of {prediction_id, label, source, use}; `use` is train or check."""
    labels = read_json(file)
    if not isinstance(labels, list):
        raise click.UsageError(f"{file}: a list of labels is expected")
    parts = [labels[start : start + LABELS_A_REQUEST] for start in range(0, len(labels), LABELS_A_REQUEST)]
    accepted = sum(server.post("/labels", {"model": model, "labels": part})["accepted"] for part in parts)
    emit({"accepted": accepted}, as_json=as_json)


@click.group()
def snapshot() -> None:
    """Dataset snapshots of labelled samples."""


@snapshot.command("create")
@click.argument("model")
@as_json
@click.pass_obj
def snapshot_create(server: Connection, model: str, *, as_json: bool) -> None:
    """Freeze the training labels whose samples are present into one SQLite file."""
    emit(server.post("/snapshots", {"model": model}), as_json=as_json)


@snapshot.command("list")
@as_json
@click.pass_obj
def snapshot_list(server: Connection, *, as_json: bool) -> None:
    """List the snapshots."""
    emit(server.get("/snapshots"), as_json=as_json, columns=("digest", "model", "n", "sources", "created_ms"))


@click.group()
def run() -> None:
    """Training runs."""


@run.command("list")
@as_json
@click.pass_obj
def run_list(server: Connection, *, as_json: bool) -> None:
    """List the runs."""
    columns = ("id", "model", "state", "requested_by", "version", "progress", "created_ms")
    emit(server.get("/runs"), as_json=as_json, columns=columns)


@run.command("show")
@click.argument("identifier")
@as_json
@click.pass_obj
def run_show(server: Connection, identifier: str, *, as_json: bool) -> None:
    """One run: why it was started, what it read, what it made."""
    emit(server.get(f"/runs/{identifier}"), as_json=as_json)


@run.command("create")
@click.argument("model")
@as_json
@click.pass_obj
def run_create(server: Connection, model: str, *, as_json: bool) -> None:
    """Ask for a retraining now, whatever the drift policy says."""
    emit(server.post("/runs", {"model": model}), as_json=as_json)


@run.command("approve")
@click.argument("identifier")
@as_json
@click.pass_obj
def run_approve(server: Connection, identifier: str, *, as_json: bool) -> None:
    """Let a proposed run begin."""
    emit(server.post(f"/runs/{identifier}/approve", {}), as_json=as_json)


@click.group()
def policy() -> None:
    """What the server may do by itself, model by model."""


@policy.command("show")
@as_json
@click.pass_obj
def policy_show(server: Connection, *, as_json: bool) -> None:
    """Show the policies."""
    emit(server.get("/policies"), as_json=as_json, columns=("model", "autonomy", "spec", "updated_ms"))


@policy.command("set")
@click.argument("model")
@click.option("--autonomy", type=click.Choice(AUTONOMY), default="propose", show_default=True)
@click.option("--spec", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="JSON: drift, rollout, …")
@as_json
@click.pass_obj
def policy_set(server: Connection, model: str, autonomy: str, spec: Path | None, *, as_json: bool) -> None:
    """Set a model's autonomy level and policy."""
    body: dict[str, Any] = {"autonomy": autonomy, **(read_object(spec) if spec else {})}
    emit(server.call("PUT", f"/policies/{model}", body), as_json=as_json)


@click.command()
@click.argument(
    "kind", type=click.Choice(("prediction", "sample", "snapshot", "run", "release", "rollout", "recording"))
)
@click.argument("identifier")
@as_json
@click.pass_obj
def lineage(server: Connection, kind: str, identifier: str, *, as_json: bool) -> None:
    """Where something came from and what came of it, e.g. `lineage prediction dev-1/…/5/12`."""
    answer = server.get(f"/lineage/{kind}/{quote(identifier, safe='/:')}")
    if as_json:
        emit(answer, as_json=True)
        return
    click.echo(f"{answer['kind']} {answer['id']}")
    for arrow, branch in (("←", "parents"), ("→", "children")):
        for line in _tree(answer[branch], branch, 1):
            click.echo(f"{line[0] * '  '}{arrow} {line[1]}")


def _tree(nodes: list[dict[str, Any]], branch: str, depth: int) -> list[tuple[int, str]]:
    lines: list[tuple[int, str]] = []
    for node in nodes:
        lines.append((depth, f"{node['kind']} {node['id']}"))
        lines += _tree(node.get(branch, []), branch, depth + 1)
    return lines


COMMANDS: Final = (drift, label, snapshot, run, policy, lineage)

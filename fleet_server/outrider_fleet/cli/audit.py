"""Commands about the audit log: reading it, taking it away, verifying it anywhere."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import click

from outrider_fleet.cli.connection import Connection
from outrider_fleet.cli.options import as_json
from outrider_fleet.cli.output import emit
from outrider_fleet.cli.refusals import told

_FILE: Final = click.Path(path_type=Path, dir_okay=False)
_COLUMNS: Final = ("id", "at_ms", "actor", "token", "action", "object", "detail")
PAGE: Final = 500


@click.group()
def audit() -> None:
    """The audit log: who did what, in a chain that the signer has signed."""


@audit.command("show")
@click.option("--action", help="Only actions that begin so, e.g. rollout or token.create.")
@click.option("--actor", help="Only who begins so, e.g. operator or cli:eve.")
@click.option("--limit", type=click.IntRange(1, PAGE), default=50, show_default=True)
@click.option("--before", type=click.IntRange(min=1), help="Only entries below this number.")
@as_json
@click.pass_obj
def audit_show(
    server: Connection, *, action: str | None, actor: str | None, limit: int, before: int | None, as_json: bool
) -> None:
    """Show entries, newest first."""
    asked = {"action": action, "actor": actor, "limit": limit, "after": before}
    emit(server.get(f"/audit{_query(asked)}"), as_json=as_json, columns=_COLUMNS)


@audit.command("head")
@click.argument("file", type=_FILE, required=False)
@as_json
@click.pass_obj
def audit_head(server: Connection, *, file: Path | None, as_json: bool) -> None:
    """Print the newest signed head, or write it to FILE: kept elsewhere, it tells a log that was cut or rewritten."""
    text = _compact(server.get("/audit/head"))
    if file is not None:
        file.write_text(text, encoding="utf-8")
    click.echo(text if as_json or file is None else str(file))


@audit.command("export")
@click.argument("file", type=_FILE)
@as_json
@click.pass_obj
def audit_export(server: Connection, *, file: Path, as_json: bool) -> None:
    """Write every entry and the newest head to FILE, one JSON line each, oldest first."""
    from outrider_fleet.store import audit_file

    rows = list(_pages(server))[::-1]
    head = _compact(server.get("/audit/head"))
    lines = [audit_file.export_entry(row) for row in rows]
    file.write_bytes(b"".join(lines) + audit_file.export_head(head))
    emit({"entries": len(rows), "file": str(file)}, as_json=as_json)


def _pages(server: Connection) -> Iterator[dict[str, Any]]:
    before: int | None = None
    while page := server.get(f"/audit{_query({'limit': PAGE, 'after': before})}"):
        yield from page
        before = page[-1]["id"]


def _compact(envelope: Any) -> str:
    return json.dumps(envelope, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _query(asked: dict[str, Any]) -> str:
    from urllib.parse import urlencode

    return f"?{urlencode({name: value for name, value in asked.items() if value is not None})}"


@audit.command("verify")
@click.argument("file", type=_FILE, required=False)
@click.option(
    "--trust", type=click.Path(path_type=Path, file_okay=False), help="Folder of public metadata [default: the home's]."
)
@click.option("--root", type=_FILE, help="The root of trust that was handed out: the metadata must lead from it.")
@click.option("--head", "heads", type=_FILE, multiple=True, help="A signed head that was kept elsewhere; repeat.")
@click.option("--signatures", type=_FILE, help="The signer's own log [default: the home's, where it can be read].")
@as_json
@click.pass_obj
def audit_verify(
    server: Connection,
    *,
    file: Path | None,
    trust: Path | None,
    root: Path | None,
    heads: tuple[Path, ...],
    signatures: Path | None,
    as_json: bool,
) -> None:
    """Verify FILE (a copy of fleet.db, or an export; default: the home's fleet.db) with public keys alone, offline.

    Exit status 0: whole. 3: something was changed, removed, moved, inserted or cut; each finding is printed.
    """
    from outrider_fleet.cli import audit_verifying

    sources = audit_verifying.Sources(server.home, file, trust, root, heads, signatures)
    report = told(lambda: audit_verifying.verify(sources))
    emit(audit_verifying.shown(report), as_json=True) if as_json else click.echo(audit_verifying.words(report))
    if not report.whole:
        raise click.exceptions.Exit(3)


@audit.command("reopen")
@click.option("--reason", required=True, help="E.g. which backup was restored; stands in the log for ever.")
@as_json
@click.pass_obj
def audit_reopen(server: Connection, *, reason: str, as_json: bool) -> None:
    """Go on with a log that a restored backup has cut. What is lost is told by every later head."""
    emit(server.post("/audit/reopen", {"reason": reason}), as_json=as_json)


COMMANDS: Final = (audit,)

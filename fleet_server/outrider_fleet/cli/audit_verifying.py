"""What `audit verify` looks at, and what it says."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from outrider_fleet import config
from outrider_fleet.config import Home
from outrider_fleet.domain import audit_check
from outrider_fleet.domain.audit_check import Report
from outrider_fleet.errors import StoreError
from outrider_fleet.signing.errors import AuditKeyMissingError, TrustBrokenError
from outrider_fleet.signing.repository import TrustRepository
from outrider_fleet.store import audit_file
from outrider_protocol.audit import AuditKeys, Head, Link
from outrider_protocol.errors import MalformedError


@dataclass(frozen=True)
class Sources:
    """Where things are; None: where the home has them."""

    home: Path
    file: Path | None
    trust: Path | None
    root: Path | None
    heads: tuple[Path, ...]
    signatures: Path | None


def verify(sources: Sources) -> Report:
    """Verify a log; raises `StoreError`, `TrustBrokenError`, `SignatureError` or `AuditKeyMissingError`."""
    keys = _keys(sources)
    with audit_file.opened(sources.file or sources.home / "fleet.db") as log:
        heads = [keys.verify(envelope) for envelope in log.heads]
        heads += [_kept(keys, path) for path in sources.heads]
        report = audit_check.check(log.rows, heads, _noted(sources))
    if log.torn:
        report.findings.append(audit_check.Finding(report.end.seq + 1, "torn", "the file ends within a line"))
    return report


def _keys(sources: Sources) -> AuditKeys:
    trust = TrustRepository(sources.trust or _trust_of(sources.home))
    if sources.root is not None:
        _follow(trust, sources.root)
    trust.targets()
    keys = trust.audit_keys()
    if keys is None:
        raise AuditKeyMissingError(f"{trust.directory}: targets list no audit key")
    return keys


def _trust_of(directory: Path) -> Path:
    """Where a home has its trust: with a signer of its own user, in that one's home."""
    home = Home(directory)
    return (home.configured(config.load(home.config)) if os.access(home.config, os.R_OK) else home).trust


def _follow(trust: TrustRepository, root: Path) -> None:
    try:
        trust.follow_from(_read(root))
    except TrustBrokenError as error:
        raise TrustBrokenError(f"{root}: {error}") from error


def _kept(keys: AuditKeys, path: Path) -> Head:
    try:
        return keys.verify(_read(path))
    except MalformedError as error:
        raise StoreError(f"{path}: no signed head ({error})") from error


def _noted(sources: Sources) -> list[Link]:
    """The signer's own log: named, or the home's when its database is looked at and it may be read."""
    own = sources.home / "logs" / "signatures.jsonl"
    if sources.signatures is not None:
        return audit_file.heads_in_journal(sources.signatures)
    return audit_file.heads_in_journal(own) if sources.file is None and os.access(own, os.R_OK) else []


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}") from error


def shown(report: Report) -> dict[str, Any]:
    """The report as JSON."""
    return {"whole": report.whole, "unsigned": report.unsigned, **asdict(report)}


def words(report: Report) -> str:
    """The report in sentences."""
    signed = datetime.fromtimestamp(report.signed_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    reach = f"signed up to {report.signed_seq} at {signed}" if report.heads else "no signed head"
    lines = [f"{report.entries} entries, {reach}, {report.unsigned} not signed yet"]
    lines += [f"given up: entries {lost.kept_seq + 1} to {lost.seq}" for lost in report.abandoned]
    lines += [f"{finding.what}: entry {finding.seq}: {finding.text}" for finding in report.findings]
    return "\n".join([*lines, "whole" if report.whole else "NOT WHOLE"])

"""Whether an audit log is whole: every entry follows the one before, and every signed head lies on the chain. Pure.

1. An entry is taken by what it says, never by the hash that is stored beside it.
2. Each finding names the entry and what happened to it: changed, missing, out of its place, or rewritten up to a head.
3. Entries after the newest head are counted: nobody has signed them yet, and their end may be cut unseen.
4. What a restored backup lost was given up in the open: it is told, not held against the log.

>>> entry = Entry(1, 0, "cli:eve", None, "token.create", "viewer:x", None, None, START.hash)
>>> check([Stored(entry, entry.link.hash)], [], []).whole
True
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from outrider_protocol.audit import START, Abandoned, Entry, Head, Link

FINDINGS: Final = 100


@dataclass(frozen=True)
class Stored:
    """An entry and the hash that stands beside it; no entry where the row cannot be one."""

    entry: Entry | None
    hash: str
    seq: int = 0


@dataclass(frozen=True)
class Finding:
    """What is wrong, and with which entry."""

    seq: int
    what: str
    text: str


@dataclass
class Report:
    """What was looked at and what was found. `signed_seq` is how far signatures reach."""

    entries: int = 0
    end: Link = START
    heads: int = 0
    signed_seq: int = 0
    signed_ms: int = 0
    abandoned: tuple[Abandoned, ...] = ()
    findings: list[Finding] = field(default_factory=list)

    @property
    def whole(self) -> bool:
        """Whether nothing is wrong."""
        return not self.findings

    @property
    def unsigned(self) -> int:
        """Entries that no head covers yet."""
        return max(0, self.end.seq - self.signed_seq)


def check(rows: Iterable[Stored], heads: Sequence[Head], elsewhere: Sequence[Link]) -> Report:
    """Walk the log; `heads` are verified ones, `elsewhere` points of the chain that were noted in other places."""
    wanted = {link.seq for link in (*(head.link for head in heads), *elsewhere)}
    report, points = Report(), {0: START.hash}
    for row in rows:
        _take(report, row)
        if report.end.seq in wanted:
            points[report.end.seq] = row.hash if row.entry is None else row.entry.link.hash
    newest = max(heads, key=lambda head: (head.at_ms, head.seq), default=None)
    report.abandoned = newest.abandoned if newest else ()
    for head in heads:
        if any(lost.covers(head) for lost in report.abandoned):
            continue
        _hold(report, points, head.link, f"signed at {head.at_ms}")
        report.heads += 1
        if head.seq >= report.signed_seq:
            report.signed_seq, report.signed_ms = head.seq, head.at_ms
    for link in elsewhere:
        _hold(report, points, link, "noted elsewhere")
    return report


def _take(report: Report, row: Stored) -> None:
    entry, last = row.entry, report.end
    if entry is None:
        _find(report, row.seq, "changed", "this row is no entry")
        report.end = Link(row.seq, row.hash)
        return
    if entry.seq > last.seq + 1:
        _find(report, entry.seq, "missing", f"entries {last.seq + 1} to {entry.seq - 1} are missing")
    elif entry.seq != last.seq + 1:
        _find(report, entry.seq, "moved", f"stands after entry {last.seq}")
    elif entry.prev != last.hash:
        _find(report, entry.seq, "moved", f"follows another entry {last.seq} than the one that is here")
    if entry.link.hash != row.hash:
        _find(report, entry.seq, "changed", "its content is not what was hashed")
    report.end = Link(entry.seq, row.hash)
    report.entries += 1


def _hold(report: Report, points: dict[int, str], link: Link, said: str) -> None:
    if link.seq > report.end.seq:
        _find(report, link.seq, "cut", f"the log ends at {report.end.seq}, entry {link.seq} was {said}")
    elif points.get(link.seq) != link.hash:
        _find(report, link.seq, "rewritten", f"the log up to {link.seq} is not the one that was {said}")


def _find(report: Report, seq: int, what: str, text: str) -> None:
    if len(report.findings) < FINDINGS:
        report.findings.append(Finding(seq, what, text))

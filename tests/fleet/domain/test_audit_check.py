"""Whatever is done to an audit log, and however well it is covered up, is found. Rules: docs/spec/audit.md."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider_fleet.domain.audit_check import Report, Stored, check
from outrider_protocol import audit
from outrider_protocol.audit import START, Abandoned, Entry, Head, Link
from outrider_protocol.errors import ChainError, MalformedError


def made(n: int) -> list[Entry]:
    """A chain of `n` entries."""
    entries: list[Entry] = []
    for seq in range(1, n + 1):
        prev = entries[-1].link.hash if entries else START.hash
        detail = {"n": seq} if seq % 3 else None
        entries.append(Entry(seq, seq * 10, "operator:eve", "ab12", "policy.set", f"m{seq}", "0" * 64, detail, prev))
    return entries


def stored(entries: list[Entry]) -> list[Stored]:
    return [Stored(entry, entry.link.hash, entry.seq) for entry in entries]


def head(entries: list[Entry], seq: int) -> Head:
    return Head("test", seq, entries[seq - 1].link.hash if seq else START.hash, seq * 10 + 5)


def rechained(entries: list[Entry]) -> list[Entry]:
    """Numbers and hashes made anew from the first entry on, as somebody would who covers up."""
    fresh: list[Entry] = []
    for seq, entry in enumerate(entries, start=1):
        fresh.append(replace(entry, seq=seq, prev=fresh[-1].link.hash if fresh else START.hash))
    return fresh


@pytest.mark.parametrize("n", [0, 1, 7])
def test_a_whole_log(n: int) -> None:
    """AUD-4: every entry follows the one before; heads reach as far as they were signed."""
    entries = made(n)
    report = check(stored(entries), [head(entries, n)], [])
    assert (report.whole, report.entries, report.unsigned, report.signed_seq) == (True, n, 0, n)


@dataclass(frozen=True)
class Attack:
    """What is done to entry number `at`; `covers` says whether hashes are made anew afterwards."""

    kind: str
    at: int
    covers: bool
    drops_heads: bool


attacks = st.builds(
    Attack,
    st.sampled_from(["change", "remove", "swap", "insert", "cut"]),
    st.integers(0, 10_000),
    st.booleans(),
    st.booleans(),
)
FIELDS = {
    "at_ms": 7,
    "actor": "operator:adam",
    "token": None,
    "action": "x",
    "object": "y",
    "request_sha256": None,
    "detail": {"n": 0},
}


def attacked(entries: list[Entry], attack: Attack) -> list[Stored]:
    at, other = attack.at % len(entries), (attack.at + 1) % len(entries)
    rows = [(entry, entry.link.hash) for entry in entries]
    entry, hashed = rows[at]
    if attack.kind == "change":
        name = list(FIELDS)[attack.at % len(FIELDS)]
        rows[at] = (replace(entry, **{name: FIELDS[name]}), hashed)  # type: ignore[arg-type]
    elif attack.kind == "remove":
        del rows[at]
    elif attack.kind == "swap":
        rows[at], rows[other] = rows[other], rows[at]
    elif attack.kind == "insert":
        rows.insert(at, (replace(entry, actor="operator:ghost"), hashed))
    else:
        rows = rows[:at]
    if attack.covers:
        return stored(rechained([entry for entry, _ in rows]))
    return [Stored(entry, hashed, entry.seq) for entry, hashed in rows]


@given(st.integers(2, 12), attacks)
def test_every_attack_is_found(n: int, attack: Attack) -> None:
    """AUD-7: changed, removed, moved, inserted or cut, covered up or not: found, by the head beside it or elsewhere."""
    entries = made(n)
    newest = head(entries, n)
    heads = [] if attack.drops_heads else [head(entries, n // 2), newest]
    elsewhere = [newest.link] if attack.drops_heads else []
    report = check(attacked(entries, attack), heads, elsewhere)
    assert not report.whole


@given(st.integers(2, 12), attacks.filter(lambda attack: attack.kind != "cut" and not attack.covers))
def test_what_is_not_covered_up_is_found_without_any_head(n: int, attack: Attack) -> None:
    """AUD-7: the chain alone finds what was done without making it anew, save at its very end."""
    entries = made(n)
    if attack.kind == "remove" and attack.at % n == n - 1:
        attack = replace(attack, at=0)
    assert not check(attacked(entries, attack), [], []).whole


def whats(report: Report) -> list[tuple[str, int]]:
    return [(finding.what, finding.seq) for finding in report.findings]


def test_findings_name_the_entry() -> None:
    """AUD-7: each finding says which entry and what happened to it."""
    entries = made(6)
    rows = stored(entries)
    changed = [*rows[:2], Stored(replace(entries[2], actor="x"), rows[2].hash, 3), *rows[3:]]
    assert whats(check(changed, [], [])) == [("changed", 3)]
    forged = replace(entries[2], actor="x")
    assert whats(check([*rows[:2], Stored(forged, forged.link.hash, 3), *rows[3:]], [], [])) == [("moved", 4)]
    assert whats(check([*rows[:2], *rows[4:]], [], [])) == [("missing", 5)]
    assert whats(check([*rows[:1], rows[2], rows[1], *rows[3:]], [], [])) == [
        ("missing", 3),
        ("moved", 2),
        ("missing", 4),
    ]
    assert whats(check(rows[:4], [head(entries, 6)], [])) == [("cut", 6)]
    covered = stored(rechained([replace(entries[0], actor="x"), *entries[1:]]))
    assert whats(check(covered, [head(entries, 3), head(entries, 6)], [])) == [("rewritten", 3), ("rewritten", 6)]
    assert whats(check([Stored(None, "ab", 1)], [], [])) == [("changed", 1)]


def test_what_nobody_has_signed() -> None:
    """AUD-7: entries after the newest head are counted; cutting them is not found, and the report says so."""
    entries = made(9)
    assert check(stored(entries), [head(entries, 6)], []).unsigned == 3
    assert check(stored(entries[:7]), [head(entries, 6)], []).whole


def test_given_up_in_the_open() -> None:
    """AUD-9: after a restored backup the lost end is told, older heads for it are no finding, a second cut is."""
    before = made(9)
    kept = before[:5]
    after = [*kept, Entry(6, 70, "operator:eve", None, "audit.reopened", "test", None, None, kept[-1].link.hash)]
    lost = Abandoned(9, before[8].link.hash, 5, 100)
    newest = replace(head(after, 6), at_ms=110, abandoned=(lost,))
    report = check(stored(after), [head(before, 4), head(before, 9), newest], [])
    assert (report.whole, report.abandoned, report.signed_seq) == (True, (lost,), 6)
    assert not check(stored(kept), [newest], []).whole
    assert not check(stored(after), [head(before, 9)], []).whole


def test_entries_have_one_form() -> None:
    """AUD-4: an entry reads back as it was written, and no other bytes are taken for it."""
    entry = made(2)[1]
    assert Entry.decode(entry.encode()) == entry
    for data in (entry.encode() + b" ", entry.encode().replace(b'{"action"', b'{ "action"'), b"{}"):
        with pytest.raises(MalformedError):
            Entry.decode(data)
    assert audit.follow(made(1)[0].link, entry) == entry.link
    for last in (START, Link(1, "f" * 64)):
        with pytest.raises(ChainError):
            audit.follow(last, entry)

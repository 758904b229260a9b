"""Heads of the audit log: what the signer signs, and what it never signs. Rules: docs/spec/audit.md."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from outrider_fleet.signing import ceremony, rotation
from outrider_fleet.signing.repository import TrustRepository
from outrider_fleet.signing.server import Signer
from outrider_protocol import audit, dsse, limits, signing
from outrider_protocol.audit import AuditKeys, Entry, Head
from outrider_protocol.errors import ChainError, SignatureError
from tests.fleet.domain.test_audit_check import made, rechained
from tests.fleet.signing.fleet import Fleet


def seal(signer: Signer, entries: list[Entry]) -> dict[str, Any]:
    return signer.handle({"op": "audit_seal", "entries": [entry.encode().decode() for entry in entries]})


def keys(fleet: Fleet) -> AuditKeys:
    found = TrustRepository(fleet.home / "trust").audit_keys()
    assert found is not None
    return found


def verified(fleet: Fleet, answer: dict[str, Any]) -> Head:
    assert answer["ok"], answer
    return keys(fleet).verify(answer["envelope"].encode())


def test_a_head_is_signed_by_the_audit_key(fleet: Fleet, signer: Signer) -> None:
    """AUD-5, AUD-12: the head's signature verifies by fleet/audit.json, a target of targets, and by no other key."""
    entries = made(5)
    head = verified(fleet, seal(signer, entries[:3]))
    assert (head.fleet, head.link, head.abandoned) == ("test", entries[2].link, ())
    assert verified(fleet, seal(signer, entries[3:])).link == entries[4].link
    targets, _ = TrustRepository(fleet.home / "trust").targets()
    assert audit.AUDIT_TARGET in targets.targets
    for name in ("director", "timestamp"):
        forged = signing.sign_envelope(
            audit.HEAD_TYPE, head.encode(), [signing.load_private(fleet.home / "keys" / f"{name}.pem")]
        )
        with pytest.raises(SignatureError):
            keys(fleet).verify(forged)


def test_a_head_is_no_order_and_an_order_no_head(fleet: Fleet, signer: Signer) -> None:
    """AUD-12: the type stands under the signature: the audit key's envelopes are worth nothing as orders."""
    envelope = dsse.Envelope.decode(seal(signer, made(1))["envelope"].encode(), limits.AUDIT_HEAD_BYTES)
    as_order = dsse.Envelope("application/vnd.outrider.order.v1+json", envelope.payload, envelope.signatures)
    director = TrustRepository(fleet.home / "trust").director()
    with pytest.raises(SignatureError):
        dsse.verify(as_order, as_order.payload_type, director.public_keys())
    with pytest.raises(SignatureError):
        keys(fleet).verify(as_order.encode())


def test_another_fleets_head(fleet: Fleet, signer: Signer) -> None:
    """AUD-5: a head says whose log it is of."""
    key = signing.load_private(fleet.home / "keys" / "audit.pem")
    foreign = signing.sign_envelope(audit.HEAD_TYPE, Head("other", 0, audit.START.hash, 0).encode(), [key])
    with pytest.raises(ChainError):
        keys(fleet).verify(foreign)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 8), st.booleans(), st.booleans()), max_size=8))
def test_no_two_pasts(fleet: Fleet, steps: list[tuple[int, int, bool, bool]]) -> None:
    """AUD-5: whatever is offered in which order, with restarts between, all signed heads lie on one chain."""
    (fleet.home / "logs" / "signatures.jsonl").unlink(missing_ok=True)
    signer, true = Signer(fleet.home), made(8)
    other = rechained([Entry(1, 5, "x", None, "y", "z", None, None, audit.START.hash), *true[1:]])
    points: dict[int, str] = {}
    for start, stop, forged, restart in steps:
        if restart:
            signer.journal.close()
            signer = Signer(fleet.home)
        answer = seal(signer, (other if forged else true)[start:stop])
        if answer["ok"]:
            head = keys(fleet).verify(answer["envelope"].encode())
            assert head.seq >= max(points, default=0)
            points[head.seq] = head.hash
    signer.journal.close()
    chains = [{entry.seq: entry.link.hash for entry in chain} | {0: audit.START.hash} for chain in (true, other)]
    assert any(all(chain[seq] == hashed for seq, hashed in points.items()) for chain in chains)


def test_a_gap_or_another_past_is_not_signed(signer: Signer) -> None:
    """AUD-4, AUD-5: the entries that are shown begin right after the last head, and follow it by hash."""
    true = made(4)
    other = rechained([Entry(1, 5, "x", None, "y", "z", None, None, audit.START.hash), *true[1:]])
    assert seal(signer, true[:2])["ok"]
    gap, another, good = seal(signer, true[3:]), seal(signer, other[2:]), seal(signer, true[2:])
    assert (gap["error"], another["error"], good["ok"]) == ("AuditForkedError", "AuditForkedError", True)
    assert "entry 4 after 2" in gap["message"]
    assert "does not follow entry 2" in another["message"]


@pytest.mark.parametrize("entries", [["{}"], ["not json"], [7], "x"])
def test_what_is_no_entry(signer: Signer, entries: Any) -> None:
    """AUD-5: the signer follows entries, and nothing else."""
    answer = signer.handle({"op": "audit_seal", "entries": entries})
    assert (answer["ok"], answer["error"]) == (False, "MalformedError")


def test_a_cut_log_and_its_reopening(fleet: Fleet, signer: Signer) -> None:
    """AUD-9: a log that lost its end is not signed, until it is reopened: then every later head says what is lost."""
    entries = made(9)
    seal(signer, entries[:5])
    last = verified(fleet, seal(signer, entries[5:]))
    kept = entries[:5]
    again = Entry(6, 70, "operator:eve", None, "audit.reopened", "test", None, None, kept[-1].link.hash)
    assert seal(signer, [again])["error"] == "AuditForkedError"
    reopen = {"op": "audit_reopen", "seq": 5, "hash": kept[-1].link.hash, "reason": "backup of monday"}
    assert signer.handle({**reopen, "seq": 4})["error"] == "AuditForkedError"
    assert signer.handle(reopen)["ok"]
    for present in (signer, Signer(fleet.home)):
        (lost,) = verified(fleet, seal(present, [again] if present is signer else [])).abandoned
        assert (lost.seq, lost.hash, lost.kept_seq) == (9, last.hash, 5)
        if present is not signer:
            present.journal.close()


def test_rotated_audit_key(fleet: Fleet, signer: Signer) -> None:
    """AUD-12: what a former audit key signed still verifies; new heads are signed by the new one alone."""
    entries = made(2)
    former = seal(signer, entries[:1])
    rotation.rotate_audit(fleet.home, fleet.offline)
    later = seal(signer, entries[1:])
    assert [verified(fleet, answer).seq for answer in (former, later)] == [1, 2]
    signed_by = [dsse.Envelope.decode(a["envelope"].encode(), 99_999).signatures[0][0] for a in (former, later)]
    assert len(set(signed_by)) == 2


def test_a_fleet_without_an_audit_key(fleet: Fleet, signer: Signer) -> None:
    """AUD-12: a fleet from before is told what to do; everything else is signed as ever."""
    trusted = TrustRepository(fleet.home / "trust")

    def without(targets: Any, _: TrustRepository) -> tuple[Any, dict[str, bytes]]:
        del targets.targets[audit.AUDIT_TARGET]
        targets.version += 1
        return targets, {}

    ceremony.change_targets(fleet.home, fleet.offline, without)
    (trusted.directory / audit.AUDIT_TARGET).unlink()
    assert signer.handle({"op": "refresh"})["ok"]
    answer = seal(signer, made(1))
    assert answer["error"] == "AuditKeyMissingError"
    assert "trust rotate audit" in answer["hint"]
    rotation.rotate_audit(fleet.home, fleet.offline)
    assert seal(signer, made(1))["ok"]

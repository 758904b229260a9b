"""Orders: what the director's key signs, and what it never signs."""

import json
import os
import resource
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from outrider_fleet.signing.errors import TrustBrokenError
from outrider_fleet.signing.journal import Journal
from outrider_fleet.signing.repository import TrustRepository
from outrider_fleet.signing.server import Signer
from outrider_protocol import dsse, limits
from outrider_protocol.order import TYPE, Order
from tests.fleet.signing.fleet import Fleet, order


def sign(signer: Signer, *orders: Order) -> dict[str, Any]:
    return signer.handle({"op": "sign_orders", "orders": [each.encode().decode() for each in orders]})


def test_signature_is_the_directors(fleet: Fleet, signer: Signer) -> None:
    """SGN-19: an order comes back in an envelope that the director file's key verifies."""
    wanted = order()
    answer = sign(signer, wanted)
    envelope = dsse.Envelope.decode(answer["envelopes"][0].encode(), limits.ORDER_BYTES)
    keys = TrustRepository(fleet.home / "trust").director().public_keys()
    assert Order.decode(dsse.verify(envelope, TYPE, keys)) == wanted


def test_every_signature_is_logged_first(fleet: Fleet, signer: Signer) -> None:
    """SGN-20: each signature is a line in logs/signatures.jsonl: who, what, when."""
    sign(signer, order("dev-1", 1), order("dev-2", 7))
    entries = [json.loads(line) for line in (fleet.home / "logs" / "signatures.jsonl").read_text().splitlines()]
    logged = [(entry["device"], entry["epoch"], entry["seq"]) for entry in entries if entry["kind"] == "order"]
    assert logged == [("dev-1", 1, 1), ("dev-2", 1, 7)]
    assert all(abs(entry["at_ms"] - time.time() * 1000) < 60_000 for entry in entries)


def test_the_log_is_on_disk_before_the_signature_is_out(
    fleet: Fleet, signer: Signer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SGN-20: the line is synced, not only written: after a power cut the signer still knows what it gave out."""
    synced: list[int] = []
    monkeypatch.setattr("outrider_fleet.signing.journal.os.fsync", lambda fd: synced.append(os.fstat(fd).st_size))
    assert sign(signer, order())["ok"]
    assert synced == [(fleet.home / "logs" / "signatures.jsonl").stat().st_size]


def test_same_sequence_other_payload_is_refused(fleet: Fleet, signer: Signer) -> None:
    """SGN-21: (device, epoch, seq) is signed for one payload, also after a restart; the same again is."""
    first = order(seq=3)
    assert sign(signer, first)["ok"]
    for present in (signer, Signer(fleet.home)):
        refused = sign(present, order(seq=3, release="6.6"))
        assert (refused["ok"], refused["error"]) == (False, "OrderRefusedError")
        assert sign(present, order(seq=2))["error"] == "OrderRefusedError"
        assert sign(present, first)["ok"]
        assert sign(present, order("dev-2", seq=2, iat_ms=first.iat_ms, exp_ms=first.exp_ms))["ok"]
        if present is not signer:
            present.journal.close()


@pytest.mark.parametrize(
    "changes",
    [
        {"fleet": "other"},
        {"epoch": 2},
        {"iat_ms": 4_070_908_800_000, "exp_ms": 4_070_908_900_000},
    ],
)
def test_orders_out_of_place_are_refused(signer: Signer, changes: dict[str, Any]) -> None:
    """SGN-22: another fleet, another epoch, or a date ahead of the signer's clock is refused, and not remembered."""
    assert sign(signer, order(seq=1, **changes))["error"] == "OrderRefusedError"
    assert sign(signer, order(seq=1))["ok"]


@pytest.mark.parametrize("value", ["1", "/etc/passwd", [1], {"a": 1}, None, True])
def test_parameters_are_numbers(signer: Signer, value: object) -> None:
    """SGN-47: whatever is no number is refused as a parameter; ranges are not the signer's to know."""
    wanted = json.loads(order(seq=1).encode()) | {"parameters": {"probation_s": value}}
    answer = signer.handle({"op": "sign_orders", "orders": [json.dumps(wanted)]})
    assert (answer["ok"], answer["error"]) == (False, "MalformedError")
    assert sign(signer, order(seq=1, parameters={"anything": 1e300}))["ok"]


def test_all_or_none(signer: Signer, fleet: Fleet) -> None:
    """SGN-23: of several orders all are signed or none, and none is logged then."""
    before = (fleet.home / "logs" / "signatures.jsonl").read_bytes()
    assert not sign(signer, order("dev-1"), order("dev-2", fleet="other"))["ok"]
    assert not sign(signer, order("dev-1", 1), order("dev-1", 1, release="2.0"))["ok"]
    assert (fleet.home / "logs" / "signatures.jsonl").read_bytes() == before
    assert sign(signer, order("dev-1", 1, release="2.0"))["ok"]


def test_rotated_director_key_signs_nothing(fleet: Fleet, signer: Signer) -> None:
    """SGN-22: a key that the director file no longer lists signs nothing."""
    path = fleet.home / "trust" / "fleet" / "director.json"
    document = json.loads(path.read_text())
    document["keys"] = ["ab" * 32]
    path.write_text(json.dumps(document))
    assert sign(signer, order())["error"] == "OrderRefusedError"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["a", "b"]), st.integers(1, 4), st.sampled_from(["1.0", "2.0"]), st.booleans()),
        max_size=12,
    )
)
def test_no_sequence_of_requests_signs_two_payloads(fleet: Fleet, steps: list[tuple[str, int, str, bool]]) -> None:
    """SGN-21: whatever is asked in which order, with restarts between: one (device, epoch, seq), one payload."""
    (fleet.home / "logs" / "signatures.jsonl").unlink(missing_ok=True)
    signer, iat_ms = Signer(fleet.home), int(time.time() * 1000)
    signed: dict[tuple[str, int], str] = {}
    highest: dict[str, int] = {}
    for device, seq, release, restart in steps:
        if restart:
            signer.journal.close()
            signer = Signer(fleet.home)
        if sign(signer, order(device, seq, release=release, iat_ms=iat_ms, exp_ms=iat_ms + 1000))["ok"]:
            assert signed.setdefault((device, seq), release) == release
            assert seq >= highest.get(device, 0)
            highest[device] = seq
    signer.journal.close()


@pytest.mark.parametrize(
    "request_",
    [
        {},
        {"op": 7},
        {"op": "unknown"},
        {"op": "sign_orders"},
        {"op": "sign_orders", "orders": [1]},
        {"op": "sign_orders", "orders": ["{}"]},
        {"op": "publish", "model": "../x", "metadata": "{}"},
        {"op": "publish"},
    ],
)
def test_malformed_requests_are_refused(signer: Signer, request_: dict[str, Any]) -> None:
    """SGN-24: a malformed request is answered with an error class and a hint."""
    answer = signer.handle(request_)
    assert not answer["ok"]
    assert answer["hint"]


def test_torn_last_line_is_cut_off(tmp_path: Path) -> None:
    """SGN-25: a line that a power cut tore was never answered: it is cut off, and the next is whole."""
    journal = Journal(tmp_path / "log")
    journal.append([{"kind": "order", "n": 1}])
    (tmp_path / "log").write_bytes((tmp_path / "log").read_bytes() + b'{"kind": "ord')
    assert journal.entries() == [{"kind": "order", "n": 1}]
    journal.append([{"n": 2}])
    assert journal.entries() == [{"kind": "order", "n": 1}, {"n": 2}]
    journal.close()


def test_a_full_disk_leaves_no_half_line(fleet: Fleet, signer: Signer) -> None:
    """SGN-20 and SGN-25: a line for which there is no room is not written at all, and nothing is signed for it; what is
    signed later can be read after a restart.
    """
    log = fleet.home / "logs" / "signatures.jsonl"
    assert sign(signer, order(seq=1))["ok"]
    before, (soft, hard) = log.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 50, hard))
    try:
        refused = sign(signer, order(seq=2))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (refused["ok"], refused["error"]) == (False, "JournalError")
    assert "disk" in refused["hint"]
    assert log.read_bytes() == before
    assert sign(signer, order(seq=2, release="1.1"))["ok"]
    again = Signer(fleet.home)
    assert sign(again, order(seq=2))["error"] == "OrderRefusedError"
    again.journal.close()


def test_damaged_log_stops_the_signer(fleet: Fleet) -> None:
    """SGN-25: a signer that cannot read what it signed signs nothing."""
    path = fleet.home / "logs" / "signatures.jsonl"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"\0\0\0\n{}\n")
    with pytest.raises(TrustBrokenError, match="line 1"):
        Signer(fleet.home)

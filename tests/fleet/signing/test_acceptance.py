"""What the signer signs, held against the rules that devices check: the whole chain, and each link forged."""

import hashlib
import time
from dataclasses import replace
from pathlib import Path

import pytest
from tuf.api.exceptions import RepositoryError

from outrider_fleet.signing import ceremony
from outrider_fleet.signing.repository import TrustRepository
from outrider_fleet.signing.server import Signer
from outrider_fleet.signing.verify import target_counter, verify_release_metadata
from outrider_protocol import dsse, limits, signing, trust
from outrider_protocol.director import Director
from outrider_protocol.errors import (
    BelowFloorError,
    OrderConflictError,
    OrderSequenceError,
    OrderTimeError,
    ParameterRangeError,
    SignatureError,
    TooLargeError,
    UntrustedError,
    WrongAudienceError,
    WrongHardwareError,
    WrongTargetError,
)
from outrider_protocol.order import Order
from tests.fleet.signing.fleet import Fleet, order
from tests.fleet.signing.test_online import client
from tests.fleet.signing.test_orders import sign

DEVICE = trust.Identity("dev-1", "ef" * 32, "test", "x86-64")
MANIFEST = b"manifest 1.0"


def now_ms() -> int:
    return int(time.time() * 1000)


def clock() -> trust.Clock:
    return trust.Clock(now_ms(), 0, now_ms() + 7 * 86_400_000)


def ordered(**changes: object) -> Order:
    """An order of the release that `fleet.role(("1.0", 1))` lists."""
    digest = "sha256:" + hashlib.sha256(MANIFEST).hexdigest()
    return order(**{"manifest": digest, "manifest_bytes": len(MANIFEST), **changes})  # type: ignore[arg-type]


def signed(signer: Signer, wanted: Order) -> bytes:
    answer = sign(signer, wanted)
    assert answer["ok"], answer
    return str(answer["envelopes"][0]).encode()


def director(fleet: Fleet) -> Director:
    return TrustRepository(fleet.home / "trust").director()


def target(fleet: Fleet) -> trust.Target:
    listed = verify_release_metadata(fleet.home / "trust", "har", fleet.role(("1.0", 1)))["har/1.0/x86-64"]
    return trust.Target(listed.path, listed.hashes["sha256"], listed.length, target_counter(listed))


def test_the_whole_chain(fleet: Fleet, signer: Signer) -> None:
    """TRU-4, TRU-8: what ceremony, pipeline and signer made, a device accepts; the same order again resumes."""
    envelope = signed(signer, ordered())
    accepted, floors, resumed = trust.accept(envelope, director(fleet), trust.Floors(), DEVICE, clock())
    trust.check_artifact(accepted, target(fleet), DEVICE, 0)
    assert not resumed
    assert trust.accept(envelope, director(fleet), floors, DEVICE, clock()) == (accepted, floors, True)


def test_older_metadata_never_replaces_newer(fleet: Fleet, signer: Signer, tmp_path: Path) -> None:
    """TRU-2: a device that has seen newer metadata refuses a rolled-back repository and keeps what it trusts."""
    folder, former = fleet.home / "trust", {}
    for path in folder.glob("*.json"):
        former[path] = path.read_bytes()
    ceremony.set_floor(fleet.home, fleet.offline, "har", 5)
    signer.tick()
    client(fleet, tmp_path / "client").refresh()
    trusted = (tmp_path / "client" / "snapshot.json").read_bytes()
    for path, data in former.items():
        path.write_bytes(data)
    with pytest.raises(RepositoryError):
        client(fleet, tmp_path / "client").refresh()
    assert (tmp_path / "client" / "snapshot.json").read_bytes() == trusted


def test_size_comes_first(fleet: Fleet) -> None:
    """TRU-1: an oversized envelope is refused before it is parsed."""
    with pytest.raises(TooLargeError):
        trust.accept(b"{" * (limits.ORDER_BYTES + 1), director(fleet), trust.Floors(), DEVICE, clock())


def test_earlier_epoch(fleet: Fleet, signer: Signer) -> None:
    """TRU-3: a director file of an earlier epoch is refused."""
    with pytest.raises(OrderSequenceError):
        trust.accept(signed(signer, ordered()), director(fleet), trust.Floors(epoch=2), DEVICE, clock())


@pytest.mark.parametrize("key", ["snapshot", "timestamp", "audit", "pipeline", "targets", "root-1"])
def test_other_keys_order_nothing(fleet: Fleet, key: str) -> None:
    """TRU-4: an order signed by any key but the director's is refused: the pipeline's, the TUF keys', the log's."""
    online = fleet.home / "keys" / f"{key}.pem"
    path = (
        fleet.pipeline if key == "pipeline" else online if online.exists() else fleet.offline.directory / f"{key}.pem"
    )
    forged = signing.sign_order(ordered(), [signing.load_private(path)])
    with pytest.raises(SignatureError):
        trust.accept(forged, director(fleet), trust.Floors(), DEVICE, clock())


def test_other_document_type(fleet: Fleet, signer: Signer) -> None:
    """TRU-4: the director's signature counts for the order's type alone."""
    parsed = dsse.Envelope.decode(signed(signer, ordered()), limits.ORDER_BYTES)
    other = replace(parsed, payload_type="application/x").encode()
    with pytest.raises(SignatureError):
        trust.accept(other, director(fleet), trust.Floors(), DEVICE, clock())


@pytest.mark.parametrize(
    "identity",
    [
        replace(DEVICE, device="dev-2"),
        replace(DEVICE, key_sha256="00" * 32),
        replace(DEVICE, fleet="other"),
    ],
)
def test_other_audience(fleet: Fleet, signer: Signer, identity: trust.Identity) -> None:
    """TRU-5: replayed to another device, to a new key of the same one, or to another fleet: refused."""
    with pytest.raises(WrongAudienceError):
        trust.accept(signed(signer, ordered()), director(fleet), trust.Floors(), identity, clock())


def test_other_times(fleet: Fleet, signer: Signer) -> None:
    """TRU-6: expired, older than the last accepted, or younger than the trusted metadata allow: refused."""
    envelope, later = signed(signer, ordered()), now_ms() + 2 * 86_400_000
    for floors, when in (
        (trust.Floors(), trust.Clock(later, 0, later)),
        (trust.Floors(epoch=1, time_ms=later), clock()),
        (trust.Floors(), trust.Clock(None, 0, now_ms() - 60_000)),
    ):
        with pytest.raises(OrderTimeError):
            trust.accept(envelope, director(fleet), floors, DEVICE, when)


def test_other_sequences(fleet: Fleet, signer: Signer) -> None:
    """TRU-7: a replayed earlier order, and another payload under the same sequence, are refused."""
    first, second = signed(signer, ordered(seq=1)), signed(signer, ordered(seq=2))
    _, floors, _ = trust.accept(second, director(fleet), trust.Floors(), DEVICE, clock())
    with pytest.raises((OrderSequenceError, OrderTimeError)):
        trust.accept(first, director(fleet), floors, DEVICE, clock())
    key = signing.load_private(fleet.home / "keys" / "director.pem")  # stolen
    parsed = Order.decode(dsse.Envelope.decode(second, limits.ORDER_BYTES).payload)
    forged = signing.sign_order(replace(parsed, parameters={"probation_s": 1}), [key])
    with pytest.raises(OrderConflictError):
        trust.accept(forged, director(fleet), floors, DEVICE, clock())


@pytest.mark.parametrize(
    ("changes", "identity", "floor", "error"),
    [
        ({"manifest": "sha256:" + "00" * 32}, DEVICE, 0, WrongTargetError),  # TRU-8
        ({"manifest_bytes": 11}, DEVICE, 0, WrongTargetError),  # TRU-8
        ({"counter": 2}, DEVICE, 0, WrongTargetError),  # TRU-8
        ({"release": "2.0"}, DEVICE, 0, WrongTargetError),  # TRU-8
        ({}, replace(DEVICE, profile="raspberry-pi-5"), 0, WrongHardwareError),  # TRU-9
        ({}, DEVICE, 2, BelowFloorError),  # TRU-10
    ],
)
def test_other_artifacts(
    fleet: Fleet, changes: dict[str, object], identity: trust.Identity, floor: int, error: type[UntrustedError]
) -> None:
    """TRU-8, TRU-9, TRU-10: a stolen director key names no unsigned bytes, other hardware or unsafe release."""
    with pytest.raises(error):
        trust.check_artifact(ordered(**changes), target(fleet), identity, floor)


@pytest.mark.parametrize("parameters", [{"unknown": 1.0}, {"probation_s": -1.0}, {"probation_s": 1e9}])
def test_other_parameters(parameters: dict[str, float]) -> None:
    """TRU-11: a parameter that the artifact does not declare, or outside its range, is refused."""
    declared = {"probation_s": (0.0, 3600.0, 600.0)}
    assert trust.resolve_parameters({}, declared) == {"probation_s": 600.0}
    with pytest.raises(ParameterRangeError):
        trust.resolve_parameters(parameters, declared)

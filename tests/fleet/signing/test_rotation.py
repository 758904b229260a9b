"""Rotations: every key replaced in its turn, followed by the signer, python-tuf's own client and a device's store."""

import datetime as dt
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from tuf.api.exceptions import DownloadError, RepositoryError
from tuf.api.metadata import Metadata, Root, Timestamp

from outrider_agent.durable import Durable
from outrider_agent.update import trust_file
from outrider_agent.update.bundle import Bundle
from outrider_agent.update.folder_source import FolderSource
from outrider_agent.update.trust_store import TrustStore
from outrider_fleet.pki.ca import utc_now
from outrider_fleet.signing import adoption, ceremony, rotation, status
from outrider_fleet.signing.errors import (
    KeyUnknownError,
    RolledBackMetadataError,
    RootThresholdError,
    TrustBrokenError,
)
from outrider_fleet.signing.offline import Offline
from outrider_fleet.signing.online_keys import OnlineKeys
from outrider_fleet.signing.repository import TrustRepository
from outrider_fleet.signing.server import Signer
from outrider_protocol import dsse, limits, signing, trust
from outrider_protocol.errors import SignatureError
from outrider_protocol.signing import KeyFileError, Secrets
from tests.fleet.signing.fleet import Fleet, order
from tests.fleet.signing.test_acceptance import DEVICE, clock, signed
from tests.fleet.signing.test_online import client
from tests.fleet.signing.test_orders import sign
from tests.fleet.signing.test_verify import publish


def repository(fleet: Fleet) -> TrustRepository:
    return TrustRepository(fleet.home / "trust")


def keyids(fleet: Fleet, role: str) -> list[str]:
    return list(repository(fleet).root().roles[role].keyids)


def with_targets(fleet: Fleet, place: Path) -> Offline:
    return replace(fleet.offline, targets=str(place))


class Follower:
    """A device that was enrolled before, and its trusted set."""

    def __init__(self, fleet: Fleet, directory: Path) -> None:
        self.fleet = fleet
        trust_file.begin(directory, (fleet.home / "trust" / "1.root.json").read_bytes(), Durable())
        self.store = TrustStore(directory, Durable())

    def refresh(self) -> trust.Target | None:
        bundle = Bundle(FolderSource(self.fleet.home), "har")
        return self.store.refresh(bundle, "har/1.0/x86-64", utc_now()).target


ROTATIONS: dict[str, Callable[[Fleet], object]] = {
    "root": lambda fleet: rotation.rotate_root(
        fleet.home, fleet.offline, [keyids(fleet, "root")[0][:12]], [str(fleet.offline.directory / "root-4.pem")]
    ),
    "renewed": lambda fleet: rotation.rotate_root(fleet.home, fleet.offline),
    "targets": lambda fleet: rotation.rotate_targets(fleet.home, fleet.offline, f"{fleet.offline.directory}/next.pem"),
    "snapshot": lambda fleet: rotation.rotate_online(fleet.home, fleet.offline, "snapshot"),
    "timestamp": lambda fleet: rotation.rotate_online(fleet.home, fleet.offline, "timestamp"),
    "director": lambda fleet: rotation.rotate_director(fleet.home, fleet.offline),
    "audit": lambda fleet: rotation.rotate_audit(fleet.home, fleet.offline),
}


@pytest.mark.parametrize("role", ROTATIONS)
def test_everybody_follows(fleet: Fleet, signer: Signer, tmp_path: Path, role: str) -> None:
    """SGN-36: whichever key is rotated under a running signer, signer, TUF client and device follow without a word."""
    publish(signer, fleet.role(("1.0", 1)))
    device = Follower(fleet, tmp_path / "device")
    client(fleet, tmp_path / "client").refresh()
    assert device.refresh() is not None
    ROTATIONS[role](fleet)
    signer.tick()
    updater = client(fleet, tmp_path / "client")
    updater.refresh()
    assert updater.get_targetinfo("har/1.0/x86-64") is not None
    assert device.refresh() is not None
    epoch = repository(fleet).director().epoch
    assert sign(signer, order(epoch=epoch))["ok"]
    assert not list((fleet.home / "keys").glob("*.next.pem"))


@pytest.mark.parametrize("role", ["snapshot", "timestamp"])
def test_a_former_online_key_signs_nothing(fleet: Fleet, signer: Signer, tmp_path: Path, role: str) -> None:
    """SGN-36: what a former online key signs after the rotation is refused, whatever version it claims."""
    stolen = signing.load_private(fleet.home / "keys" / f"{role}.pem")
    rotation.rotate_online(fleet.home, fleet.offline, role)
    signer.tick()
    path = fleet.home / "trust" / f"{role}.json"
    forged = Metadata.from_bytes(path.read_bytes()).signed
    forged.version += 10
    path.write_bytes(signing.sign_role(forged, [stolen]))
    with pytest.raises((RepositoryError, DownloadError)):
        client(fleet, tmp_path / "client").refresh()
    signer.tick()
    client(fleet, tmp_path / "later").refresh()


def signer_refresh(signer: Signer) -> None:
    answer = signer.handle({"op": "refresh"})
    if not answer["ok"]:
        raise TrustBrokenError(answer["message"])


def test_a_director_s_epochs(fleet: Fleet, signer: Signer) -> None:
    """SGN-37: a new director begins a new epoch and a new sequence; the former's orders are worth nothing there."""
    former = signing.load_private(fleet.home / "keys" / "director.pem")
    accepted, floors, _ = trust.accept(
        signed(signer, order(seq=9)), repository(fleet).director(), trust.Floors(), DEVICE, clock()
    )
    assert accepted.seq == 9
    director = rotation.rotate_director(fleet.home, fleet.offline)
    assert (director.epoch, len(director.keys), director.reset_time_floor) == (2, 1, False)
    assert sign(signer, order(seq=10))["error"] == "OrderRefusedError"
    later, _, _ = trust.accept(signed(signer, order(seq=1, epoch=2)), director, floors, DEVICE, clock())
    assert later.seq == 1
    with pytest.raises(SignatureError):
        trust.accept(signing.sign_order(order(seq=11, epoch=2), [former]), director, floors, DEVICE, clock())
    envelope = dsse.Envelope.decode(signed(signer, order(seq=2, epoch=2)), limits.ORDER_BYTES)
    assert [keyid for keyid, _ in envelope.signatures] == list(director.public_keys())


def test_a_poisoned_time_floor(fleet: Fleet, signer: Signer) -> None:
    """SGN-37: what a stolen director dated into the future is forgotten with --reset-time-floor, and only then."""
    poisoned = trust.Floors(epoch=1, seq=2**53 - 1, time_ms=clock().trusted_until_ms, payload_sha256="ab" * 32)
    for reset in (False, True):
        director = rotation.rotate_director(fleet.home, fleet.offline, reset_time_floor=reset)
        envelope = signed(signer, order(seq=1, epoch=director.epoch))
        if reset:
            assert trust.accept(envelope, director, poisoned, DEVICE, clock())[1].seq == 1
        else:
            with pytest.raises(trust.OrderTimeError):
                trust.accept(envelope, director, poisoned, DEVICE, clock())


def test_root_keys_come_and_go(fleet: Fleet, tmp_path: Path) -> None:
    """SGN-38: a root key is revoked with or without a successor; the revoked one signs no root any more."""
    offline = fleet.offline
    first = signing.tuf_key(signing.load_private(offline.directory / "root-1.pem")).keyid
    assert len(rotation.rotate_root(fleet.home, offline, [first]).roles["root"].keyids) == 2
    with pytest.raises(RootThresholdError):
        rotation.rotate_root(fleet.home, offline, [keyids(fleet, "root")[0]])
    with pytest.raises(KeyUnknownError):
        rotation.rotate_root(fleet.home, offline, [first])
    one_of_two = replace(offline, root=tuple(str(offline.directory / f"root-{n}.pem") for n in (1, 2)))
    with pytest.raises(RootThresholdError):
        rotation.rotate_root(fleet.home, one_of_two, (), [str(tmp_path / "made.pem")])
    assert not (tmp_path / "made.pem").exists()
    root = rotation.rotate_root(fleet.home, offline, (), [str(offline.directory / "root-4.pem")])
    assert (root.version, len(root.roles["root"].keyids), root.roles["root"].threshold) == (3, 3, 2)


def test_all_root_keys_at_once(fleet: Fleet, signer: Signer, tmp_path: Path) -> None:
    """SGN-38: three new keys take over from three former ones in one root, signed by enough of both."""
    new = [str(tmp_path / f"new-{n}.pem") for n in (1, 2, 3)]
    former = keyids(fleet, "root")
    rotation.rotate_root(fleet.home, fleet.offline, former, new)
    assert not set(former) & set(keyids(fleet, "root"))
    with pytest.raises(RootThresholdError):
        rotation.rotate_root(fleet.home, fleet.offline)
    rotation.rotate_root(fleet.home, Offline(tmp_path, root=tuple(new)))
    signer.tick()
    client(fleet, tmp_path / "client").refresh()


def test_fifty_rotations(fleet: Fleet, signer: Signer, tmp_path: Path) -> None:
    """SGN-38: a device that slept through 50 roots follows to the newest."""
    device = Follower(fleet, tmp_path / "device")
    publish(signer, fleet.role(("1.0", 1)))
    device.refresh()
    for _ in range(50):
        rotation.rotate_root(fleet.home, fleet.offline)
    signer.tick()
    device.refresh()
    assert device.store.root_version() == 51


def test_targets_key(fleet: Fleet, tmp_path: Path) -> None:
    """SGN-39: the former targets key signs no ceremony any more, the new one does; root and targets change together."""
    new = tmp_path / "targets-2.pem"
    rotation.rotate_targets(fleet.home, fleet.offline, str(new))
    with pytest.raises(KeyUnknownError):
        ceremony.set_floor(fleet.home, fleet.offline, "har", 1)
    ceremony.set_floor(fleet.home, with_targets(fleet, new), "har", 1)
    repository(fleet).verified_targets(utc_now())


def test_a_key_that_was_prepared_elsewhere(fleet: Fleet, signer: Signer, tmp_path: Path) -> None:
    """SGN-40: public halves go to where the offline keys are, signed metadata comes home, nothing else travels."""
    public = {}
    for name in ("timestamp", "director"):
        public[name] = tmp_path / f"{name}.pub"
        public[name].write_bytes(signing.public_pem(OnlineKeys(fleet.home / "keys").prepare(name)))
    away = tmp_path / "away"
    shutil.copytree(fleet.home / "trust", away / "trust")
    found = {name: signing.public_from(path, Secrets()) for name, path in public.items()}
    rotation.rotate_online(away, fleet.offline, "timestamp", found["timestamp"])
    rotation.rotate_director(away, fleet.offline, found["director"])
    assert not (away / "keys").exists()
    signer_refresh(signer)
    assert adoption.adopt(fleet.home, away / "trust") == {"root": 2, "targets": 3}
    signer_refresh(signer)
    assert sign(signer, order(epoch=2))["ok"]
    client(fleet, tmp_path / "client").refresh()


def copied(fleet: Fleet, to: Path) -> Path:
    """The trust of a fleet in another home, where ceremonies may be held."""
    shutil.copytree(fleet.home / "trust", to / "trust")
    return to


def refused(fleet: Fleet, folder: Path, error: type[Exception]) -> None:
    """Adopting is refused, and changes nothing."""
    now = {path: path.read_bytes() for path in (fleet.home / "trust").rglob("*.json")}
    with pytest.raises(error):
        adoption.adopt(fleet.home, folder / "trust")
    assert now == {path: path.read_bytes() for path in (fleet.home / "trust").rglob("*.json")}


def test_each_thing_that_goes_back_is_refused(fleet: Fleet, tmp_path: Path) -> None:
    """SGN-41: a floor that would fall, an epoch that would, a version that would, each by itself."""
    away = copied(fleet, tmp_path / "floors")
    ceremony.set_floor(fleet.home, fleet.offline, "har", 5)
    for _ in range(3):
        ceremony.renew_targets(away, fleet.offline)
    refused(fleet, away, RolledBackMetadataError)
    away = copied(fleet, tmp_path / "epochs")
    rotation.rotate_director(fleet.home, fleet.offline)
    for _ in range(3):
        ceremony.renew_targets(away, fleet.offline)
    refused(fleet, away, RolledBackMetadataError)
    away = copied(fleet, tmp_path / "versions")
    ceremony.renew_targets(fleet.home, fleet.offline)
    refused(fleet, away, RolledBackMetadataError)


def test_a_root_beside_the_chain(fleet: Fleet, tmp_path: Path) -> None:
    """SGN-41: a root.json that is none of the chain's, with everything below it signed by its keys, is not adopted."""
    thief, away = Offline(tmp_path / "keys"), tmp_path / "away"
    ceremony.init_trust(away, thief, fleet="test")
    for number in range(1, 4):
        rotation.rotate_director(away, thief)
        ceremony.set_floor(away, thief, "har", number)
    (away / "trust" / "1.root.json").write_bytes((fleet.home / "trust" / "1.root.json").read_bytes())
    refused(fleet, away, TrustBrokenError)


def test_another_fleets_trust_is_not_adopted(fleet: Fleet, tmp_path: Path) -> None:
    """SGN-41: trust that is whole and newer in everything, but begins with another root, is another fleet's."""
    thief, away = Offline(tmp_path / "keys"), tmp_path / "away"
    ceremony.init_trust(away, thief, fleet="test")
    for number in range(1, 4):
        rotation.rotate_director(away, thief)
        ceremony.set_floor(away, thief, "har", number)
    refused(fleet, away, TrustBrokenError)


def test_a_root_that_its_own_keys_could_not_sign(fleet: Fleet, tmp_path: Path) -> None:
    """SGN-38: a root that too few of its own keys sign is refused, though enough of the former one's do."""
    two = replace(fleet.offline, root=tuple(str(fleet.offline.directory / f"root-{n}.pem") for n in (1, 2)))
    out = [key.public_key.keyid for key in two.root_signers()]
    with pytest.raises(RootThresholdError):
        rotation.rotate_root(fleet.home, two, out, [str(tmp_path / "new.pem")])
    assert repository(fleet).root().version == 1


@pytest.mark.parametrize("name", ["snapshot", "timestamp", "director", "audit"])
def test_a_key_in_charge_is_never_lost(fleet: Fleet, name: str) -> None:
    """SGN-36: two rotations without a signer in between, the second broken off: the key in charge is still there."""
    ROTATIONS[name](fleet)
    rotation.prepare(fleet.home, name)
    keys, trusted = OnlineKeys(fleet.home / "keys"), repository(fleet)
    audit = trusted.audit_keys()
    assert audit is not None
    for role in ("snapshot", "timestamp"):
        assert keys.for_role(role, trusted.root())
    assert keys.for_orders(trusted.director())
    assert keys.for_heads(audit)


def test_what_is_not_adopted(fleet: Fleet, tmp_path: Path) -> None:
    """SGN-41: older trust, another fleet's, or a root that the former one's keys did not sign is refused; all stays."""
    before = tmp_path / "before"
    shutil.copytree(fleet.home / "trust", before)
    ceremony.set_floor(fleet.home, fleet.offline, "har", 2)
    rotation.rotate_director(fleet.home, fleet.offline)
    other, forged = tmp_path / "other", tmp_path / "forged"
    ceremony.init_trust(other, Offline(tmp_path / "keys"), fleet="other")
    shutil.copytree(fleet.home / "trust", forged)
    thief = Offline(tmp_path / "keys")
    root = TrustRepository(forged).root()
    root.version += 1
    for key in thief.root_signers():
        root.add_key(key.public_key, "root")
    TrustRepository(forged).write_root(root.version, signing.sign_role(root, thief.root_signers()))
    swapped = tmp_path / "swapped"
    shutil.copytree(fleet.home / "trust", swapped)
    (swapped / "root.json").write_bytes((other / "trust" / "root.json").read_bytes())
    (swapped / "targets.json").write_bytes((other / "trust" / "targets.json").read_bytes())
    for name in ("director", "floors", "audit"):
        (swapped / "fleet" / f"{name}.json").write_bytes((other / "trust" / "fleet" / f"{name}.json").read_bytes())
    now = {path: path.read_bytes() for path in (fleet.home / "trust").rglob("*.json")}
    for folder in (before, other / "trust", forged, swapped):
        with pytest.raises((RolledBackMetadataError, TrustBrokenError)):
            adoption.adopt(fleet.home, folder)
    assert now == {path: path.read_bytes() for path in (fleet.home / "trust").rglob("*.json")}
    assert adoption.adopt(fleet.home, fleet.home / "trust")["root"] == 1


def test_orders_want_ed25519(fleet: Fleet, tmp_path: Path) -> None:
    """SGN-37: the director signs with Ed25519: a P-256 key is refused in its place."""
    from cryptography.hazmat.primitives.asymmetric import ec

    (tmp_path / "p256.pub").write_bytes(signing.public_pem(ec.generate_private_key(ec.SECP256R1())))
    with pytest.raises(KeyFileError):
        rotation.rotate_director(fleet.home, fleet.offline, signing.public_from(tmp_path / "p256.pub", Secrets()))
    assert repository(fleet).director().epoch == 1


def test_status(fleet: Fleet, signer: Signer) -> None:
    """SGN-42: status says who may sign, who did, until when, what is due, and which command does it."""
    publish(signer, fleet.role(("1.0", 1)))
    said = status.report(fleet.home, utc_now())
    found = {row["role"]: row for row in said["roles"]}
    assert list(found) == ["root", "targets", "snapshot", "timestamp", "har"]
    assert all(row["holds"] for row in found.values())
    assert (found["root"]["threshold"], len(found["root"]["keyids"]), len(found["root"]["signed_by"])) == (2, 3, 2)
    assert (found["har"]["version"], found["har"]["threshold"]) == (1, 1)
    assert said["due"] == []
    ceremony.revoke(fleet.home, fleet.offline, "har")
    rotation.rotate_root(fleet.home, fleet.offline, [keyids(fleet, "root")[0]])
    assert [item["role"] for item in status.report(fleet.home, utc_now())["due"]] == ["root"]
    for days, due in ((5, {"snapshot", "timestamp"}), (310, {"targets"}), (700, {"root"})):
        then = status.report(fleet.home, utc_now() + dt.timedelta(days=days))["due"]
        assert due <= {item["role"] for item in then}
        assert all(item["command"] for item in then)


def test_status_sees_through(fleet: Fleet, signer: Signer, tmp_path: Path) -> None:
    """SGN-42: a signature that does not verify, or whose key lost its delegation, is not counted."""
    publish(signer, fleet.role(("1.0", 1)))
    ceremony.delegate(fleet.home, fleet.offline, "har", ceremony.make_pipeline_key(tmp_path / "new.pem"))
    path = fleet.home / "trust" / "timestamp.json"
    path.write_bytes(path.read_bytes().replace(b'"version":', b'"version":9', 1))
    rows = {row["role"]: row for row in status.report(fleet.home, utc_now())["roles"]}
    assert [rows[name]["signed_by"] for name in ("timestamp", "har")] == [[], []]
    due = {item["role"]: item["why"] for item in status.report(fleet.home, utc_now())["due"]}
    assert set(due) == {"timestamp", "har"}


def test_root_of_the_newest_vouches(fleet: Fleet, signer: Signer) -> None:
    """SGN-36: a rotation alone makes the signer sign anew, though neither content nor age asks for it."""
    before = repository(fleet).read("timestamp.json")
    rotation.rotate_online(fleet.home, fleet.offline, "timestamp")
    signer.tick()
    after = Metadata[Timestamp].from_bytes(repository(fleet).read("timestamp.json"))
    assert after.signed.version == Metadata[Timestamp].from_bytes(before).signed.version + 1
    assert list(after.signatures) == keyids(fleet, "timestamp")
    assert Metadata[Root].from_bytes(repository(fleet).read("root.json")).signed.version == 2

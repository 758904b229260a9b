"""Stolen keys in the hands of whoever also holds the network: what a TUF client, as devices run one, believes then."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tuf.api.exceptions import DownloadError, RepositoryError
from tuf.api.metadata import Metadata, MetaFile, Root, Snapshot, Targets, Timestamp

from outrider_fleet.pki.ca import utc_now
from outrider_fleet.signing import roles
from outrider_fleet.signing.server import Signer
from outrider_protocol import signing, trust
from outrider_protocol.director import DIRECTOR_TARGET, Director
from outrider_protocol.errors import SignatureError
from tests.fleet.signing.fleet import Fleet, order
from tests.fleet.signing.test_acceptance import DEVICE, clock, director
from tests.fleet.signing.test_online import client
from tests.fleet.signing.test_verify import publish

Role = TypeVar("Role", Root, Targets, Snapshot, Timestamp)
REFUSED = (RepositoryError, DownloadError)


@dataclass
class Thief:
    """Writes into what devices are offered; signs with the keys that were stolen and with one of their own."""

    fleet: Fleet
    own: Ed25519PrivateKey

    @property
    def offered(self) -> Path:
        return self.fleet.home / "trust"

    def key(self, name: str) -> Ed25519PrivateKey:
        """A stolen key."""
        online = self.fleet.home / "keys" / f"{name}.pem"
        if name == "pipeline":
            return signing.load_private(self.fleet.pipeline)
        return signing.load_private(online if online.exists() else self.fleet.offline.directory / f"{name}.pem")

    def read(self, kind: type[Role], name: str) -> Role:
        metadata: Metadata[Role] = Metadata.from_bytes((self.offered / f"{name}.json").read_bytes())
        metadata.signed.version += 1
        return metadata.signed

    def write(self, name: str, role: Role, *keys: Ed25519PrivateKey) -> bytes:
        data = signing.sign_role(role, keys)
        (self.offered / f"{name}.json").write_bytes(data)
        return data

    def release(self, key: Ed25519PrivateKey) -> bytes:
        """A role that lists the thief's own release, at the next version."""
        current = (self.offered / "har.json").read_bytes()
        target = signing.artifact_target("har/6.6/x86-64", b"the thief's model", 66)
        data = signing.add_targets(current, [target], utc_now().replace(microsecond=0) + dt.timedelta(days=9), [key])
        (self.offered / "har.json").write_bytes(data)
        return data

    def pin(self, **files: bytes) -> None:
        """Snapshot and timestamp that pin what is offered now, by their stolen keys."""
        snapshot = self.read(Snapshot, "snapshot")
        for name, data in files.items():
            version = Metadata.from_bytes(data).signed.version
            snapshot.meta[f"{name}.json"] = MetaFile.from_data(version, data, ["sha256"])
        pinned = self.write("snapshot", snapshot, self.key("snapshot"))
        timestamp = self.read(Timestamp, "timestamp")
        timestamp.snapshot_meta = MetaFile.from_data(snapshot.version, pinned, ["sha256"])
        timestamp.expires = (utc_now() + dt.timedelta(days=300)).replace(microsecond=0)
        self.write("timestamp", timestamp, self.key("timestamp"))


@pytest.fixture
def thief(fleet: Fleet, signer: Signer, tmp_path: Path) -> Thief:
    """One who comes after release 1.0 was published and a device has seen it."""
    publish(signer, fleet.role(("1.0", 1)))
    client(fleet, tmp_path / "device").refresh()
    return Thief(fleet, signing.generate())


def believes(thief: Thief, tmp_path: Path) -> bool:
    """Whether the device finds the thief's release in metadata that verifies."""
    try:
        return client(thief.fleet, tmp_path / "device").get_targetinfo("har/6.6/x86-64") is not None
    except REFUSED:
        return False


def test_a_pipelines_key_alone(thief: Thief, tmp_path: Path) -> None:
    """SGN-48: what a pipeline's key signs is believed only once snapshot and timestamp pin it."""
    thief.release(thief.key("pipeline"))
    assert not believes(thief, tmp_path)


def test_the_targets_key_alone(thief: Thief, tmp_path: Path) -> None:
    """SGN-48: targets that delegate to the thief are believed only once snapshot and timestamp pin them."""
    targets = thief.read(Targets, "targets")
    changed = roles.with_delegation(targets, "har", [signing.tuf_key(thief.own)], utc_now())
    thief.write("targets", changed, thief.key("targets"))
    thief.release(thief.own)
    assert not believes(thief, tmp_path)


def test_snapshot_and_timestamp_keys(thief: Thief, tmp_path: Path) -> None:
    """SGN-48: the online TUF keys list nothing that no pipeline signed; all they can do is to hold updates back."""
    thief.pin(har=(thief.offered / "har.json").read_bytes())
    updater = client(thief.fleet, tmp_path / "device")
    assert updater.get_targetinfo("har/1.0/x86-64") is not None
    thief.pin(har=thief.release(thief.own))
    assert not believes(thief, tmp_path)


def test_snapshot_and_timestamp_keys_roll_nothing_back(thief: Thief, signer: Signer, tmp_path: Path) -> None:
    """SGN-48: a role that a device knows neither vanishes nor grows older, whoever signs snapshot."""
    former = (thief.offered / "har.json").read_bytes()
    publish(signer, thief.fleet.role(("1.1", 2), current=former))
    client(thief.fleet, tmp_path / "device").refresh()
    (thief.offered / "har.json").write_bytes(former)
    thief.pin(har=former)
    with pytest.raises(REFUSED):
        client(thief.fleet, tmp_path / "device").refresh()


def test_online_and_pipeline_keys_still_order_nothing(thief: Thief, tmp_path: Path) -> None:
    """SGN-48: with a pipeline's and the online TUF keys the release is listed, and no device is ordered to run it."""
    thief.pin(har=thief.release(thief.key("pipeline")))
    assert believes(thief, tmp_path)
    forged = signing.sign_order(order(release="6.6", counter=66), [thief.key("pipeline")])
    with pytest.raises(SignatureError):
        trust.accept(forged, director(thief.fleet), trust.Floors(), DEVICE, clock())


def test_the_director_cannot_name_another_director(thief: Thief, tmp_path: Path) -> None:
    """SGN-48: who may order stands in targets: director, snapshot and timestamp keys together do not change it."""
    path = thief.offered / DIRECTOR_TARGET
    known = Director.decode(path.read_bytes())
    path.write_bytes(Director(known.fleet, 99, (signing.public_bytes(thief.own).hex(),), True).encode())
    thief.pin()
    updater = client(thief.fleet, tmp_path / "device")
    listed = updater.get_targetinfo(DIRECTOR_TARGET)
    assert listed is not None
    with pytest.raises(REFUSED):
        updater.download_target(listed)


def test_one_root_key(thief: Thief, tmp_path: Path) -> None:
    """SGN-2: one root key makes no root, for a device that follows nor for one that begins."""
    root = thief.read(Root, "root")
    root.revoke_key(root.roles[Targets.type].keyids[0], Targets.type)
    root.add_key(signing.tuf_key(thief.own), Targets.type)
    data = signing.sign_role(root, [thief.key("root-1"), thief.own])
    (thief.offered / f"{root.version}.root.json").write_bytes(data)
    for directory in ("device", "another"):
        with pytest.raises(RepositoryError):
            client(thief.fleet, tmp_path / directory).refresh()


def test_two_root_keys_are_the_fleet(thief: Thief, tmp_path: Path) -> None:
    """SGN-2: two root keys are enough for anything that metadata can say: that is what two of three means."""
    root = thief.read(Root, "root")
    root.revoke_key(root.roles[Timestamp.type].keyids[0], Timestamp.type)
    root.add_key(signing.tuf_key(thief.own), Timestamp.type)
    data = signing.sign_role(root, [thief.key("root-1"), thief.key("root-2")])
    (thief.offered / f"{root.version}.root.json").write_bytes(data)
    timestamp = thief.read(Timestamp, "timestamp")
    thief.write("timestamp", timestamp, thief.own)
    client(thief.fleet, tmp_path / "device").refresh()

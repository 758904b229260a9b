"""Snapshot and timestamp: in step with what they stand on, and never old."""

import datetime as dt
import hashlib
import os
from pathlib import Path
from typing import Any

import pytest
from tuf.api.metadata import Metadata, Snapshot, Timestamp
from tuf.ngclient import FetcherInterface, Updater, UpdaterConfig

from outrider_fleet.errors import MetadataRefusedError
from outrider_fleet.pki.ca import utc_now
from outrider_fleet.signing import ceremony, roles
from outrider_fleet.signing.errors import TrustBrokenError
from outrider_fleet.signing.online import OnlineKeys, OnlineRoles
from outrider_fleet.signing.repository import TrustRepository
from outrider_fleet.signing.server import Signer
from outrider_protocol.messages import TrustOnline
from tests.fleet.signing.fleet import Fleet


class FolderFetcher(FetcherInterface):
    """Serves the trust repository's files to python-tuf's own client."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def _fetch(self, url: str) -> Any:
        path = self.directory / url.removeprefix("file:///metadata/").removeprefix("file:///targets/")
        if not path.exists():
            from tuf.api.exceptions import DownloadHTTPError

            raise DownloadHTTPError("absent", 404)
        return iter([path.read_bytes()])


def client(fleet: Fleet, directory: Path) -> Updater:
    directory.mkdir(exist_ok=True)
    (directory / "targets").mkdir(exist_ok=True)
    trust = fleet.home / "trust"
    return Updater(
        str(directory),
        "file:///metadata/",
        str(directory / "targets"),
        "file:///targets/",
        FolderFetcher(trust),
        UpdaterConfig(prefix_targets_with_hash=False),
        bootstrap=(trust / "1.root.json").read_bytes(),
    )


def online(fleet: Fleet) -> OnlineRoles:
    return OnlineRoles(TrustRepository(fleet.home / "trust"), OnlineKeys.load(fleet.home / "keys"))


def test_tufs_own_client_accepts_the_repository(fleet: Fleet, signer: Signer, tmp_path: Path) -> None:
    """SGN-14: python-tuf's client follows the repository through ceremony, release and floor."""
    role = fleet.role(("1.0", 1))
    assert signer.handle({"op": "publish", "model": "har", "metadata": role.decode()})["ok"]
    updater = client(fleet, tmp_path / "client")
    updater.refresh()
    target = updater.get_targetinfo("har/1.0/x86-64")
    assert target is not None
    assert target.hashes["sha256"] == hashlib.sha256(b"manifest 1.0").hexdigest()
    assert client(fleet, tmp_path / "client").get_targetinfo("har/9.9/x86-64") is None
    ceremony.set_floor(fleet.home, fleet.offline, "har", 2)
    signer.tick()
    updater = client(fleet, tmp_path / "client")
    floors = updater.get_targetinfo("fleet/floors.json")
    assert floors is not None
    path = updater.download_target(floors)
    assert Path(path).read_bytes() == b'{"min_counter":{"har":2},"v":1}'


def test_nothing_changed_nothing_signed(fleet: Fleet) -> None:
    """SGN-15: without a change, and while they are young, the same bytes are given out."""
    one = online(fleet).refresh(utc_now())
    assert online(fleet).refresh(utc_now() + dt.timedelta(days=3)) == one


def test_signed_anew_in_the_second_half_of_life(fleet: Fleet) -> None:
    """SGN-16: snapshot and timestamp are signed anew before they expire, with the next version."""
    first = online(fleet).refresh(utc_now())
    later = utc_now() + dt.timedelta(days=4)
    second = online(fleet).refresh(later)
    for kind, old, new in (
        (Snapshot, first.snapshot, second.snapshot),
        (Timestamp, first.timestamp, second.timestamp),
    ):
        before, after = (Metadata[kind].from_bytes(text.encode()).signed for text in (old, new))
        assert after.version == before.version + 1
        assert after.expires - later > roles.ONLINE_LIFE - dt.timedelta(seconds=2)


def test_ceremony_and_release_are_followed(fleet: Fleet) -> None:
    """SGN-15: what a ceremony or a release changed is in the next snapshot, version, length and hash."""
    role = fleet.role(("1.0", 1))
    text = online(fleet).publish("har", role, utc_now()).snapshot
    snapshot = Metadata[Snapshot].from_bytes(text.encode()).signed
    assert set(snapshot.meta) == {"targets.json", "har.json"}
    snapshot.meta["har.json"].verify_length_and_hashes(role)
    assert snapshot.meta["targets.json"].version == 2


def test_what_cannot_be_written_now_is_signed_later(fleet: Fleet) -> None:
    """SGN-16 and SGN-24: a full disk ends neither the signer nor its tick; whoever asks is told, and later it works."""
    days = [0]
    signer = Signer(fleet.home, lambda: dt.datetime.now(dt.UTC) + dt.timedelta(days=days[0]))
    signer.tick()
    before = (fleet.home / "trust" / "timestamp.json").read_bytes()
    days[0] = 5
    in_the_way = fleet.home / "trust" / f".snapshot.json.{os.getpid()}.new"
    in_the_way.mkdir()
    signer.tick()
    refused = signer.handle({"op": "refresh"})
    assert (refused["ok"], refused["error"]) == (False, "SignerError")
    assert (fleet.home / "trust" / "timestamp.json").read_bytes() == before
    in_the_way.rmdir()
    signer.tick()
    assert (fleet.home / "trust" / "timestamp.json").read_bytes() != before
    signer.journal.close()


def test_stored_message_is_what_was_signed_last(fleet: Fleet) -> None:
    """SGN-17: `online.json` is the message for devices, whole."""
    message = online(fleet).refresh(utc_now())
    stored = TrustRepository(fleet.home / "trust").read("online.json")
    assert TrustOnline.decode(stored) == message
    assert message.root_version == 1


@pytest.mark.parametrize("name", ["targets.json", "root.json", "fleet/director.json", "fleet/floors.json", "har.json"])
def test_nothing_is_signed_on_top_of_tampered_files(fleet: Fleet, name: str) -> None:
    """SGN-18: one changed file in the repository stops signing with a named error."""
    online(fleet).publish("har", fleet.role(("1.0", 1)), utc_now())
    path = fleet.home / "trust" / name
    path.write_bytes(path.read_bytes().replace(b"1", b"7", 1))
    with pytest.raises((TrustBrokenError, MetadataRefusedError)):
        online(fleet).refresh(utc_now())


def test_a_refused_role_leaves_no_trace(fleet: Fleet) -> None:
    """SGN-8, SGN-18: it is verified before it takes the published one's place, so that signing goes on."""
    good = fleet.role(("1.0", 1))
    online(fleet).publish("har", good, utc_now())
    foreign = fleet.role(("6.6", 66), current=good, key=fleet.home / "keys" / "director.pem")
    with pytest.raises(MetadataRefusedError):
        online(fleet).publish("har", foreign, utc_now())
    assert TrustRepository(fleet.home / "trust").model_metadata("har") == good
    online(fleet).refresh(utc_now())


def test_no_rollback_in_snapshot(fleet: Fleet) -> None:
    """SGN-18: restoring an older role or removing one stops signing: devices would refuse the snapshot."""
    first = fleet.role(("1.0", 1))
    online(fleet).publish("har", fleet.role(("1.1", 2), current=first), utc_now())
    path = fleet.home / "trust" / "har.json"
    path.write_bytes(first)
    with pytest.raises(TrustBrokenError, match=r"har\.json"):
        online(fleet).refresh(utc_now())
    path.unlink()
    with pytest.raises(TrustBrokenError, match=r"har\.json"):
        online(fleet).refresh(utc_now())

"""The device's trusted metadata, with real signatures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from outrider_agent.durable import Durable, Operation
from outrider_agent.update.errors import TrustExpiredError, UntrustedMetadataError
from outrider_agent.update.trust_store import Bundle, Trusted, TrustStore
from outrider_protocol import signing, topics
from outrider_protocol.director import DIRECTOR_TARGET
from outrider_protocol.messages import TrustOnline
from tests.agent.supervisor.house import Trust

PATH = "har/1.0/x86-64"


class House:
    """A trust and the store of one device."""

    def __init__(self, directory: Path) -> None:
        self.trust, self.operations = Trust(), list[Operation]()
        self.trust.release(PATH, b"manifest", 3)
        self.directory, self.root = directory, self.trust.roots[1]

    @property
    def store(self) -> TrustStore:
        return TrustStore(self.directory / "trust", self.root, Durable(self.operations.append))

    def bundle(self, messages: dict[str, bytes] | None = None) -> Bundle:
        found = messages or self.trust.messages()
        roots = {number: data for number, data in self.trust.roots.items() if number > 1}
        return Bundle(roots, TrustOnline.decode(found[topics.TRUST_ONLINE]), "har", found[topics.trust_model("har")])

    def refresh(self, bundle: Bundle | None) -> Trusted:
        return self.store.refresh(bundle, PATH)

    def stored(self) -> dict[str, str]:
        return dict(json.loads((self.directory / "trust" / "trusted.json").read_text()))


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


def test_a_verified_bundle_names_director_floors_and_target(house: House) -> None:
    """AGT-UPD-3: what comes out was signed: the director, the floors, the artifact with its counter."""
    trusted = house.refresh(house.bundle())
    assert trusted.director == house.trust.director()
    assert trusted.target is not None
    assert (trusted.target.path, trusted.target.length, trusted.target.counter) == (PATH, 8, 3)
    assert house.store.refresh(None, "har/2.0/x86-64").target is None


def test_what_was_verified_is_one_durable_file(house: House) -> None:
    """AGT-UPD-4: it is committed by one rename, and nothing of the scratch directory stays."""
    house.refresh(house.bundle())
    renames = [operation for operation in house.operations if operation.kind == "rename"]
    assert [operation.target and operation.target.name for operation in renames] == ["trusted.json"]
    assert [path.name for path in (house.directory / "trust").iterdir()] == ["trusted.json"]


def test_an_older_bundle_does_not_win(house: House) -> None:
    """AGT-UPD-5: a rollback of the metadata is discarded; the last trusted set stands."""
    old = house.bundle()
    house.trust.min_counter = {"har": 2}
    house.refresh(house.bundle())
    assert house.refresh(old).floors.min_counter == {"har": 2}


def test_a_newer_timestamp_is_remembered_after_a_failure(house: House) -> None:
    """AGT-UPD-4: a set with forged targets fails; the timestamp that was seen is kept, so that no older one wins."""
    good = house.bundle()
    house.refresh(good)
    before = house.stored()["timestamp.json"]
    messages = house.trust.messages()
    online = TrustOnline.decode(messages[topics.TRUST_ONLINE])
    forged = TrustOnline(1, online.timestamp, online.snapshot, online.targets.replace("har", "bar"), online.files)
    with pytest.raises(UntrustedMetadataError) as caught:
        house.refresh(house.bundle({**messages, topics.TRUST_ONLINE: forged.encode()}))
    assert caught.value.hint
    assert house.stored()["timestamp.json"] == online.timestamp != before


def test_a_new_root_is_followed_and_a_foreign_one_is_not(house: House) -> None:
    """AGT-UPD-5: root n+1 must be signed by root n's threshold; keys of a foreign root sign nothing here."""
    house.refresh(house.bundle())
    old_root_key = house.trust.keys["root"]
    house.trust.keys["timestamp"] = signing.generate()
    house.trust.new_root()
    house.refresh(house.bundle())
    assert house.store.root_version() == 2
    house.trust.keys["root"] = signing.generate()
    house.trust.new_root()
    house.trust.min_counter = {"har": 99}
    house.trust.keys["timestamp"] = signing.generate()
    assert house.refresh(house.bundle()).floors.min_counter == {}
    assert house.store.root_version() == 2
    house.trust.keys["root"] = old_root_key


def test_a_swapped_director_is_untrusted(house: House) -> None:
    """AGT-UPD-3: the director's file must have the hash that the top-level targets say."""
    messages = house.trust.messages()
    online = TrustOnline.decode(messages[topics.TRUST_ONLINE])
    thief = Trust()
    files = {**online.files, DIRECTOR_TARGET: thief.director().encode().decode()}
    swapped = TrustOnline(1, online.timestamp, online.snapshot, online.targets, files)
    with pytest.raises(UntrustedMetadataError, match=DIRECTOR_TARGET):
        house.refresh(house.bundle({**messages, topics.TRUST_ONLINE: swapped.encode()}))


def test_another_pipelines_role_is_untrusted(house: House) -> None:
    """AGT-UPD-3: a model's role must be signed by the key that the targets delegate to."""
    house.trust.keys["pipeline"], kept = signing.generate(), house.trust.keys["pipeline"]
    foreign = house.trust.messages()[topics.trust_model("har")]
    house.trust.keys["pipeline"] = kept
    with pytest.raises(UntrustedMetadataError):
        house.refresh(house.bundle({**house.trust.messages(), topics.trust_model("har"): foreign}))


def test_expired_metadata_is_neither_trusted_nor_hostile(house: House) -> None:
    """AGT-UPD-4: a frozen timestamp stops new orders, and says that it has expired."""
    house.trust.expires_s = -3600
    with pytest.raises(TrustExpiredError):
        house.refresh(house.bundle())


def test_a_store_without_its_files_starts_from_the_root_of_enrolment(house: House) -> None:
    """AGT-UPD-5: the root given out of band is the only beginning."""
    foreign = Trust()
    foreign.release(PATH, b"manifest", 3)
    messages = foreign.messages()
    bundle = Bundle({}, TrustOnline.decode(messages[topics.TRUST_ONLINE]), "har", messages[topics.trust_model("har")])
    with pytest.raises(UntrustedMetadataError):
        house.refresh(bundle)

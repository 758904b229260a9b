"""The device's trusted metadata, with real signatures."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tuf.api.metadata import TargetFile

from outrider_agent.durable import Durable, Operation
from outrider_agent.errors import AgentError
from outrider_agent.update import trust_file, trust_store
from outrider_agent.update.bundle import Bundle
from outrider_agent.update.errors import (
    CannotRefreshError,
    RootMissingError,
    TrustDamagedError,
    TrustExpiredError,
    UntrustedMetadataError,
)
from outrider_agent.update.trust_store import Trusted, TrustStore
from outrider_protocol import limits, signing, topics
from outrider_protocol.director import DIRECTOR_TARGET
from outrider_protocol.errors import MalformedError, ProtocolError
from outrider_protocol.messages import TrustOnline
from tests.agent.supervisor.house import Trust
from tests.agent.update.kit import Given

PATH = "har/1.0/x86-64"
DAY_S = 86_400


class House:
    """A trust and the store of one device."""

    def __init__(self, directory: Path) -> None:
        self.trust, self.operations = Trust(), list[Operation]()
        self.trust.release(PATH, b"manifest", 3)
        self.directory = directory
        trust_file.begin(directory / "trust", self.trust.roots[1], Durable())

    @property
    def store(self) -> TrustStore:
        return TrustStore(self.directory / "trust", Durable(self.operations.append))

    @property
    def file(self) -> Path:
        return self.directory / "trust" / "trusted.json"

    def bundle(self, messages: dict[str, bytes] | None = None) -> Bundle:
        return Bundle(Given(messages or self.trust.messages()), "har")

    def refresh(self, bundle: Bundle | None, now: dt.datetime | None = None) -> Trusted:
        return self.store.refresh(bundle, PATH, now or dt.datetime.now(dt.timezone.utc))

    def stored(self) -> dict[str, str]:
        return dict(json.loads(self.file.read_text())["files"])


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


def test_a_verified_bundle_names_director_floors_and_target(house: House) -> None:
    """AGT-UPD-3: what comes out was signed: the director, the floors, the artifact with its counter."""
    trusted = house.refresh(house.bundle())
    assert trusted.director == house.trust.director()
    assert trusted.target is not None
    assert (trusted.target.path, trusted.target.length, trusted.target.counter) == (PATH, 8, 3)
    now = dt.datetime.now(dt.timezone.utc)
    assert house.store.refresh(None, "har/2.0/x86-64", now).target is None


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


def test_a_fleet_file_that_is_not_listed_is_untrusted() -> None:
    """AGT-UPD-3: whatever came with the metadata: a director or floors that the targets do not name are nobody's."""
    with pytest.raises(UntrustedMetadataError, match="do not list"):
        trust_store._checked(None, b"{}", DIRECTOR_TARGET)


@pytest.mark.parametrize("custom", [None, {}, {"counter": "3"}, {"counter": True}], ids=str)
def test_a_target_without_a_counter_is_untrusted(custom: object) -> None:
    """AGT-UPD-3: without a signed counter there is nothing that the floor could be held against."""
    info = TargetFile(8, {"sha256": "00" * 32}, PATH, {} if custom is None else {"custom": custom})
    with pytest.raises(UntrustedMetadataError, match="no counter"):
        trust_store._target(info)


def test_each_document_has_its_limit(house: House) -> None:
    """AGT-SRC-4: the limit that a source is told is the document's own, whatever length it claims."""
    told: dict[str, int] = {}

    class Told(Given):
        def document(self, name: str, limit_bytes: int) -> bytes | None:
            told[name] = limit_bytes
            return super().document(name, limit_bytes)

    house.trust.new_root()
    house.refresh(Bundle(Told(house.trust.messages()), "har"))
    wanted = {"online.json": limits.TRUST_ONLINE_BYTES, "2.root.json": limits.ROOT_BYTES, "har.json": limits.ROLE_BYTES}
    assert told == wanted


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


@pytest.mark.parametrize("first", ["root", "targets", "timestamp"])
def test_what_is_trusted_ends_where_its_first_role_ends(house: House, first: str) -> None:
    """AGT-UPD-3, TRU-6: root, targets or timestamp, whichever ends first, bounds the dates that orders may have."""
    house.trust.ends_s = dict.fromkeys(("root", "targets", "timestamp"), 400.0 * DAY_S) | {first: 3.0 * DAY_S}
    house.trust.new_root()
    trusted = house.refresh(house.bundle())
    assert trusted.trusted_until_ms / 1000 == pytest.approx(house.trust.end(first).timestamp(), abs=DAY_S)


def test_the_root_of_enrolment_is_the_only_beginning(house: House) -> None:
    """AGT-UPD-5: what another fleet's root has signed is worth nothing here."""
    foreign = Trust()
    foreign.release(PATH, b"manifest", 3)
    with pytest.raises(UntrustedMetadataError):
        house.refresh(house.bundle(foreign.messages()))


DAMAGES: dict[str, Callable[[bytes], bytes | None]] = {
    "missing": lambda _: None,
    "empty": lambda _: b"",
    "truncated": lambda data: data[: len(data) // 2],
    "zeroed": lambda data: bytes(len(data)),
    "zeroed in part": lambda data: data[:100] + bytes(50) + data[150:],
    "one digit": lambda data: data.replace(b'\\"version\\":2', b'\\"version\\":1'),
    "another document": lambda _: b'{"v":1,"files":{},"sha256":""}',
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_damaged_trust_file_is_never_guessed_at(house: House, kind: str) -> None:
    """AGT-TRF-1: whatever happened to the file, it is a named error: no older metadata gets in through the gap."""
    house.refresh(house.bundle())
    old = house.bundle()
    house.refresh(old)
    data = house.file.read_bytes()
    damaged = DAMAGES[kind](data)
    assert damaged != data
    house.file.unlink() if damaged is None else house.file.write_bytes(damaged)
    for offered in (old, house.bundle(), None):
        with pytest.raises(TrustDamagedError) as caught:
            house.refresh(offered)
        assert "enrol --again" in caught.value.hint
    house.file.write_bytes(data)
    house.refresh(house.bundle())


def test_malformed_metadata_leaves_the_last_trusted_set(house: House) -> None:
    """AGT-UPD-4: what cannot even be parsed is no reason to forget what was trusted; without a set it is named."""
    messages = house.trust.messages()
    garbage = {**messages, topics.TRUST_ONLINE: b"{"}
    with pytest.raises(MalformedError):
        house.refresh(house.bundle(garbage))
    house.refresh(house.bundle(messages))
    assert house.refresh(house.bundle(garbage)).target is not None
    with pytest.raises(CannotRefreshError):
        House(house.directory / "other").refresh(Bundle(Given({}), "har"))


def test_a_root_that_is_missing_on_the_way_is_named(house: House) -> None:
    """AGT-TRF-3: nobody steps over a root: which one is missing is said, and it can be tried again."""
    for _ in range(4):
        house.trust.new_root()
    messages = house.trust.messages()
    del messages[topics.trust_root(4)]
    with pytest.raises(RootMissingError, match=r"^4\.root\.json") as caught:
        house.refresh(house.bundle(messages))
    assert caught.value.hint
    assert house.store.root_version() == 3
    assert house.refresh(house.bundle()).target is not None
    assert house.store.root_version() == 5


def test_the_bytes_of_metadata_are_kept_as_they_are(house: House) -> None:
    """AGT-TRF-2: what was signed is stored byte for byte, line ends too: its hash is pinned elsewhere."""
    messages = house.trust.messages()
    online = TrustOnline.decode(messages[topics.TRUST_ONLINE])
    spaced = TrustOnline(1, online.timestamp + "\r\n", online.snapshot, online.targets, online.files)
    house.refresh(house.bundle({**messages, topics.TRUST_ONLINE: spaced.encode()}))
    assert house.stored()["timestamp.json"] == online.timestamp + "\r\n"


def test_the_time_is_the_callers(house: House) -> None:
    """AGT-TRF-4: expiry is judged at the time that was given, not at this machine's."""
    bundle = house.bundle()
    later = dt.datetime.now(dt.timezone.utc) + dt.timedelta(days=8)
    with pytest.raises(TrustExpiredError):
        house.refresh(bundle, later)
    assert house.refresh(bundle).target is not None


def test_what_a_killed_run_left_is_swept(house: House) -> None:
    """AGT-TRF-2: a scratch directory of a run that was killed goes at the next start, never under a run's feet."""
    left = house.file.parent / "scratch-left"
    left.mkdir()
    (left / "timestamp.json").write_text("{}")
    house.refresh(house.bundle())
    assert left.exists()
    trust_file.sweep(house.file.parent)
    assert [path.name for path in house.file.parent.iterdir()] == ["trusted.json"]


def test_more_roots_than_one_run_follows(house: House) -> None:
    """AGT-TRF-5: each run goes on from the root that the last one reached: a very long chain takes two."""
    for _ in range(limits.ROOT_ROTATIONS + 9):
        house.trust.new_root()
    house.trust.keys["timestamp"] = signing.generate()
    house.trust.new_root()
    with pytest.raises(UntrustedMetadataError):
        house.refresh(house.bundle())
    assert house.store.root_version() == limits.ROOT_ROTATIONS + 1
    assert house.refresh(house.bundle()).target is not None
    assert house.store.root_version() == limits.ROOT_ROTATIONS + 11


TOPICS = (topics.TRUST_ONLINE, topics.trust_model("har"), topics.trust_root(2))


def flipped(data: bytes, at: int, to: int) -> bytes:
    at %= len(data)
    return data[:at] + bytes([to]) + data[at + 1 :]


@settings(max_examples=150, deadline=None)
@given(
    topic=st.sampled_from(TOPICS),
    change=st.one_of(
        st.tuples(st.just("byte"), st.integers(0, 10**6), st.integers(0, 255)),
        st.tuples(st.just("cut"), st.integers(0, 10**6), st.just(0)),
        st.tuples(st.just("junk"), st.integers(0, 5), st.just(0)),
    ),
)
def test_whatever_is_offered_ends_in_a_named_error(hostile: House, topic: str, change: tuple[str, int, int]) -> None:
    """AGT-TRF-6: any change of any document is refused by name or harmless; the trust file stays whole, floors hold."""
    kind, at, to = change
    data = NEWS[topic]
    junk = (b"", b"null", b"[" * 100_000, b'{"signed":' * 5000, b"\xff\xfe", b'{"a":1e999}')
    offered = flipped(data, at, to) if kind == "byte" else data[: at % len(data)] if kind == "cut" else junk[at]
    hostile.file.write_bytes(BEFORE[0])
    with suppress(AgentError, ProtocolError):
        hostile.refresh(hostile.bundle({**NEWS, topic: offered}))
    kept = trust_file.load(hostile.file)
    was = trust_file.decode(BEFORE[0])
    for role in ("root", "timestamp", "snapshot", "targets"):
        assert version(kept, role) >= version(was, role)


NEWS: dict[str, bytes] = {}
BEFORE: list[bytes] = []


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> House:
    """A device with a trusted set, and the news that are changed on the way."""
    made = House(tmp_path_factory.mktemp("hostile"))
    made.refresh(made.bundle())
    BEFORE[:] = [made.file.read_bytes()]
    made.trust.new_root()
    NEWS.update(made.trust.messages())
    return made


def version(kept: dict[str, bytes], role: str) -> int:
    return int(json.loads(kept[f"{role}.json"])["signed"]["version"])

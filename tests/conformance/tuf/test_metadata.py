"""Top-level metadata: what is asked for, what is believed, what stays on disk."""

from __future__ import annotations

import copy
import datetime as dt
import json
from typing import Any

import pytest
from tuf.api.metadata import MetaFile

from tests.conformance.tuf.conftest import Client
from tests.conformance.tuf.repository import NOW, Repository

AN_OLD_SIGNATURE = "30" * 70
FIRST_REQUESTS = [
    "metadata/2.root.json",
    "metadata/timestamp.json",
    "metadata/1.snapshot.json",
    "metadata/1.targets.json",
]
ALL_ONE = {"root": 1, "timestamp": 1, "snapshot": 1, "targets": 1}


def test_a_refresh_asks_in_order_and_keeps_what_it_got(client: Client, repository: Repository) -> None:
    """AGT-TUF-1: root, timestamp, snapshot, targets, each once; the very bytes are stored, unversioned."""
    assert client.refresh() == 0
    assert repository.requests == FIRST_REQUESTS
    assert client.trusted() == ALL_ONE
    for role in ALL_ONE:
        assert client.stored(role) == repository.published[role]


def test_a_download_refreshes_first(client: Client, repository: Repository) -> None:
    """AGT-TUF-1: asked for a target at once, it refreshes; a target that nobody lists fails, the metadata stay."""
    assert client.download("nobody lists this") == 1
    assert repository.requests == FIRST_REQUESTS
    assert client.trusted() == ALL_ONE


def test_a_second_refresh_asks_for_news_alone(client: Client, repository: Repository) -> None:
    """AGT-TUF-1: with nothing new, only the next root and the timestamp are asked for."""
    assert client.refresh() == 0
    repository.requests.clear()
    assert client.refresh() == 0
    assert repository.requests == ["metadata/2.root.json", "metadata/timestamp.json"]


def test_odd_bytes_are_stored_as_they_came(client: Client, repository: Repository) -> None:
    """AGT-TUF-1: no serialization of our own: trailing space and line ends stay."""
    repository.put("timestamp", repository.published["timestamp"] + b" \r\n")
    assert client.refresh() == 0
    assert client.stored("timestamp") == repository.published["timestamp"]


@pytest.mark.parametrize("broken", ["no version", "signature of nobody", "not JSON"])
def test_a_bad_first_root_asks_nobody(client: Client, repository: Repository, broken: str) -> None:
    """AGT-TUF-2: a trusted root that is none ends the refresh before the first request."""
    root = json.loads(repository.published["root"])
    if broken == "no version":
        del root["signed"]["version"]
    else:
        root["signatures"][0]["sig"] = AN_OLD_SIGNATURE
    client.init(b"{" if broken == "not JSON" else json.dumps(root).encode())
    assert client.refresh() == 1
    assert repository.requests == []


UP_TO: list[tuple[str, dict[str, int]]] = [
    ("root", {"root": 1}),
    ("timestamp", {"root": 2}),
    ("snapshot", {"root": 2, "timestamp": 2}),
    ("targets", {"root": 2, "timestamp": 2, "snapshot": 2}),
]


@pytest.mark.parametrize(("role", "left"), UP_TO)
def test_an_unsigned_role_ends_the_refresh_there(
    client: Client, repository: Repository, role: str, left: dict[str, int]
) -> None:
    """AGT-TUF-2: what came before the unsigned role is trusted, it and what follows are not."""
    repository.signers[role].clear()
    repository.everything()
    assert client.refresh() == 1
    assert client.trusted() == left


@pytest.mark.parametrize(("role", "left"), [row for row in UP_TO if row[0] != "timestamp"])
def test_a_version_that_is_not_the_files(
    client: Client, repository: Repository, role: str, left: dict[str, int]
) -> None:
    """AGT-TUF-2: `2.<role>.json` must hold version 2."""
    repository.everything()
    liar = copy.deepcopy(repository.roles[role])
    repository.roles[role].version = 3
    data = repository.sign(role)
    repository.roles[role] = liar
    repository.put(role, data)
    assert client.refresh() == 1
    assert client.trusted() == left


def test_another_type_in_the_place_of_a_role(client: Client, repository: Repository) -> None:
    """AGT-TUF-2: a snapshot that the timestamp's key signed is no timestamp."""
    repository.add_key("snapshot", repository.signers["timestamp"][0])
    repository.publish("root")
    repository.snapshot.version, repository.snapshot.meta = 2, {"snapshot.json": MetaFile(1)}
    repository.put("timestamp", repository.sign("snapshot"))
    assert client.refresh() == 1
    assert client.trusted() == {"root": 2}


def test_the_same_version_with_other_content_changes_nothing(client: Client, repository: Repository) -> None:
    """AGT-TUF-3: an equal timestamp version keeps the stored one; what the other names is not asked for."""
    assert client.refresh() == 0
    before = client.stored("timestamp")
    repository.timestamp.snapshot_meta = MetaFile(100)
    repository.publish("timestamp", bump=False)
    assert client.refresh() == 0
    assert repository.requests[-1] == "metadata/timestamp.json"
    assert client.stored("timestamp") == before


def test_pinned_hashes_are_checked(client: Client, repository: Repository) -> None:
    """AGT-TUF-2: where timestamp and snapshot pin hashes, right ones pass and a wrong one ends it."""
    repository.hashes = True
    repository.publish("targets", "snapshot", "timestamp")
    assert client.refresh() == 0
    repository.publish("targets")
    repository.snapshot.meta["targets.json"].hashes = {"sha256": "0" * 64}
    repository.publish("snapshot", "timestamp")
    assert client.refresh() == 1
    assert client.trusted() == {"root": 1, "timestamp": 3, "snapshot": 3, "targets": 2}


def test_targets_that_the_snapshot_does_not_name(client: Client, repository: Repository) -> None:
    """AGT-TUF-1: a new targets version is nothing before a snapshot names it."""
    assert client.refresh() == 0
    repository.publish("targets")
    assert client.refresh() == 0
    assert repository.requests[-1] == "metadata/timestamp.json"
    assert client.trusted()["targets"] == 1


def test_unknown_fields_are_signed_too(client: Client, repository: Repository) -> None:
    """AGT-TUF-4: fields that nobody knows, in root, role and key, are covered by the signature and passed over."""
    assert client.refresh() == 0
    key = repository.add_key("root")
    repository.root.unrecognized_fields["invented"] = "value"
    repository.root.roles["root"].unrecognized_fields["another"] = {"a": [1, 2]}
    repository.root.keys[key.public_key.keyid].unrecognized_fields["extra"] = {"a": 1}
    repository.publish("root")
    assert client.refresh() == 0
    assert client.trusted()["root"] == 2


def test_keyid_hash_algorithms_mean_nothing(client: Client, repository: Repository) -> None:
    """AGT-TUF-4: the old field may say what it likes."""
    for keyid in repository.root.roles["snapshot"].keyids:
        repository.root.keys[keyid].unrecognized_fields["keyid_hash_algorithms"] = ["md5"]
    repository.publish("root", "snapshot", "timestamp")
    assert client.refresh() == 0
    assert client.trusted() == {"root": 2, "timestamp": 2, "snapshot": 2, "targets": 1}


MISSING: list[tuple[str, dict[str, int]]] = [
    ("metadata/timestamp.json", ALL_ONE),
    ("metadata/2.snapshot.json", {**ALL_ONE, "timestamp": 2}),
    ("metadata/2.targets.json", {**ALL_ONE, "timestamp": 2, "snapshot": 2}),
]


@pytest.mark.parametrize(("last", "left"), MISSING)
def test_a_file_that_is_not_there(client: Client, repository: Repository, last: str, left: dict[str, int]) -> None:
    """AGT-TUF-2: a promised file that answers 404 fails the refresh; what was verified on the way stays."""
    assert client.refresh() == 0
    repository.publish("targets", "snapshot", "timestamp")
    del repository.files[last]
    assert client.refresh() == 1
    assert repository.requests[-1] == last
    assert client.trusted() == left


# -------------------------------------------------------------------- expiry


def days(number: int) -> dt.datetime:
    return NOW + dt.timedelta(days=number)


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets"])
def test_an_expired_role_is_not_taken(client: Client, repository: Repository, role: str) -> None:
    """AGT-TUF-5: a newer but expired role is no update: the refresh fails, the version on disk stays."""
    assert client.refresh() == 0
    repository.roles[role].expires = days(-5)
    repository.publish("targets", "snapshot", "timestamp")
    assert client.refresh() == 1
    assert client.trusted()[role] == 1


def test_an_expired_root_is_kept_and_ends_it(client: Client, repository: Repository) -> None:
    """AGT-TUF-5: the newest root is stored though it has expired, and nothing else moves."""
    assert client.refresh() == 0
    repository.publish("root")
    repository.root.expires = days(-1)
    repository.publish("root")
    repository.publish("timestamp")
    assert client.refresh() == 1
    assert client.trusted() == {**ALL_ONE, "root": 3}


def test_an_expired_root_on_the_way_is_no_obstacle(client: Client, repository: Repository) -> None:
    """AGT-TUF-5: only the last root must be valid now."""
    repository.root.expires = days(-1)
    repository.publish("root")
    repository.root.expires = days(30)
    repository.publish("root")
    assert client.refresh() == 0
    assert client.trusted()["root"] == 3


def test_time_moves_on(client: Client, repository: Repository) -> None:
    """AGT-TUF-5: what was valid today has expired tomorrow: the clock is asked at every run."""
    repository.root.expires = days(7)
    repository.publish("root")
    assert client.refresh() == 0
    client.now = days(8)
    assert client.refresh() == 1


def test_expired_metadata_on_disk_is_a_beginning(client: Client, repository: Repository) -> None:
    """AGT-TUF-5: a device that was off for long starts from what it has, though it has expired, and gets the new."""
    repository.timestamp.expires = days(7)
    repository.publish("timestamp")
    assert client.refresh() == 0
    repository.timestamp.expires = days(21)
    repository.publish("targets", "snapshot", "timestamp")
    client.now = days(18)
    assert client.refresh() == 0
    assert client.trusted() == {"root": 1, "timestamp": 3, "snapshot": 2, "targets": 2}


# -------------------------------------------------------------------- rollback


def test_an_older_snapshot_file_is_not_even_asked_for(client: Client, repository: Repository) -> None:
    """AGT-TUF-3: with the snapshot that the timestamp names at hand, no other is fetched."""
    repository.publish("snapshot", "timestamp")
    assert client.refresh() == 0
    repository.put("snapshot", b"{}")
    assert client.refresh() == 0
    assert repository.requests[-1] == "metadata/timestamp.json"
    assert client.trusted()["snapshot"] == 2


def test_an_older_timestamp_is_refused(client: Client, repository: Repository) -> None:
    """AGT-TUF-3: the version on disk is the least that counts."""
    old = repository.published["timestamp"]
    repository.publish("timestamp")
    assert client.refresh() == 0
    repository.put("timestamp", old)
    assert client.refresh() == 1
    assert client.trusted()["timestamp"] == 2


@pytest.mark.parametrize("hashes", [False, True])
def test_a_timestamp_that_names_an_older_snapshot(client: Client, repository: Repository, hashes: bool) -> None:
    """AGT-TUF-3: a newer timestamp may not lead back to an older snapshot, pinned by hash or not."""
    repository.hashes = hashes
    repository.publish("snapshot", "timestamp")
    assert client.refresh() == 0
    repository.snapshot.version = 1
    repository.publish("snapshot", bump=False)
    repository.publish("timestamp")
    assert client.refresh() == 1
    assert client.trusted() == {"root": 1, "timestamp": 2, "snapshot": 2, "targets": 1}


@pytest.mark.parametrize("hashes", [False, True])
def test_a_snapshot_that_names_older_targets(client: Client, repository: Repository, hashes: bool) -> None:
    """AGT-TUF-3: nor may a newer snapshot lead back to older targets."""
    repository.hashes = hashes
    repository.publish("targets", "snapshot", "timestamp")
    assert client.refresh() == 0
    repository.targets.version = 1
    repository.publish("targets", bump=False)
    repository.publish("snapshot", "timestamp")
    assert client.refresh() == 1
    assert (client.trusted()["snapshot"], client.trusted()["targets"]) == (2, 2)


def test_a_snapshot_that_drops_a_role(client: Client, repository: Repository) -> None:
    """AGT-TUF-3: what a snapshot once named, every later one names."""
    repository.delegate("targets", "a", ["*"])
    repository.everything()
    assert client.refresh() == 0
    del repository.snapshot.meta["a.json"]
    repository.publish("snapshot", "timestamp")
    assert client.refresh() == 1
    assert client.trusted()["snapshot"] == 2


def test_a_newer_snapshot_that_no_timestamp_names(client: Client, repository: Repository) -> None:
    """AGT-TUF-1: the timestamp decides which snapshot is the one."""
    old = copy.deepcopy(repository.timestamp.snapshot_meta)
    repository.publish("snapshot")
    repository.timestamp.snapshot_meta = old
    repository.publish("root", "timestamp")
    assert client.refresh() == 0
    assert client.trusted() == {"root": 2, "timestamp": 2, "snapshot": 1, "targets": 1}


FORWARD: list[tuple[str, list[str], list[str]]] = [
    ("timestamp", ["timestamp"], ["timestamp"]),
    ("snapshot", ["snapshot", "timestamp"], ["snapshot", "timestamp"]),
    ("targets", ["snapshot"], ["targets", "snapshot", "timestamp"]),
]


@pytest.mark.parametrize(("role", "keys", "published"), FORWARD)
def test_recovery_from_a_huge_version(
    client: Client, repository: Repository, role: str, keys: list[str], published: list[str]
) -> None:
    """AGT-TUF-3: after a thief signed version 10,000, new keys in a new root let the versions begin again."""
    repository.roles[role].version = 10_000
    repository.publish(role, bump=False)
    repository.publish(*(name for name in published if name != role))
    assert client.refresh() == 0
    assert client.trusted()[role] == 10_000
    for name in keys:
        repository.replace_keys(name)
    repository.roles[role].version = 1
    repository.publish("root")
    repository.publish(*[name for name in published if name == role], bump=False)
    repository.publish(*[name for name in published if name != role])
    assert client.refresh() == 0
    assert client.trusted()[role] == 1


# -------------------------------------------------------------------- sizes


@pytest.mark.parametrize("role", ["root", "timestamp", "snapshot", "targets"])
def test_endless_metadata_end_at_their_limit(client: Client, repository: Repository, role: str) -> None:
    """AGT-TUF-6: a file beyond its limit is refused before it is parsed, and leaves nothing."""
    assert client.refresh() == 0
    before = client.trusted()
    padding: dict[str, Any] = {"padding": "x" * 6_000_000}
    repository.roles[role].unrecognized_fields.update(padding)
    repository.everything()
    assert client.refresh() == 1
    assert client.trusted()[role] == before[role]


def test_a_file_longer_than_its_pinned_length(client: Client, repository: Repository) -> None:
    """AGT-TUF-6: where the length is pinned, one byte more is too much."""
    repository.hashes = True
    repository.publish("targets", "snapshot", "timestamp")
    repository.files[repository.name("snapshot")] += b" "
    assert client.refresh() == 1
    assert "snapshot" not in client.trusted()

"""Thresholds, key types and rotations: whose signatures count, and how many."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata

from tests.conformance.tuf.conftest import Client
from tests.conformance.tuf.repository import Repository, signer

KEYS = [signer() for _ in range(10)]


def test_one_signature_below_the_threshold(client: Client, repository: Repository) -> None:
    """AGT-TUF-7: three keys, threshold three: two signatures are none."""
    repository.root.roles["snapshot"].threshold = 3
    repository.add_key("snapshot")
    repository.add_key("snapshot")
    repository.everything()
    assert client.refresh() == 0
    repository.signers["snapshot"].pop()
    repository.publish("snapshot", "timestamp")
    assert client.refresh() == 1
    assert client.trusted()["snapshot"] == 2


def test_a_threshold_that_its_keys_cannot_reach(client: Client, repository: Repository) -> None:
    """AGT-TUF-7: five keys for a threshold of six: the root is taken, the role never."""
    for _ in range(4):
        repository.add_key("snapshot")
    repository.root.roles["snapshot"].threshold = 6
    repository.publish("root", "snapshot", "timestamp")
    assert client.refresh() == 1
    assert client.trusted() == {"root": 2, "timestamp": 2}


def test_a_raised_threshold_counts_for_what_is_on_disk_too(client: Client, repository: Repository) -> None:
    """AGT-TUF-7: after a root that asks for more, the stored snapshot is not enough any more."""
    assert client.refresh() == 0
    repository.root.roles["snapshot"].threshold = 2
    repository.root.add_key(signer().public_key, "snapshot")
    repository.publish("root", "timestamp")
    assert client.refresh() == 1
    assert client.trusted()["root"] == 2


def test_one_key_under_many_names(client: Client, repository: Repository) -> None:
    """AGT-TUF-7: a key listed and signing several times is one key."""
    key = repository.add_key("snapshot")
    repository.root.roles["snapshot"].keyids += [key.public_key.keyid] * 8
    repository.root.roles["snapshot"].threshold = 6
    data = json.loads(repository.published["root"])
    data["signed"] = repository.root.to_dict()
    repository.publish("snapshot", "timestamp")
    snapshot = json.loads(repository.published["snapshot"])
    again = next(item for item in snapshot["signatures"] if item["keyid"] == key.public_key.keyid)
    snapshot["signatures"] += [again] * 8
    repository.put("snapshot", json.dumps(snapshot).encode())
    repository.publish("root")
    assert client.refresh() == 1
    assert "snapshot" not in client.trusted()


def test_a_signature_that_stands_twice(client: Client, repository: Repository) -> None:
    """AGT-TUF-7: a key id stands once among the signatures; twice is no metadata, though the threshold is met."""
    snapshot = json.loads(repository.published["snapshot"])
    snapshot["signatures"].append(snapshot["signatures"][0])
    repository.put("snapshot", json.dumps(snapshot).encode())
    assert client.refresh() == 1
    assert "snapshot" not in client.trusted()


@pytest.mark.parametrize("nonsense", ["of another key", ""])
def test_a_wrong_signature_beside_a_right_one(client: Client, repository: Repository, nonsense: str) -> None:
    """AGT-TUF-7: where enough signatures are right, one more that is not spoils nothing."""
    old = repository.signers["timestamp"][0]
    repository.add_key("timestamp")
    repository.publish("root", "timestamp")
    metadata = Metadata.from_bytes(repository.published["timestamp"])
    metadata.signatures[old.public_key.keyid].signature = "ab" * 64 if nonsense else ""
    repository.put("timestamp", metadata.to_bytes())
    assert client.refresh() == 0
    assert client.trusted()["timestamp"] == 2


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa-sha2-nistp256", "rsassa-pss-sha256", "rsa-pkcs1v15-sha256"])
def test_key_types(client: Client, repository: Repository, kind: str) -> None:
    """AGT-TUF-8: the specification's key types verify, and their wrong signatures do not."""
    key = repository.add_key("root", signer(kind))
    repository.root.roles["root"].threshold = 2
    repository.publish("root")
    assert client.refresh() == 0
    assert client.trusted()["root"] == 2
    repository.publish("root")
    metadata = Metadata.from_bytes(repository.published["root"])
    other = Metadata.from_bytes(repository.files["metadata/2.root.json"])
    keyid = key.public_key.keyid
    metadata.signatures[keyid].signature = other.signatures[keyid].signature
    repository.put("root", metadata.to_bytes())
    assert client.refresh() == 1
    assert client.trusted()["root"] == 2


# -------------------------------------------------------------------- rotations


@dataclass(frozen=True)
class Step:
    """Which keys a version lists, how many must sign, and which sign (by index)."""

    listed: Sequence[int]
    threshold: int
    signing: Sequence[int]


FIVE = (0, 1, 2, 3, 4)
SWAPPED = (0, 1, 3, 4, 5)
OTHERS = (5, 6, 7, 8, 9)

FOLLOWED: dict[str, list[Step]] = {
    "one key for another": [Step([1], 1, [1]), Step([2], 1, [2, 1]), Step([2], 1, [2])],
    "signatures of strangers": [Step([1], 1, [3, 1, 4]), Step([2], 1, [3, 2, 1, 4]), Step([2], 1, [3, 2, 4])],
    "changing signers of five": [Step(FIVE, 3, who) for who in ([0, 2, 4], [0, 4, 1], [0, 1, 3], [0, 1, 3])],
    "one of five swapped": [Step(FIVE, 3, [0, 2, 4]), Step(SWAPPED, 3, [0, 4, 1])],
    "swapped in two steps": [Step(FIVE, 3, [0, 2, 4]), Step(SWAPPED, 3, [0, 2, 4, 5]), Step(SWAPPED, 3, [0, 4, 5])],
    "all five swapped": [
        Step(FIVE, 3, [0, 2, 4]),
        Step(OTHERS, 3, [0, 2, 4, 5, 6, 7]),
        Step(OTHERS, 3, [5, 6, 7]),
    ],
    "threshold up": [Step([1, 2, 3], 1, [1]), Step([1, 2, 3], 2, [1, 2])],
    "threshold down": [Step([1, 2, 3], 2, [1, 2]), Step([1, 2, 3], 1, [1, 2]), Step([1, 2, 3], 1, [1])],
    "a second key and threshold two": [Step([1], 1, [1]), Step([1, 2], 2, [1, 2])],
}
REFUSED: dict[str, list[Step]] = {
    "the old key did not sign": [Step([1], 1, [1]), Step([2], 1, [2, 3, 4])],
    "the new key did not sign": [Step([1], 1, [1]), Step([2], 1, [1, 3, 4])],
    "too few of the new keys": [Step(FIVE, 3, [0, 2, 4]), Step(SWAPPED, 3, [0, 2, 4])],
    "too few of the old keys": [Step(FIVE, 3, [0, 2, 4]), Step(SWAPPED, 3, [0, 4, 5])],
    "the raised threshold is not met": [Step([1, 2, 3], 1, [1]), Step([1, 2, 3], 2, [2])],
    "the old threshold is not met": [Step([1, 2, 3], 2, [1, 2]), Step([1, 2, 3], 1, [1])],
}


def rotate(repository: Repository, role: str, step: Step, keys: Sequence[CryptoSigner] = KEYS) -> None:
    """Let a role have these keys; the root that says so is not published yet."""
    repository.root.roles[role].keyids.clear()
    repository.root.roles[role].threshold = step.threshold
    for number in step.listed:
        repository.root.add_key(keys[number].public_key, role)
    repository.signers[role] = [keys[number] for number in step.signing]


def chain(client: Client, repository: Repository, steps: list[Step]) -> list[bytes]:
    """Publish a chain of roots that begins with the first step, and let the client trust that one."""
    rotate(repository, "root", steps[0])
    repository.publish("root", bump=False)
    roots = [repository.published["root"]]
    for step in steps[1:]:
        rotate(repository, "root", step)
        repository.publish("root")
        roots.append(repository.published["root"])
    assert client.init(roots[0]) == 0
    return roots


@pytest.mark.parametrize("name", FOLLOWED)
def test_root_rotations_that_are_followed(client: Client, repository: Repository, name: str) -> None:
    """AGT-TUF-9: each root is signed by the threshold of the one before it and by its own."""
    roots = chain(client, repository, FOLLOWED[name])
    assert client.refresh() == 0
    assert client.stored("root") == roots[-1]


@pytest.mark.parametrize("name", REFUSED)
def test_root_rotations_that_are_not(client: Client, repository: Repository, name: str) -> None:
    """AGT-TUF-9: the last good root stays, byte for byte."""
    roots = chain(client, repository, REFUSED[name])
    assert client.refresh() == 1
    assert client.stored("root") == roots[-2]


def test_a_skipped_root_is_refused(client: Client, repository: Repository) -> None:
    """AGT-TUF-9: version 3 in the place of version 2 is no way, however well signed."""
    repository.publish("root")
    repository.publish("root")
    repository.files["metadata/2.root.json"] = repository.files["metadata/3.root.json"]
    assert client.refresh() == 1
    assert client.trusted() == {"root": 1}


def test_a_long_chain_of_roots(client: Client, repository: Repository) -> None:
    """AGT-TUF-9: fifty rotations, each with a new key, in one run."""
    for _ in range(50):
        former = repository.signers["root"][-1:]
        repository.replace_keys("root")
        repository.signers["root"] += former
        repository.publish("root")
        repository.signers["root"] = repository.signers["root"][:1]
    assert client.refresh() == 0
    assert client.trusted()["root"] == 51


OTHER_ROLES: dict[str, tuple[Step, bool]] = {
    "another key": (Step([2], 1, [2]), True),
    "signatures of strangers": (Step([1], 1, [3, 1, 4]), True),
    "not signed by the new key": (Step([2], 1, [1, 3, 4]), False),
    "one signature of a key that left": (Step(SWAPPED, 3, [0, 2, 4]), False),
    "one signature missing": (Step(SWAPPED, 3, [0, 4]), False),
    "three of five, one": (Step(FIVE, 3, [0, 2, 4]), True),
    "three of five, two": (Step(FIVE, 3, [0, 4, 1]), True),
    "three of five, three": (Step(FIVE, 3, [0, 1, 3]), True),
    "three of five, four": (Step(FIVE, 3, [1, 2, 3]), True),
    "three of five, five": (Step(FIVE, 3, [2, 3, 4]), True),
}


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets"])
@pytest.mark.parametrize("name", OTHER_ROLES)
def test_rotations_of_the_other_roles(client: Client, repository: Repository, role: str, name: str) -> None:
    """AGT-TUF-9: the newest root alone says whose signatures count for the other roles."""
    step, accepted = OTHER_ROLES[name]
    rotate(repository, role, step)
    repository.everything()
    assert client.refresh() == (0 if accepted else 1)
    if accepted:
        assert client.stored(role) == repository.published[role]

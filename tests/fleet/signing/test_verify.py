"""What may be published: the attacks on an uploaded role."""

import datetime as dt
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tuf.api.metadata import Metadata, TargetFile, Targets

from outrider_fleet.errors import FleetError, MetadataRefusedError, TooLargeError
from outrider_fleet.signing import ceremony
from outrider_fleet.signing.errors import (
    ChangedTargetError,
    ForeignTargetError,
    NotDelegatedError,
    RolledBackMetadataError,
    SignatureThresholdError,
    TrustBrokenError,
)
from outrider_fleet.signing.repository import TrustRepository
from outrider_fleet.signing.server import Signer
from outrider_fleet.signing.verify import target_counter, verify_release_metadata
from outrider_protocol import limits, signing
from tests.fleet.signing.fleet import Fleet


def check(fleet: Fleet, data: bytes, model: str = "har", days: float = 0) -> dict[str, TargetFile]:
    now = dt.datetime.now(dt.UTC) + dt.timedelta(days=days)
    return verify_release_metadata(fleet.home / "trust", model, data, now=now)


def test_good_role_is_accepted(fleet: Fleet) -> None:
    """SGN-7: a role signed by the delegated key is accepted, and says what it lists."""
    targets = check(fleet, fleet.role(("1.0", 1), ("1.1", 2)))
    assert {path: target_counter(target) for path, target in targets.items()} == {
        "har/1.0/x86-64": 1,
        "har/1.1/x86-64": 2,
    }


def test_other_keys_are_refused(fleet: Fleet, tmp_path: Path) -> None:
    """SGN-8: another pipeline's key, an online key, or no signature at all is refused."""
    ceremony.make_pipeline_key(tmp_path / "thief.pem")
    thieves = [tmp_path / "thief.pem", *(fleet.home / "keys" / f"{name}.pem" for name in ("snapshot", "director"))]
    for thief in thieves:
        with pytest.raises(SignatureThresholdError):
            check(fleet, fleet.role(("1.0", 1), key=thief))
    unsigned = json.loads(fleet.role(("1.0", 1)))
    unsigned["signatures"] = []
    with pytest.raises(SignatureThresholdError):
        check(fleet, json.dumps(unsigned).encode())


def test_changed_content_is_refused(fleet: Fleet) -> None:
    """SGN-8: a role that was changed after signing is refused."""
    with pytest.raises(SignatureThresholdError):
        check(fleet, fleet.role(("1.0", 1)).replace(b'"counter":1', b'"counter":9'))


def test_other_models_are_refused(fleet: Fleet, tmp_path: Path) -> None:
    """SGN-8: a pipeline's key signs its own model only, and a model without delegation is refused."""
    public = ceremony.make_pipeline_key(tmp_path / "other.pem")
    ceremony.delegate(fleet.home, fleet.offline, "other", public)
    with pytest.raises(SignatureThresholdError):
        check(fleet, fleet.role(("1.0", 1), prefix="other"), "other")
    with pytest.raises(NotDelegatedError):
        check(fleet, fleet.role(("1.0", 1)), "unknown")


@pytest.mark.parametrize(
    "path",
    [
        "other/1.0/x86-64",
        "fleet/director.json",
        "har/1.0",
        "har/1.0/x86-64/more",
        "har//x86-64",
        "../har/1.0/x86-64",
        "har/1.0/X86",
        "har/../har/1.0",
        "/har/1.0/x86-64",
    ],
)
def test_foreign_targets_are_refused(fleet: Fleet, path: str) -> None:
    """SGN-9: a target outside `<model>/<version>/<profile>` is refused though it is signed."""
    expires = dt.datetime.now(dt.UTC).replace(microsecond=0) + dt.timedelta(days=9)
    targets = [signing.artifact_target("har/1.0/x86-64", b"manifest", 1)]
    foreign = TargetFile.from_data("x", b"manifest", ["sha256"])
    foreign.path = path
    foreign.unrecognized_fields["custom"] = {"counter": 1}
    data = signing.add_targets(None, [*targets, foreign], expires, [signing.load_private(fleet.pipeline)])
    with pytest.raises(ForeignTargetError):
        check(fleet, data)


@pytest.mark.parametrize(
    ("hashes", "length"),
    [({"sha512": "ab" * 64}, 8), ({"sha256": "ab"}, 8), ({"sha256": "ab" * 32}, 1)],
    ids=["another hash", "a short hash", "no manifest"],
)
def test_hash_and_length_are_needed(fleet: Fleet, hashes: dict[str, str], length: int) -> None:
    """SGN-9: a device holds bytes against SHA-256 and length: a target without them is refused though it is signed."""
    target = TargetFile(length, hashes, "har/1.0/x86-64", {"custom": {"counter": 1}})
    expires = dt.datetime.now(dt.UTC).replace(microsecond=0) + dt.timedelta(days=9)
    data = signing.add_targets(None, [target], expires, [signing.load_private(fleet.pipeline)])
    with pytest.raises(ForeignTargetError, match="SHA-256"):
        check(fleet, data)


def test_another_kind_of_metadata_is_named(fleet: Fleet) -> None:
    """SGN-13: a snapshot is no release, whoever signed it; it is refused for what it is."""
    with pytest.raises(MetadataRefusedError, match="targets expected"):
        check(fleet, TrustRepository(fleet.home / "trust").read("snapshot.json"))


@pytest.mark.parametrize("counter", [0, -1, True, "1", None])
def test_counter_is_needed(fleet: Fleet, counter: object) -> None:
    """SGN-9: a target without a positive integer counter is refused."""
    with pytest.raises(ForeignTargetError, match="counter"):
        check(fleet, fleet.role(("1.0", counter)))  # type: ignore[arg-type]


def test_fractions_are_refused(fleet: Fleet) -> None:
    """SGN-13: what canonical JSON cannot express cannot have been signed."""
    data = fleet.role(("1.0", 1)).replace(b'"counter":1', b'"counter":1.5')
    with pytest.raises(SignatureThresholdError):
        check(fleet, data)


def test_rollback_is_refused(fleet: Fleet, signer: Signer) -> None:
    """SGN-10: what is published is only replaced by a higher version; the same bytes are accepted again."""
    first = fleet.role(("1.0", 1))
    second = fleet.role(("1.1", 2), current=first)
    publish(signer, second)
    assert check(fleet, second)
    with pytest.raises(RolledBackMetadataError):
        check(fleet, first)
    with pytest.raises(RolledBackMetadataError):
        check(fleet, fleet.role(("1.2", 3), current=first))


def test_published_artifacts_keep_their_bytes(fleet: Fleet, signer: Signer) -> None:
    """SGN-11: a published version cannot be replaced by other bytes or another counter, by nobody."""
    first = fleet.role(("1.0", 1))
    publish(signer, first)
    with pytest.raises(ChangedTargetError):
        check(fleet, fleet.role(("1.0", 1), current=first, content="other"))
    with pytest.raises(ChangedTargetError):
        check(fleet, fleet.role(("1.0", 2), current=first))


def test_expiry(fleet: Fleet) -> None:
    """SGN-12: an expired role is refused, and nothing is accepted below expired targets."""
    with pytest.raises(MetadataRefusedError, match="expired"):
        check(fleet, fleet.role(("1.0", 1), days=1), days=2)
    with pytest.raises(TrustBrokenError, match="targets expired"):
        check(fleet, fleet.role(("1.0", 1), days=700), days=400)


@pytest.mark.parametrize(
    "make",
    [
        lambda fleet: b"",
        lambda fleet: b"{}",
        lambda fleet: b"\xff\xfe",
        lambda fleet: b"[" * 100_000,
        lambda fleet: TrustRepository(fleet.home / "trust").read("snapshot.json"),
    ],
)
def test_other_documents_are_refused(fleet: Fleet, make: Callable[[Fleet], bytes]) -> None:
    """SGN-13: whatever is no targets metadata ends in a named error."""
    with pytest.raises(MetadataRefusedError):
        check(fleet, make(fleet))


def test_top_level_targets_are_no_release(fleet: Fleet) -> None:
    """SGN-8: the top-level targets role itself cannot be uploaded as a model's."""
    with pytest.raises(SignatureThresholdError):
        check(fleet, TrustRepository(fleet.home / "trust").read("targets.json"))


def test_size_is_bounded(fleet: Fleet) -> None:
    """SGN-13: the limit in bytes comes before the parser."""
    with pytest.raises(TooLargeError):
        check(fleet, b"{" * (limits.ROLE_BYTES + 1))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(st.data())
def test_every_changed_byte_is_refused(fleet: Fleet, data: st.DataObject) -> None:
    """SGN-8: no change of a signed role is accepted, except one that does not change its meaning."""
    role = bytearray(fleet.role(("1.0", 1)))
    at = data.draw(st.integers(0, len(role) - 1))
    role[at] = data.draw(st.integers(0, 255).filter(lambda value: value != role[at]))
    try:
        check(fleet, bytes(role))
    except FleetError:
        return
    original = Metadata[Targets].from_bytes(fleet.role(("1.0", 1)))
    assert Metadata[Targets].from_bytes(bytes(role)).signed.targets == original.signed.targets


def publish(signer: Signer, data: bytes) -> None:
    answer = signer.handle({"op": "publish", "model": "har", "metadata": data.decode()})
    assert answer["ok"], answer

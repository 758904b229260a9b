"""A role keeps its size however many releases a model has had."""

from __future__ import annotations

import datetime as dt
import gzip
import json
import os

from tuf.api.metadata import DelegatedRole, Delegations, Metadata, MetaFile, Snapshot, TargetFile, Targets

import outrider_profiles
from outrider_compiler.retention import leaving, with_room
from outrider_protocol import director, limits, signing
from outrider_protocol.messages import TrustOnline
from tests.agent.supervisor.house import Trust

LATER = dt.datetime(2030, 1, 1, tzinfo=dt.UTC)


def role_of(releases: int, profiles: int) -> bytes:
    """A role grown release by release, as a pipeline does it."""
    key, current = signing.generate(), None
    for version in range(releases):
        names = outrider_profiles.names()[:profiles]
        targets = [signing.artifact_target(f"har/{version}.0/{p}", os.urandom(3000), version + 1) for p in names]
        if current is not None:
            current, _ = with_room(current, len(targets))
        current = signing.add_targets(current, targets, LATER, [key])
    assert current is not None
    return current


def listed(role: bytes) -> dict[str, int]:
    return {path: target["custom"]["counter"] for path, target in json.loads(role)["signed"]["targets"].items()}


def test_the_oldest_releases_leave_whole() -> None:
    """CMP-ROL-1: at most so many artifacts; lowest counters first, never a part of a release, never the new one."""
    found = listed(role_of(releases=40, profiles=4))
    assert len(found) == limits.ROLE_TARGETS
    assert sorted(set(found.values())) == list(range(17, 41))
    assert len(listed(role_of(releases=9, profiles=10))) == 90
    assert sorted(set(listed(role_of(releases=12, profiles=10)).values())) == list(range(4, 13))


def test_what_stays_and_what_is_no_role() -> None:
    """CMP-ROL-1: below the bound nothing leaves; nonsense comes back as it was, for the signer to refuse."""
    small = role_of(releases=3, profiles=4)
    assert with_room(small, 4)[1] == []
    for nonsense in (b"", b"{}", b"[]", b'{"signed":{"targets":{"a":1}}}'):
        assert with_room(nonsense, 4) == (nonsense, [])
    assert leaving({}, 0) == []


def test_the_bundle_of_one_model_family() -> None:
    """CMP-ROL-2: online metadata and a full role are at most 8 KB gzipped, with ten model families in the fleet."""
    role = role_of(releases=30, profiles=4)
    online = online_of(families=10)
    together = len(gzip.compress(online + role, 9))
    print(f"bundle for one model family: {len(online) + len(role)} bytes, {together} gzipped")
    assert len(listed(role)) == limits.ROLE_TARGETS
    assert together <= limits.BUNDLE_GZIP_BYTES


def online_of(families: int) -> bytes:
    """`online.json` of a fleet with so many model families, each with a pipeline, a floor and a role of its own."""
    trust = Trust()
    trust.min_counter = {f"model-{n}": n + 1 for n in range(families)}
    online = TrustOnline.decode(trust.messages()["o1/trust/online"])
    keys = {f"model-{n}": signing.tuf_key(signing.generate()) for n in range(families)}
    targets = Metadata[Targets].from_bytes(online.targets.encode()).signed
    targets.delegations = Delegations(
        {key.keyid: key for key in keys.values()},
        {name: DelegatedRole(name, [key.keyid], 1, True, paths=[f"{name}/*/*"]) for name, key in keys.items()},
    )
    floors = director.Floors(trust.min_counter).encode()
    targets.targets[director.FLOORS_TARGET] = TargetFile.from_data(director.FLOORS_TARGET, floors, ["sha256"])
    snapshot = Metadata[Snapshot].from_bytes(online.snapshot.encode()).signed
    snapshot.meta = {f"{name}.json": MetaFile.from_data(3, os.urandom(99), ["sha256"]) for name in ("targets", *keys)}
    signed = [
        signing.sign_role(role, [trust.keys[name]]).decode()
        for role, name in ((snapshot, "snapshot"), (targets, "targets"))
    ]
    return TrustOnline(1, online.timestamp, *signed, online.files).encode()

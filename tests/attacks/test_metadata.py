"""Attacks on trust metadata: the fleet orders a new release, and the attacker answers the device's questions.

Each row: the keys in hand, what is offered in place of the fleet's documents, what the agent must report. The order is
the fleet's own and right. `moves` are documents that the stolen keys may rightly move.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from pathlib import Path

import pytest
from tuf.api.metadata import Metadata, MetaFile, Snapshot, TargetFile, Targets, Timestamp

from outrider_protocol import limits, signing, topics
from outrider_protocol.director import DIRECTOR_TARGET, FLOORS_TARGET, Director, Floors
from tests.agent.supervisor.house import FLEET
from tests.attacks.attacker import NOTHING, ONLINE, OWN, SERVER, Attacker, Forge, Offer, newest_root
from tests.attacks.siege import Refusal, Siege

UNTRUSTED, MALFORMED, TOO_LARGE = map(Refusal, ("UntrustedMetadataError", "MalformedError", "TooLargeError"))
EXPIRED, NO_ROOT, SILENT = (
    Refusal(name, None) for name in ("TrustExpiredError", "RootMissingError", "CannotRefreshError")
)
BROKER, FOLDER = "broker", "folder"
MODEL = topics.trust_model("har")
STAMPED = frozenset({"timestamp.json"})
SNAPPED = STAMPED | {"snapshot.json"}


# -------------------------------------------------------------------- arbitrary software


def unsigned(_: Attacker, offer: Offer) -> Offer:
    metadata: Metadata[Timestamp] = Metadata.from_bytes(offer.online.timestamp.encode())
    metadata.signatures.clear()
    return offer.with_online(timestamp=metadata.to_bytes().decode())


def all_foreign(attacker: Attacker, offer: Offer) -> Offer:
    signed = offer.with_message(MODEL, attacker.sign(offer.role(Targets, "har"), OWN))
    signed = signed.with_online(targets=attacker.sign(offer.role(Targets, "targets"), OWN).decode())
    return attacker.pin(signed, timestamp=OWN, snapshot=OWN)


def changed_role(_: Attacker, offer: Offer) -> Offer:
    return offer.with_message(MODEL, offer.messages[MODEL].replace(b'"counter":9', b'"counter":8'))


def own_role_pinned(attacker: Attacker, offer: Offer) -> Offer:
    role = offer.role(Targets, "har")
    role.version += 1
    return attacker.pin(offer.with_message(MODEL, attacker.sign(role, OWN)), har=role.version)


def role_not_pinned(attacker: Attacker, offer: Offer) -> Offer:
    role = offer.role(Targets, "har")
    role.version += 1
    return offer.with_message(MODEL, attacker.sign(role, "pipeline"))


def targets_not_pinned(attacker: Attacker, offer: Offer) -> Offer:
    role = offer.role(Targets, "targets")
    role.version += 1
    return offer.with_online(targets=attacker.sign(role, "targets").decode())


def own_role_unpinned(attacker: Attacker, offer: Offer) -> Offer:
    """Under the version that the snapshot lists."""
    role = Targets(offer.role(Targets, "har").version, expires=offer.role(Targets, "har").expires)
    role.targets["har/6.6/x86-64"] = signing.artifact_target("har/6.6/x86-64", b"foreign", 9)
    return offer.with_message(MODEL, attacker.sign(role, OWN))


# -------------------------------------------------------------------- roots


def foreign_root(attacker: Attacker, offer: Offer) -> Offer:
    root = newest_root(offer)
    root.add_key(signing.tuf_key(attacker.own), "timestamp")
    return offer.with_root(root.version, attacker.sign(root, OWN))


def root_by_one(attacker: Attacker, offer: Offer) -> Offer:
    root = newest_root(offer)
    root.add_key(signing.tuf_key(attacker.own), "timestamp")
    return offer.with_root(root.version, attacker.sign(root, "root-1"))


def root_by_one_twice(attacker: Attacker, offer: Offer) -> Offer:
    """The attacker's root lists its own key and asks for one signature; the former root asked for two."""
    root = newest_root(offer)
    root.add_key(signing.tuf_key(attacker.own), "root")
    root.roles["root"].threshold = 1
    return offer.with_root(root.version, attacker.sign(root, "root-1", OWN))


def first_root_again(_: Attacker, offer: Offer) -> Offer:
    return offer.with_root(2, offer.messages[topics.trust_root(1)])


def no_such_root(_: Attacker, offer: Offer) -> Offer:
    return offer.with_online(root_version=limits.SEQ_MAX)


def garbage_roots(_: Attacker, offer: Offer) -> Offer:
    for number in range(2, 40):
        offer = offer.with_message(topics.trust_root(number), b'{"signed":{},"signatures":[]}')
    return offer.with_online(root_version=39)


# -------------------------------------------------------------------- rollback


def whole_bundle_of_before(attacker: Attacker, _: Offer) -> Offer:
    return Offer(attacker.world.offered[0])


def older_snapshot(attacker: Attacker, offer: Offer) -> Offer:
    old = Offer(attacker.world.offered[0])
    stamp = attacker.stamp(offer, old.role(Snapshot, "snapshot").version)
    text = attacker.sign(stamp, "timestamp").decode()
    return offer.with_online(snapshot=old.online.snapshot, timestamp=text)


def older_targets(attacker: Attacker, offer: Offer) -> Offer:
    old = Offer(attacker.world.offered[0])
    return attacker.pin(offer.with_online(targets=old.online.targets), targets=old.role(Targets, "targets").version)


def older_role(attacker: Attacker, offer: Offer) -> Offer:
    old = Offer(attacker.world.offered[0])
    return attacker.pin(offer.with_message(MODEL, old.messages[MODEL]), har=old.role(Targets, "har").version)


def vanished_role(attacker: Attacker, offer: Offer) -> Offer:
    return attacker.pin(offer, har=None)


# -------------------------------------------------------------------- freeze


def expired_timestamp(attacker: Attacker, _: Offer) -> Offer:
    """What the fleet signed a while ago and the network has held back since."""
    return Offer(expired(attacker))


def expired(attacker: Attacker) -> dict[str, bytes]:
    """The fleet's own bundle, whose life is over."""
    fleet = attacker.world.trust
    fleet.expires_s, kept = -3600.0, fleet.expires_s
    attacker.world.offered.append(fleet.messages())
    fleet.expires_s = kept
    return attacker.world.offered[-1]


def expired_snapshot(attacker: Attacker, offer: Offer) -> Offer:
    """A fresh timestamp over a snapshot whose life is over."""
    snapshot = offer.role(Snapshot, "snapshot")
    snapshot.version += 1
    snapshot.expires -= dt.timedelta(days=30)
    stamped = offer.with_online(snapshot=attacker.sign(snapshot, "snapshot").decode())
    return stamped.with_online(timestamp=attacker.sign(attacker.stamp(stamped, snapshot.version), "timestamp").decode())


def withheld(_: Attacker, offer: Offer) -> Offer:
    return offer.without(topics.TRUST_ONLINE)


def withheld_role(_: Attacker, offer: Offer) -> Offer:
    return offer.without(MODEL)


# -------------------------------------------------------------------- mix-and-match


def targets_of_before(attacker: Attacker, offer: Offer) -> Offer:
    return offer.with_online(targets=Offer(attacker.world.offered[0]).online.targets)


def snapshot_of_before(attacker: Attacker, offer: Offer) -> Offer:
    return offer.with_online(snapshot=Offer(attacker.world.offered[0]).online.snapshot)


def role_of_before(attacker: Attacker, offer: Offer) -> Offer:
    return offer.with_message(MODEL, attacker.world.offered[0][MODEL])


def snapshot_as_timestamp(_: Attacker, offer: Offer) -> Offer:
    return offer.with_online(timestamp=offer.online.snapshot)


def timestamp_of_another_version(attacker: Attacker, offer: Offer) -> Offer:
    role = offer.role(Timestamp, "timestamp")
    role.version += 1
    role.snapshot_meta = MetaFile(role.snapshot_meta.version + 7)
    return offer.with_online(timestamp=attacker.sign(role, "timestamp").decode())


# -------------------------------------------------------------------- endless and malformed


def endless_online(_: Attacker, offer: Offer) -> Offer:
    return offer.with_message(topics.TRUST_ONLINE, b" " * (limits.TRUST_ONLINE_BYTES + 1))


def endless_role(_: Attacker, offer: Offer) -> Offer:
    return offer.with_message(MODEL, b" " * 40 * limits.MIB)


def endless_root(_: Attacker, offer: Offer) -> Offer:
    return offer.with_root(2, b" " * (limits.ROOT_BYTES + 1))


def endless_director(_: Attacker, offer: Offer) -> Offer:
    return offer.with_file(DIRECTOR_TARGET, " " * (limits.DIRECTOR_BYTES + 1))


def nonsense(_: Attacker, offer: Offer) -> Offer:
    return offer.with_message(topics.TRUST_ONLINE, bytes(range(256)))


def nested(_: Attacker, offer: Offer) -> Offer:
    return offer.with_message(topics.TRUST_ONLINE, b'{"files":' + b"[" * 60_000)


def nested_timestamp(_: Attacker, offer: Offer) -> Offer:
    return offer.with_online(timestamp="[" * 60_000)


def surrogates(_: Attacker, offer: Offer) -> Offer:
    """Text that JSON can say and UTF-8 cannot carry."""
    marked = offer.with_file(DIRECTOR_TARGET, "here")
    return marked.with_message(
        topics.TRUST_ONLINE, marked.messages[topics.TRUST_ONLINE].replace(b'"here"', b'"\\ud800"')
    )


def escaped_surrogates(_: Attacker, offer: Offer) -> Offer:
    """The same one level down, where python-tuf reads it."""
    text = offer.online.timestamp.replace('"spec_version":"', '"spec_version":"\\ud800')
    return offer.with_online(timestamp=text)


# -------------------------------------------------------------------- who may order, and what


def own_director(attacker: Attacker, offer: Offer) -> Offer:
    key = signing.public_bytes(attacker.own).hex()
    return offer.with_file(DIRECTOR_TARGET, Director(FLEET, 2, (key,), reset_time_floor=True).encode().decode())


def own_director_pinned(attacker: Attacker, offer: Offer) -> Offer:
    """Online keys sign whatever they can around it."""
    return attacker.pin(own_director(attacker, offer))


def own_director_in_the_models_role(attacker: Attacker, offer: Offer) -> Offer:
    """A pipeline lists what only the top-level targets may."""
    changed, role = own_director(attacker, offer), offer.role(Targets, "har")
    data = changed.online.files[DIRECTOR_TARGET].encode()
    role.version += 1
    role.targets = {DIRECTOR_TARGET: TargetFile.from_data(DIRECTOR_TARGET, data, ["sha256"]), **role.targets}
    return attacker.pin(changed.with_message(MODEL, attacker.sign(role, "pipeline")), har=role.version)


def no_floors(_: Attacker, offer: Offer) -> Offer:
    return offer.with_file(FLOORS_TARGET, Floors({"har": 1}).encode().decode() + " ")


@dataclass(frozen=True)
class Row:
    """One attack."""

    keys: frozenset[str]
    forge: Forge
    refusal: Refusal
    by: str = FOLDER
    moves: frozenset[str] = NOTHING


PIPELINE = frozenset({"pipeline"})
ROWS = [
    # arbitrary software
    Row(NOTHING, unsigned, UNTRUSTED, BROKER),
    Row(NOTHING, all_foreign, UNTRUSTED),
    Row(NOTHING, changed_role, UNTRUSTED),
    Row(ONLINE, own_role_pinned, UNTRUSTED, moves=SNAPPED),
    Row(PIPELINE, role_not_pinned, UNTRUSTED, BROKER),
    Row(PIPELINE | {"director"}, role_not_pinned, UNTRUSTED),
    Row(frozenset({"targets"}), targets_not_pinned, UNTRUSTED),
    Row(NOTHING, own_role_unpinned, UNTRUSTED),
    # roots
    Row(NOTHING, foreign_root, UNTRUSTED, BROKER),
    Row(frozenset({"root-1"}), root_by_one, UNTRUSTED),
    Row(frozenset({"root-1"}), root_by_one_twice, UNTRUSTED),
    Row(NOTHING, first_root_again, UNTRUSTED),
    Row(NOTHING, no_such_root, NO_ROOT),
    Row(NOTHING, garbage_roots, UNTRUSTED),
    # rollback
    Row(NOTHING, whole_bundle_of_before, UNTRUSTED, BROKER),
    Row(frozenset({"timestamp"}), older_snapshot, UNTRUSTED),
    Row(ONLINE, older_targets, UNTRUSTED, moves=SNAPPED),
    Row(ONLINE, older_role, UNTRUSTED, moves=SNAPPED),
    Row(ONLINE, vanished_role, UNTRUSTED, moves=SNAPPED),
    # freeze
    Row(NOTHING, expired_timestamp, EXPIRED, BROKER),
    Row(ONLINE, expired_snapshot, EXPIRED, moves=SNAPPED),
    Row(NOTHING, withheld, SILENT),
    Row(NOTHING, withheld_role, SILENT),
    # mix-and-match
    Row(NOTHING, targets_of_before, UNTRUSTED),
    Row(NOTHING, snapshot_of_before, UNTRUSTED),
    Row(NOTHING, role_of_before, UNTRUSTED),
    Row(NOTHING, snapshot_as_timestamp, UNTRUSTED),
    Row(frozenset({"timestamp"}), timestamp_of_another_version, UNTRUSTED, moves=STAMPED),
    # endless and malformed
    Row(NOTHING, endless_online, TOO_LARGE),
    Row(NOTHING, endless_role, TOO_LARGE),
    Row(NOTHING, endless_root, TOO_LARGE, BROKER),
    Row(NOTHING, endless_director, MALFORMED),
    Row(NOTHING, nonsense, MALFORMED),
    Row(NOTHING, nested, MALFORMED),
    Row(NOTHING, nested_timestamp, UNTRUSTED),
    Row(NOTHING, surrogates, MALFORMED),
    Row(NOTHING, escaped_surrogates, UNTRUSTED),
    # who may order, and what
    Row(NOTHING, own_director, UNTRUSTED, BROKER),
    Row(SERVER, own_director_pinned, UNTRUSTED, moves=SNAPPED),
    Row(PIPELINE | ONLINE, own_director_in_the_models_role, UNTRUSTED, moves=SNAPPED | {"har.json"}),
    Row(NOTHING, no_floors, UNTRUSTED),
]


def name_of(row: Row) -> str:
    return f"{row.forge.__name__}-by-{'+'.join(sorted(row.keys)) or 'network'}-{row.by}"


@pytest.mark.parametrize("row", ROWS, ids=name_of)
def test_metadata(siege: Siege, row: Row, tmp_path: Path) -> None:
    """ATK-1, ATK-2 and ATK-9: TRU-1 and TRU-2 hold whatever is offered; what the fleet signed stands."""
    order = siege.list_release()
    envelope = siege.world.trust.order(order)
    attacker = siege.attacker(row.keys)
    offer = row.forge(attacker, Offer(siege.world.offered[-1]))
    try:
        with siege.withstands(moves=row.moves):
            if row.by == BROKER:
                attacker.publish(offer)
                siege.desire(envelope)
            else:
                siege.carry(envelope, offer, tmp_path / "stick")
            siege.refused(row.refusal, order.seq)
    finally:
        siege.heal()


def test_the_fleet_is_heard_again(siege: Siege) -> None:
    """ATK-1: after all of these the fleet's next order is taken as if nothing had been."""
    siege.obeys()

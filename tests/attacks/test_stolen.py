"""Stolen keys together: what no theft short of two root keys gives, and what a poisoned device needs to recover.

The tests that move floors run one after the other on one agent; each ends with the fleet in charge again.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tuf.api.metadata import Metadata, Root, TargetFile, Targets, Timestamp

from outrider_protocol import ids, limits, signing, topics
from outrider_protocol.director import DIRECTOR_TARGET, Director
from outrider_protocol.order import Order
from tests.agent.supervisor.house import FLEET, PROFILE, until
from tests.attacks.attacker import FOREIGN, NOTHING, ONLINE, OWN, SERVER, Attacker, Offer
from tests.attacks.siege import Refusal, Siege

UNTRUSTED, SIGNATURE, TIME, SEQUENCE = (
    Refusal(f"{name}Error") for name in ("UntrustedMetadata", "Signature", "OrderTime", "OrderSequence")
)
NO_ARTIFACT = Refusal("NoArtifactError", "no_artifact")
MODEL = topics.trust_model("har")
SNAPPED = frozenset({"timestamp.json", "snapshot.json"})
THE_TIME = frozenset({"director", "timestamp"})
IN_2099 = dt.datetime(2099, 1, 1, tzinfo=dt.UTC)
IN_2099_MS = int(IN_2099.timestamp() * 1000)

# -------------------------------------------------------------------- foreign models


def listed(offer: Offer, name: str = "har/6.6/x86-64") -> Targets:
    """The model's role with the attacker's release, at the next version."""
    role = offer.role(Targets, "har")
    role.version += 1
    role.targets[name] = signing.artifact_target(name, FOREIGN, 66)
    return role


def by_own_key(attacker: Attacker, offer: Offer) -> Offer:
    role = listed(offer)
    return attacker.pin(offer.with_message(MODEL, attacker.sign(role, OWN)), har=role.version)


def by_pipeline_unpinned(attacker: Attacker, offer: Offer) -> Offer:
    return offer.with_message(MODEL, attacker.sign(listed(offer), "pipeline"))


def by_pipeline_pinned(attacker: Attacker, offer: Offer) -> Offer:
    role = listed(offer)
    return attacker.pin(offer.with_message(MODEL, attacker.sign(role, "pipeline")), har=role.version)


def delegated_to_own_key(attacker: Attacker, offer: Offer) -> Offer:
    """By the targets key; snapshot and timestamp pin what was before."""
    targets = offer.role(Targets, "targets")
    targets.version += 1
    targets.add_key(signing.tuf_key(attacker.own), "har")
    changed = offer.with_online(targets=attacker.sign(targets, "targets").decode())
    return changed.with_message(MODEL, attacker.sign(listed(offer), OWN))


def another_model(attacker: Attacker, offer: Offer) -> Offer:
    """A pipeline lists what lies outside its paths, under its own name and as the other model's role."""
    role = listed(offer, f"anomaly/6.6/{PROFILE}")
    data = attacker.sign(role, "pipeline")
    offer = offer.with_message(MODEL, data).with_message(topics.trust_model("anomaly"), data)
    return attacker.pin(offer, har=role.version)


@dataclass(frozen=True)
class Row:
    """One theft."""

    keys: frozenset[str]
    forge: Callable[[Attacker, Offer], Offer]
    orders_by: str
    refusal: Refusal
    moves: frozenset[str] = NOTHING
    model: str = "har"


PIPELINE = frozenset({"pipeline"})
ROWS = [
    Row(PIPELINE, by_pipeline_unpinned, OWN, UNTRUSTED),
    Row(PIPELINE | {"director"}, by_pipeline_unpinned, "director", UNTRUSTED),
    Row(PIPELINE | {"targets", "root-1"}, by_pipeline_unpinned, "targets", UNTRUSTED),
    Row(frozenset({"targets", "director"}), delegated_to_own_key, "director", UNTRUSTED),
    Row(SERVER, by_own_key, "director", UNTRUSTED, SNAPPED),
    Row(SERVER | {"root-1"}, by_own_key, "director", UNTRUSTED, SNAPPED),
    Row(PIPELINE | ONLINE, by_pipeline_pinned, OWN, SIGNATURE, SNAPPED | {"har.json"}),
    Row(PIPELINE | ONLINE, by_pipeline_pinned, "pipeline", SIGNATURE, SNAPPED | {"har.json"}),
    Row(PIPELINE | SERVER, another_model, "director", NO_ARTIFACT, SNAPPED | {"har.json"}, "anomaly"),
]


def foreign(siege: Siege, model: str = "har") -> Order:
    """An order for the attacker's release."""
    named = {"manifest": ids.digest_of(FOREIGN), "manifest_bytes": len(FOREIGN)}
    return siege.order(siege.first, release="6.6", counter=66, model=model, **named)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.forge.__name__}-by-{'+'.join(sorted(row.keys))}")
def test_foreign_models(siege: Siege, row: Row, tmp_path: Path) -> None:
    """ATK-4: TRU-2, TRU-4 and TRU-8: it takes the pipeline's, the online and the director's key at once."""
    attacker = siege.attacker(row.keys)
    siege.heal()
    order = foreign(siege, row.model)
    offer = row.forge(attacker, Offer(siege.world.offered[-1]))
    with siege.withstands(moves=row.moves):
        siege.carry(attacker.order(order, row.orders_by), offer, tmp_path / "stick")
        siege.refused(row.refusal, order.seq)
    siege.world.trust.version += 5
    siege.heal()


def test_what_a_director_may_choose(siege: Siege) -> None:
    """ATK-4: the director's key alone orders what the fleet has signed, for this board: the limit of what it gives."""
    siege.obeys()
    order = siege.order(siege.first)
    with siege.withstands(taken=order.seq):
        siege.desire(siege.attacker(frozenset({"director"})).order(order, "director"))
        siege.world.ended(order.seq, "already_installed")


def test_updates_held_back_until_root_rotates(siege: Siege) -> None:
    """ATK-4: TRU-2: online keys list a role that the fleet has not got; what runs goes on, a new root undoes it."""
    attacker = siege.attacker(ONLINE)
    siege.heal()
    attacker.publish(attacker.pin(Offer(siege.world.offered[-1]), nobody=1))
    siege.obeys()
    siege.heal()
    with siege.withstands(moves=SNAPPED):
        siege.desire(siege.world.trust.order(held_back := siege.order(siege.first)))
        siege.refused(UNTRUSTED, held_back.seq)
    rotate(siege, "snapshot", "timestamp")
    siege.heal()
    siege.obeys()


# -------------------------------------------------------------------- poisoned floors


def test_a_sequence_at_its_end(siege: Siege) -> None:
    """ATK-10: a stolen director takes the last sequence there is: a new director begins a new epoch at 1."""
    attacker, epoch = siege.attacker(frozenset({"director"})), siege.world.trust.epoch
    last = siege.order(siege.first, seq=limits.SEQ_MAX)
    siege.desire(attacker.order(last, "director"))
    siege.world.ended(last.seq, "already_installed", epoch)
    for seq in (2**53, 2**63):
        beyond = siege.order(siege.first, seq=seq)
        with siege.withstands():
            siege.desire(attacker.order(beyond, "director"))
            siege.refused(Refusal("MalformedError", None), None)
    with siege.withstands():
        siege.desire(siege.world.trust.order(locked_out := siege.order(siege.first)))
        siege.refused(SEQUENCE, locked_out.seq)
    siege.replace_director()
    siege.obeys()
    again = replace(last, exp_ms=last.exp_ms - 1)  # the very envelope of before is not judged twice within minutes
    for stale in (again, replace(last, epoch=siege.world.trust.epoch, seq=siege.world.next_seq())):
        with siege.withstands():
            siege.desire(attacker.order(stale, "director"))
            siege.refused(SIGNATURE, stale.seq)


def stretched(attacker: Attacker, offer: Offer) -> Offer:
    """A timestamp that expires in 2099."""
    role = offer.role(Timestamp, "timestamp")
    role.version += 1
    role.expires = IN_2099 + dt.timedelta(days=60)
    return offer.with_online(timestamp=attacker.sign(role, "timestamp").decode())


def as_late_as_believed(siege: Siege) -> int:
    """Milliseconds since 1970: a minute before the first end of the trusted root and targets."""
    roots = siege.world.trust.roots
    root = Metadata[Root].from_bytes(roots[max(roots)]).signed
    targets = Offer(siege.world.offered[-1]).role(Targets, "targets")
    return int(min(root.expires, targets.expires).timestamp() * 1000) - 60_000


def poison_the_time(siege: Siege) -> Order:
    """A stolen director's order, as late as a stolen timestamp key's stretched timestamp makes it; it is accepted."""
    attacker = siege.attacker(THE_TIME)
    attacker.publish(stretched(attacker, Offer(siege.world.offered[-1])))
    at_ms = as_late_as_believed(siege)
    late = siege.order(siege.first, iat_ms=at_ms, exp_ms=at_ms + 86_400_000)
    siege.desire(attacker.order(late, "director"))
    siege.world.ended(late.seq, "already_installed", late.epoch)
    assert siege.standing().floors["time_ms"] == at_ms
    return late


def rotate(siege: Siege, *names: str) -> None:
    """The ceremony after a theft of online keys: new ones, in a new root by two of three."""
    siege.world.trust.keys |= {name: signing.generate() for name in names}
    siege.world.trust.new_root()


def test_a_time_beyond_the_offline_keys(siege: Siege) -> None:
    """ATK-10: TRU-6: a stretched timestamp lets no order date beyond root and targets: 2099 is refused."""
    attacker = siege.attacker(THE_TIME)
    siege.heal()
    attacker.publish(stretched(attacker, Offer(siege.world.offered[-1])))
    order = siege.order(siege.first, iat_ms=IN_2099_MS, exp_ms=IN_2099_MS + 86_400_000)
    with siege.withstands(moves=frozenset({"timestamp.json"})):
        siege.desire(attacker.order(order, "director"))
        siege.refused(TIME, order.seq)
    rotate(siege, "timestamp")
    siege.heal()
    siege.obeys()


def test_a_time_as_far_ahead_as_can_be(siege: Siege) -> None:
    """ATK-10: TRU-6: the floor goes as far as root and targets; the device still connects, a new director undoes it."""
    late = poison_the_time(siege)
    with siege.withstands(moves=frozenset({"timestamp.json"})):
        siege.desire(siege.world.trust.order(locked_out := siege.order(siege.first)))
        siege.refused(TIME, locked_out.seq)
    siege.world.agent.stop()
    siege.world.agent.start()
    until(lambda: until(siege.world.status, "status")["connected"], "a connection")
    siege.world.infer(1)
    rotate(siege, "timestamp")
    siege.replace_director(reset_time_floor=True)
    siege.obeys()
    floors = siege.standing().floors
    assert floors["time_ms"] < late.iat_ms
    assert floors["epoch"] == late.epoch + 1


def test_an_older_epoch(siege: Siege) -> None:
    """ATK-10: TRU-3: targets and online keys bring back a former director's file: its epoch is over."""
    former, epoch = siege.world.trust.keys["director"], siege.world.trust.epoch
    siege.replace_director()
    siege.obeys()
    attacker = siege.attacker(ONLINE | {"targets"})
    attacker.stolen["former director"] = former
    siege.heal()
    with siege.withstands(moves=SNAPPED | {"targets.json", DIRECTOR_TARGET}):
        attacker.publish(with_director(attacker, Offer(siege.world.offered[-1]), former, epoch))
        order = siege.order(siege.first, epoch=epoch)
        siege.desire(attacker.order(order, "former director"))
        siege.refused(SEQUENCE, order.seq)
    siege.world.trust.version += 5
    siege.heal()
    siege.obeys()


def with_director(attacker: Attacker, offer: Offer, key: Ed25519PrivateKey, epoch: int) -> Offer:
    """Targets that name this director."""
    text = Director(FLEET, epoch, (signing.public_bytes(key).hex(),)).encode()
    role = offer.role(Targets, "targets")
    role.version += 1
    role.targets[DIRECTOR_TARGET] = TargetFile.from_data(DIRECTOR_TARGET, text, ["sha256"])
    signed = offer.with_file(DIRECTOR_TARGET, text.decode())
    signed = signed.with_online(targets=attacker.sign(role, "targets").decode())
    return attacker.pin(signed, targets=role.version)

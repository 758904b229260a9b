"""Attacks on orders, through the broker: the metadata are the fleet's, the envelope is the attacker's.

Each row: the keys in hand, the envelope, what the agent must report. `taken`: the order itself is right and moves the
floors, its parameters are not.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from outrider_protocol import dsse, ids, limits
from outrider_protocol.order import TYPE, Audience, Order
from tests.agent.supervisor.house import PROFILE, Artifact
from tests.attacks.attacker import FOREIGN, NOTHING, OWN, Attacker, Offer, now_ms
from tests.attacks.siege import Refusal, Siege

SIGNATURE, AUDIENCE, TIME, SEQUENCE, CONFLICT, TARGET, HARDWARE, FLOOR, PARAMETER, MALFORMED, TOO_LARGE = (
    Refusal(f"{name}Error")
    for name in (
        *("Signature", "WrongAudience", "OrderTime", "OrderSequence", "OrderConflict", "WrongTarget"),
        *("WrongHardware", "BelowFloor", "ParameterRange", "Malformed", "TooLarge"),
    )
)
NO_ARTIFACT = Refusal("NoArtifactError", "no_artifact")
UNREAD = Refusal("MalformedError", None)  # it cannot be read, so it names no execution that could end
UNREAD_LARGE, UNREAD_NEW = Refusal("TooLargeError", None), Refusal("UnsupportedError", None)
DIRECTOR = frozenset({"director"})
DAY_MS = 86_400_000
YEAR_2099_MS = 4_070_908_800_000

Make = Callable[[Attacker, Order], bytes]


def changed(*names: str, **changes: Any) -> Make:
    """The order with other fields, signed by these keys."""
    return lambda attacker, order: attacker.order(replace(order, **changes), *names)


def by_director(**changes: Any) -> Make:
    return changed("director", **changes)


def parameters(**values: Any) -> Make:
    return by_director(parameters=values)


def raw(edit: Callable[[str], str], *names: str) -> Make:
    """The payload's text, edited, as whoever holds no encoder would write it."""
    return lambda attacker, order: attacker.envelope(edit(order.encode().decode()).encode(), *names)


def fields(**changes: Any) -> Make:
    """Fields that no encoder of ours writes, unsigned."""

    def make(attacker: Attacker, order: Order) -> bytes:
        return attacker.envelope(json.dumps({**json.loads(order.encode()), **changes}).encode())

    return make


# -------------------------------------------------------------------- signatures


def unsigned(attacker: Attacker, order: Order) -> bytes:
    return attacker.order(order)


def claimed_key(attacker: Attacker, order: Order) -> bytes:
    """Signed by the attacker's key, under the director's key id."""
    envelope = dsse.Envelope.decode(attacker.order(order, OWN), limits.ORDER_BYTES)
    public = bytes.fromhex(attacker.world.trust.director().keys[0])
    return replace(envelope, signatures=((dsse.key_id(public), envelope.signatures[0][1]),)).encode()


def other_type(attacker: Attacker, order: Order) -> bytes:
    """What the director has signed as something else."""
    return attacker.envelope(order.encode(), "director", kind="application/vnd.outrider.audit-head.v1+json")


def relabelled(attacker: Attacker, order: Order) -> bytes:
    """The same, called an order."""
    envelope = dsse.Envelope.decode(other_type(attacker, order), limits.ORDER_BYTES)
    return replace(envelope, payload_type=TYPE).encode()


def swapped_payload(attacker: Attacker, order: Order) -> bytes:
    """The fleet's own signature over another payload."""
    envelope = dsse.Envelope.decode(attacker.world.trust.order(order), limits.ORDER_BYTES)
    return replace(envelope, payload=replace(order, release="0.9").encode()).encode()


def many_signatures(attacker: Attacker, order: Order) -> bytes:
    """A right one behind eight of the attacker's: no device looks at so many."""
    envelope = dsse.Envelope.decode(attacker.world.trust.order(order), limits.ORDER_BYTES)
    return replace(envelope, signatures=(("00" * 32, b"no"),) * 8 + envelope.signatures).encode()


# -------------------------------------------------------------------- bytes


def truncated(attacker: Attacker, order: Order) -> bytes:
    return attacker.world.trust.order(order)[:-40]


def oversized(attacker: Attacker, order: Order) -> bytes:
    return attacker.world.trust.order(order) + b" " * limits.ORDER_BYTES


def bomb(attacker: Attacker, order: Order) -> bytes:
    del attacker, order
    return b'{"payload":' + b"[" * 12_000


def nested_payload(attacker: Attacker, order: Order) -> bytes:
    deep = b'{"a":' * 60 + b"1" + b"}" * 60
    return attacker.envelope(order.encode()[:-1] + b',"more":' + deep + b"}")


def twice_in_envelope(attacker: Attacker, order: Order) -> bytes:
    return attacker.world.trust.order(order)[:-1] + b',"payload":"e30="}'


def not_base64(attacker: Attacker, order: Order) -> bytes:
    del attacker, order
    return json.dumps({"payloadType": TYPE, "payload": "ü", "signatures": []}).encode()


def not_utf8(attacker: Attacker, order: Order) -> bytes:
    return attacker.envelope(order.encode()[:-1] + b',"x":"\xff"}')


def not_canonical(attacker: Attacker, order: Order) -> bytes:
    """The fleet's signature over the same order, written with other white space."""
    value = json.loads(attacker.world.trust.order(order))
    payload = json.dumps(json.loads(base64.b64decode(value["payload"])), indent=1).encode()
    return json.dumps({**value, "payload": base64.b64encode(payload).decode()}, indent=1).encode()


def no_object(attacker: Attacker, order: Order) -> bytes:
    del attacker, order
    return b"[]"


def binary(attacker: Attacker, order: Order) -> bytes:
    del attacker, order
    return bytes(range(256)) * 4


# -------------------------------------------------------------------- artifacts that the order names


def unlisted(attacker: Attacker, order: Order) -> bytes:
    return attacker.order(replace(order, release="6.6"), "director")


def foreign_artifact(attacker: Attacker, order: Order) -> bytes:
    """A listed name over the attacker's own manifest."""
    return attacker.order(replace(order, manifest=ids.digest_of(FOREIGN), manifest_bytes=len(FOREIGN)), "director")


def other_board(attacker: Attacker, order: Order) -> bytes:
    """Right signatures all the way, for another board."""
    return attacker.order(replace(order, profile="other-board"), "director")


def other_device(attacker: Attacker, order: Order) -> bytes:
    """The fleet's own order for another device, replayed here."""
    return attacker.world.trust.order(replace(order, aud=Audience("dev-2", order.aud.key_sha256)))


def former_key(attacker: Attacker, order: Order) -> bytes:
    """The fleet's own order for what this device was before it was enrolled anew."""
    return attacker.world.trust.order(replace(order, aud=Audience("dev-1", "0" * 64)))


def held_back(attacker: Attacker, order: Order) -> bytes:
    """The fleet's own order, kept by the network for longer than it lives."""
    iat_ms = now_ms() - limits.ORDER_LIFETIME_MS - DAY_MS
    return attacker.world.trust.order(replace(order, iat_ms=iat_ms, exp_ms=iat_ms + limits.ORDER_LIFETIME_MS))


def of_2099(attacker: Attacker, order: Order) -> bytes:
    return attacker.order(replace(order, iat_ms=YEAR_2099_MS, exp_ms=YEAR_2099_MS + DAY_MS), "director")


@dataclass(frozen=True)
class Row:
    """One attack."""

    name: str
    keys: frozenset[str]
    make: Make
    refusal: Refusal
    taken: bool = False


SIGNED_BY = ("targets", "pipeline", "timestamp", "snapshot", "root-1")
ROWS = [
    # [TRU-4] who signed
    Row("unsigned", NOTHING, unsigned, SIGNATURE),
    Row("own-key", NOTHING, changed(OWN), SIGNATURE),
    Row("own-key-under-the-directors-id", NOTHING, claimed_key, SIGNATURE),
    *(Row("another-role", frozenset({name}), changed(name), SIGNATURE) for name in SIGNED_BY),
    Row("removal-by-own-key", NOTHING, changed(OWN, action="remove"), SIGNATURE),
    Row("another-type", DIRECTOR, other_type, SIGNATURE),
    Row("relabelled", DIRECTOR, relabelled, SIGNATURE),
    Row("swapped-payload", NOTHING, swapped_payload, SIGNATURE),
    Row("right-signature-behind-many", NOTHING, many_signatures, SIGNATURE),
    Row("not-canonical", NOTHING, not_canonical, SIGNATURE),
    # [TRU-1] bytes
    Row("truncated", NOTHING, truncated, UNREAD),
    Row("oversized", NOTHING, oversized, UNREAD_LARGE),
    Row("bomb", NOTHING, bomb, UNREAD),
    Row("nested-payload", NOTHING, nested_payload, UNREAD),
    Row("a-key-twice-in-the-envelope", NOTHING, twice_in_envelope, UNREAD),
    Row("a-key-twice-in-the-payload", NOTHING, raw(lambda text: text[:-1] + ',"seq":1}'), UNREAD),
    Row("not-base64", NOTHING, not_base64, UNREAD),
    Row("not-utf8", NOTHING, not_utf8, UNREAD),
    Row("no-object", NOTHING, no_object, UNREAD),
    Row("binary", NOTHING, binary, UNREAD),
    Row("crit-is-a-number", NOTHING, fields(crit=5), UNREAD),
    Row("crit-of-lists", NOTHING, fields(crit=[["v"]]), UNREAD),
    Row("unknown-critical-field", NOTHING, fields(crit=["exec"], exec="/bin/sh"), UNREAD_NEW),
    Row("unknown-action", NOTHING, fields(action="shell"), UNREAD_NEW),
    Row("lone-surrogate", NOTHING, fields(parameters={"\ud800": "x"}), UNREAD),
    Row("path-as-model", NOTHING, fields(model="../../etc"), UNREAD),
    Row("path-as-release", NOTHING, fields(release="../1.0"), UNREAD),
    Row("path-as-device", NOTHING, fields(aud={"device": "../dev-1", "key_sha256": ""}), UNREAD),
    Row("endless-manifest", DIRECTOR, by_director(manifest_bytes=limits.MANIFEST_BYTES + 1), UNREAD),
    # [TRU-5] for whom
    Row("another-devices-order", NOTHING, other_device, AUDIENCE),
    Row("a-former-keys-order", NOTHING, former_key, AUDIENCE),
    Row("another-fleet", DIRECTOR, by_director(fleet="other"), AUDIENCE),
    # [TRU-6] when
    Row("held-back-until-expired", NOTHING, held_back, TIME),
    Row("of-2099", DIRECTOR, of_2099, TIME),
    Row("older-than-the-last", DIRECTOR, by_director(iat_ms=1, exp_ms=2), TIME),
    Row("lives-too-long", DIRECTOR, by_director(exp_ms=YEAR_2099_MS), UNREAD),
    Row("time-beyond-numbers", DIRECTOR, by_director(iat_ms=2**63, exp_ms=2**63 + 1), UNREAD),
    # [TRU-7] in which order
    Row("epoch-ahead", DIRECTOR, by_director(epoch=7), SEQUENCE),
    Row("sequence-beyond-numbers", DIRECTOR, by_director(seq=2**63), UNREAD),
    # [TRU-8] what
    Row("unlisted", DIRECTOR, unlisted, NO_ARTIFACT),
    Row("foreign-artifact", DIRECTOR, foreign_artifact, TARGET),
    Row("another-counter", DIRECTOR, by_director(counter=9), TARGET),
    Row("another-length", DIRECTOR, by_director(manifest_bytes=77), TARGET),
    Row("another-releases-manifest", DIRECTOR, by_director(release="0.9", manifest_bytes=99), TARGET),
    # [TRU-9] for which board
    Row("another-board", DIRECTOR, other_board, HARDWARE),
    # [TRU-11] parameters
    Row("parameter-out-of-range", DIRECTOR, parameters(shadow_disagreement_max=2.0), PARAMETER, taken=True),
    Row("negative-parameter", DIRECTOR, parameters(probation_s=-1), PARAMETER, taken=True),
    Row("undeclared-parameter", DIRECTOR, parameters(path=1.0), PARAMETER, taken=True),
    Row("parameter-is-text", DIRECTOR, parameters(probation_s="/bin/sh"), UNREAD),
    Row("parameter-is-true", DIRECTOR, parameters(probation_s=True), UNREAD),
    *(
        Row(f"parameter-is-{name}", DIRECTOR, raw(lambda text, v=value: text.replace("{}", v), "director"), UNREAD)
        for name, value in (
            ("NaN", '{"probation_s":NaN}'),
            ("Infinity", '{"probation_s":Infinity}'),
            ("1e999", '{"probation_s":1e999}'),
            ("of-5000-digits", '{"probation_s":' + "9" * 5000 + "}"),
        )
    ),
]


@pytest.fixture(scope="module")
def wanted(siege: Siege) -> Artifact:
    """Release 1.1, which nobody has ordered; the same under another name, and for another board."""
    trust = siege.world.trust
    artifact = siege.world.artifact("1.1", seed=1)
    trust.release(f"har/0.9/{PROFILE}", artifact.encoded, 1)
    trust.release("har/1.1/other-board", artifact.encoded, 1)
    siege.world.publish(artifact)
    return artifact


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.name}-by-{'+'.join(sorted(row.keys)) or 'network'}")
def test_orders(siege: Siege, wanted: Artifact, row: Row) -> None:
    """ATK-3 and ATK-9: TRU-1, TRU-4, TRU-5, TRU-6, TRU-7, TRU-8, TRU-9 and TRU-11, each by its own error."""
    order = siege.order(wanted, parameters={})
    envelope = row.make(siege.attacker(row.keys), order)
    with siege.withstands(taken=order.seq if row.taken else None):
        siege.desire(envelope)
        siege.refused(row.refusal, order.seq)


@pytest.fixture
def last(siege: Siege) -> Order:
    """The order that the device has taken last: for what it runs already."""
    siege.desire(siege.world.trust.order(order := siege.order(siege.first)))
    siege.world.ended(order.seq, "already_installed")
    return order


def older(attacker: Attacker, last: Order) -> bytes:
    """The fleet's own order of a moment before."""
    before = replace(last, seq=last.seq - 1, iat_ms=last.iat_ms - 1, exp_ms=last.exp_ms - 1)
    return attacker.world.trust.order(before)


def lower_sequence(attacker: Attacker, last: Order) -> bytes:
    return attacker.order(replace(last, seq=last.seq - 1, iat_ms=now_ms()), "director")


def same_sequence(attacker: Attacker, last: Order) -> bytes:
    return attacker.order(replace(last, release="1.1"), "director")


REPLAYS = [
    ("an-older-order-by-network", NOTHING, older, TIME),
    ("a-lower-sequence-by-director", DIRECTOR, lower_sequence, SEQUENCE),
    ("the-same-sequence-by-director", DIRECTOR, same_sequence, CONFLICT),
]


@pytest.mark.parametrize(("name", "keys", "make", "refusal"), REPLAYS, ids=[row[0] for row in REPLAYS])
def test_replays(siege: Siege, last: Order, name: str, keys: frozenset[str], make: Make, refusal: Refusal) -> None:
    """ATK-3: TRU-6 and TRU-7: what was accepted is neither gone back behind nor replaced under its own number."""
    envelope = make(siege.attacker(keys), last)
    with siege.withstands():
        siege.desire(envelope)
        siege.refused(refusal, Order.decode(dsse.Envelope.decode(envelope, limits.ORDER_BYTES).payload).seq)


def test_the_last_order_again_in_another_dress(siege: Siege, wanted: Artifact, last: Order) -> None:
    """ATK-3: TRU-7: the same payload and signature in an envelope of other bytes is recognised, and begins nothing."""
    dressed = json.dumps(json.loads(siege.world.trust.order(last)), indent=2).encode()
    states = siege.world.server.states(last.seq)
    with siege.withstands():
        siege.desire(dressed)
        siege.desire(siege.attacker().order(order := siege.order(wanted)))
        siege.refused(SIGNATURE, order.seq)  # it looked at both
    assert siege.world.server.states(last.seq) == states


def test_an_order_that_no_process_is_started_for(siege: Siege, wanted: Artifact) -> None:
    """ATK-9: TRU-1: an order of 100 KiB ends in the supervisor; the next one is looked at."""
    with siege.withstands():
        siege.desire(b" " * 100 * limits.KIB)
        siege.desire(siege.attacker().order(order := siege.order(wanted)))
        siege.refused(SIGNATURE, order.seq)


@pytest.mark.parametrize("by", ["broker", "folder"])
def test_below_the_floor(siege: Siege, wanted: Artifact, by: str, tmp_path: Path) -> None:
    """ATK-3: TRU-10: the director's key rolls nothing back to what was declared unsafe."""
    siege.world.trust.min_counter = {"har": 2}
    siege.world.publish()
    envelope = siege.attacker(DIRECTOR).order(order := siege.order(wanted), "director")
    with siege.withstands():
        if by == "broker":
            siege.desire(envelope)
        else:
            siege.carry(envelope, Offer(siege.world.offered[-1]), tmp_path / "stick")
        siege.refused(FLOOR, order.seq)
    siege.world.trust.min_counter = {}
    siege.world.publish()


BY_FOLDER = ("unsigned", "another-devices-order", "of-2099", "another-board", "lone-surrogate")


@pytest.mark.parametrize("row", [row for row in ROWS if row.name in BY_FOLDER], ids=lambda row: row.name)
def test_orders_on_a_stick(siege: Siege, wanted: Artifact, row: Row, tmp_path: Path) -> None:
    """ATK-8: the same orders in a folder: the command says the same error and the hint, with status 3."""
    order = siege.order(wanted, parameters={})
    envelope = row.make(siege.attacker(row.keys), order)
    with siege.withstands():
        stick = siege.stick(envelope, Offer(siege.world.offered[-1]), tmp_path / "stick")
        done = siege.command("import", str(stick))
        assert done.returncode == 3
        assert row.refusal.error in done.stderr
        assert len(done.stderr.splitlines()) >= 2

"""Names, identifiers and topics."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider_protocol import ids, topics
from outrider_protocol.errors import MalformedError

DEVICES = st.from_regex(r"[a-z0-9-]{1,64}", fullmatch=True)


@pytest.mark.parametrize("bad", ["", "_fleet", "Device", "a/b", "a+", "#", "é", "a" * 65, "a\n"])
def test_device_id_alphabet(bad: str) -> None:
    """PRO-IDS-1: nothing outside the alphabet is a device id, so no server name can be one."""
    with pytest.raises(MalformedError):
        ids.device_id(bad)


@pytest.mark.parametrize("bad", ["sha256:", "sha256:" + "A" * 64, "sha512:" + "a" * 64, "a" * 64, "sha256:" + "a" * 63])
def test_digest_form(bad: str) -> None:
    """PRO-IDS-2: one written form of a digest."""
    with pytest.raises(MalformedError):
        ids.digest(bad)
    assert ids.digest(ids.digest_of(b"x")) == "sha256:" + ids.hex_of(ids.digest_of(b"x"))


@given(DEVICES, st.from_regex(r"[0-9a-f]{16}", fullmatch=True), st.integers(0, 2**53), st.integers(0, 10**6))
def test_prediction_id_round_trip(device: str, outbox: str, seq: int, index: int) -> None:
    """PRO-IDS-3: parse(str(id)) == id."""
    identifier = ids.PredictionId(device, outbox, seq, index)
    assert ids.PredictionId.parse(str(identifier)) == identifier


@pytest.mark.parametrize("bad", ["a/b/c", "dev/0011223344556677/-1/0", "dev/0011223344556677/1/²", "dev/x/1/1"])
def test_prediction_id_refuses(bad: str) -> None:
    """PRO-IDS-3: what is no prediction id is refused by name."""
    with pytest.raises(MalformedError):
        ids.PredictionId.parse(bad)


@pytest.mark.parametrize("name", ["online", "roots", "targets"])
def test_reserved_models(name: str) -> None:
    """PRO-IDS-4: `o1/trust/<model>` never collides with the fleet's own trust topics."""
    with pytest.raises(MalformedError):
        topics.trust_model(name)


@given(DEVICES)
def test_up_topics_parse(device: str) -> None:
    """PRO-TOP-1: what `topics` builds it parses, and no other shard passes."""
    assert topics.parse(topics.bulk(device)) == (device, "bulk")
    parts = topics.bulk(device).split("/")
    parts[1] = f"{(int(parts[1]) + 1) % ids.SHARDS:02d}"
    with pytest.raises(MalformedError):
        topics.parse("/".join(parts))


@pytest.mark.parametrize("bad", ["o1/03/dev-1/dn/ack", "o2/03/dev-1/up/bulk", "o1/03/dev-1/up/x", "o1/03/dev-1/up", ""])
def test_other_topics_refused(bad: str) -> None:
    """PRO-TOP-2: only upward topics of a device parse."""
    with pytest.raises(MalformedError):
        topics.parse(bad)

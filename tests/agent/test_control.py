"""The control channel's framing."""

from __future__ import annotations

import os
import socket
import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider_agent.control import FRAME_BYTES, Channel, Decoder, Message, frame
from outrider_agent.errors import ControlError

MESSAGES = st.lists(
    st.tuples(
        st.text(min_size=1, max_size=8),
        st.dictionaries(st.sampled_from(["a", "b"]), st.integers() | st.text(max_size=5)),
        st.none() | st.binary(max_size=50),
    ),
    max_size=6,
)


@given(MESSAGES, st.integers(1, 40))
def test_any_cut_of_the_bytes_gives_the_same_messages(messages: list[Any], step: int) -> None:
    """AGT-CTL-1: messages come out as they went in, however the stream is cut."""
    data = b"".join(frame(op, fields, blob) for op, fields, blob in messages)
    decoder, found = Decoder(), list[Message]()
    for start in range(0, len(data), step):
        found += decoder.feed(data[start : start + step])
    assert [(m.op, m.fields, m.blob) for m in found] == messages


@pytest.mark.parametrize(
    "data",
    [
        b"\xff\xff\xff\xff\x00",
        b"\x01\x00\x00\x00\x07x",
        b"\x02\x00\x00\x00\x00[]",
        (1_000_000).to_bytes(4, "little") + b"\x00" + b"[" * 1_000_000,
        b"\x01\x00\x00\x00\x01x",
        frame("a", {}, b"12345").replace(b'"blob":5', b'"blob":4'),
        frame("a", {"fds": 1}),
        frame("a", {"blob": 3}) + frame("b"),
        frame("a", {"blob": len(frame("b")[5:])}) + frame("b"),
        frame("b")[:4] + b"\x01" + frame("b")[5:],
    ],
)
def test_a_broken_frame_ends_the_channel(data: bytes) -> None:
    """AGT-CTL-2: over-long, unknown or unannounced frames are errors, before anything is allocated."""
    with pytest.raises(ControlError):
        Decoder().feed(data)


def test_the_limit_of_a_frame_is_checked_from_its_header() -> None:
    """AGT-CTL-2: the length alone refuses it."""
    with pytest.raises(ControlError, match=str(FRAME_BYTES + 1)):
        Decoder().feed((FRAME_BYTES + 1).to_bytes(4, "little") + b"\0")


def test_descriptors_travel_with_their_message() -> None:
    """AGT-CTL-3: the received descriptor is the same open file."""
    ours, theirs = socket.socketpair()
    reader, writer = os.pipe()
    sender, receiver = Channel(ours), Channel(theirs)
    sender.send("plain")
    sender.send("shadow_on", {"n": 3}, fds=[writer])
    assert receiver.receive() == Message("plain", {})
    message = receiver.receive()
    assert message is not None
    os.write(message.fds[0], b"through")
    assert os.read(reader, 10) == b"through"
    for fd in (reader, writer, *message.fds):
        os.close(fd)
    sender.close()
    assert receiver.receive() is None
    receiver.close()


def test_large_messages_and_the_end_of_the_other_side() -> None:
    """AGT-CTL-4: a blob larger than the socket's buffer arrives whole; then end of file is an error when waiting."""
    ours, theirs = socket.socketpair()
    sender, receiver = Channel(ours), Channel(theirs)
    blob = os.urandom(1_000_000)
    thread = threading.Thread(target=lambda: sender.send("message", {"topic": "t"}, blob))
    thread.start()
    assert receiver.receive() == Message("message", {"topic": "t"}, blob)
    thread.join()
    assert receiver.receive_within(0.0) is None
    sender.close()
    with pytest.raises(ControlError):
        receiver.receive_within(1.0)
    with pytest.raises(ControlError):
        receiver.send("late")
    receiver.close()


def test_without_a_supervisor_a_child_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """AGT-CTL-4: a child that was started by hand ends with a named error."""
    monkeypatch.delenv("OUTRIDER_CONTROL_FD", raising=False)
    with pytest.raises(ControlError):
        Channel.from_environment()

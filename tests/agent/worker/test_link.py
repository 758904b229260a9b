"""The worker's end of the channel: docs/spec/local-api.md."""

from __future__ import annotations

import select
import socket

import numpy as np
import pytest

from outrider_agent.control import Decoder
from outrider_agent.errors import ControlError
from outrider_agent.worker.link import WAITING_BYTES, SupervisorLink
from outrider_agent.worker.shadow import ShadowFeed, read_datagram


def test_a_supervisor_that_does_not_read_costs_nothing() -> None:
    """AGT-WRK-9: sending never blocks; beyond the bound batches are dropped, counted, and their lease given back."""
    mine, its = socket.socketpair()
    with select.epoll() as epoll, mine, its:
        link = SupervisorLink(its, epoll)
        sent = 0
        while not link.dropped and sent < 100:
            link.batch("predictions", sent, 10, bytes(1_000_000))
            sent += 1
        assert link.dropped == 10
        assert sent <= WAITING_BYTES // 1_000_000 + 2
        decoder, got = Decoder(), []
        while len(got) < sent:
            link.push()
            got += decoder.feed(mine.recv(1 << 20))
        assert [message.op for message in got] == ["batch"] * (sent - 1) + ["unused"]
        assert got[-1].fields["seq"] == sent - 1


def test_only_news_is_told() -> None:
    """AGT-WRK-3: an attestation or a phase that did not change is not repeated."""
    mine, its = socket.socketpair()
    with select.epoll() as epoll, mine, its:
        link = SupervisorLink(its, epoll)
        for answered in (0, 0, 3, 3):
            link.attest("sha256:0", "0", answered)
            link.phase("baseline")
        assert [message.op for message in Decoder().feed(mine.recv(1 << 16))] == ["attest", "phase", "attest"]
        mine.close()
        with pytest.raises(ControlError):
            link.receive()


def test_a_full_shadow_socket_drops_and_counts() -> None:
    """AGT-SHD-1: `offer` returns at once; what was dropped stands in the next datagram."""
    feed, read = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with read:
        shadow = ShadowFeed(feed, 10_000)
        x = np.zeros((1, 2000), np.float32)
        while not shadow.dropped:
            shadow.offer({"x": x}, np.array([1]))
        before, dropped = shadow.sent, shadow.dropped
        for _ in range(before):
            read.recv(1 << 20)
        shadow.offer({"x": x}, np.array([2]))
        feeds, klass, told = read_datagram(read.recv(1 << 20))
        assert (klass.tolist(), told, feeds["x"].shape) == ([2], dropped, (1, 2000))
        read.close()
        shadow.offer({"x": x}, np.array([2]))
        assert shadow.finished
        shadow.close()

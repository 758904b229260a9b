"""Shadow: a candidate answers copies of real inputs beside the worker in charge, and only counts where they differ.

Rules (docs/spec/local-api.md):

- The worker in charge never waits for the shadow: a copy that does not fit the socket now is dropped and counted.
- One datagram is one request: its inputs, the verdicts (classes; steps of a value) that were answered, and how many
  windows were dropped so far.
- An input that the candidate cannot take counts as a disagreement of every window in it.

Limit: a datagram holds what the kernel's socket buffer takes (about 200 KiB by default); larger inputs are all dropped.
"""

from __future__ import annotations

import errno
import socket
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from outrider_agent.drift.scores import Classes
from outrider_agent.oip.codec import Array
from outrider_agent.worker.engine import Engine
from outrider_agent.worker.errors import InferenceError
from outrider_agent.worker.golden import array_of
from outrider_agent.worker.samples import DTYPES
from outrider_protocol import tensors
from outrider_protocol.errors import MalformedError
from outrider_protocol.fields import Fields
from outrider_protocol.manifest import Config

DATAGRAM_BYTES: Final = 4 * 1024 * 1024
_FULL: Final = {errno.EAGAIN, errno.EMSGSIZE, errno.ENOBUFS}
_GONE: Final = {errno.EPIPE, errno.ECONNRESET, errno.ENOTCONN}


class ShadowFeed:
    """The serving side: copies requests into a SOCK_SEQPACKET socket until `wanted` windows went."""

    def __init__(self, sock: socket.socket, wanted: int) -> None:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, DATAGRAM_BYTES)
        self._sock, self._wanted = sock, wanted
        self.sent = self.dropped = 0

    @property
    def finished(self) -> bool:
        """Nothing more is wanted."""
        return self.sent >= self._wanted

    def offer(self, feeds: dict[str, Array], klass: Classes) -> None:
        """Copy one request, or count it as dropped; nothing once enough went."""
        if self.finished:
            return
        try:
            self._sock.send(datagram(feeds, klass, self.dropped))
            self.sent += len(klass)
        except OSError as error:
            if error.errno in _GONE:
                self.sent = self._wanted
            elif error.errno in _FULL:
                self.dropped += len(klass)
            else:
                raise

    def close(self) -> None:
        """End of file for the shadow."""
        self._sock.close()


def datagram(feeds: dict[str, Array], klass: Classes, dropped: int) -> bytes:
    """One request as bytes."""
    named = {
        name: tensors.Tensor(DTYPES[values.dtype.name], values.shape, values.tobytes())
        for name, values in feeds.items()
    }
    return tensors.encode(named, {"klass": [int(k) for k in klass], "dropped": dropped})


@dataclass(frozen=True)
class ShadowCount:
    """Windows compared, those with another verdict, and those that never came."""

    n: int = 0
    disagree: int = 0
    dropped: int = 0

    def json(self) -> dict[str, int]:
        """As the `shadow` operation reports it."""
        return {"n": self.n, "disagree": self.disagree, "dropped": self.dropped}


class ShadowJudge:
    """The candidate's side: reads datagrams, answers them, counts."""

    def __init__(self, sock: socket.socket, engine: Engine, config: Config, wanted: int) -> None:
        sock.setblocking(False)
        self.sock, self._engine, self._config, self._wanted = sock, engine, config, wanted
        self.count = ShadowCount()

    @property
    def finished(self) -> bool:
        """As many windows as were wanted have been compared."""
        return self.count.n >= self._wanted

    def step(self) -> bool:
        """Take one datagram; False at end of file."""
        try:
            data = self.sock.recv(DATAGRAM_BYTES)
        except BlockingIOError:
            return True
        except ConnectionResetError:
            return False
        if data:
            self.count = self._compared(data)
        return bool(data)

    def _compared(self, data: bytes) -> ShadowCount:
        feeds, served, dropped = read_datagram(data)
        try:
            mine: Any = self._config.decision.verdicts(self._engine.run(feeds)[self._config.probabilities])
        except InferenceError:
            mine = np.full(len(served), -1)
        differ = int((mine != served).sum()) if mine.shape == served.shape else len(served)
        return ShadowCount(self.count.n + len(served), self.count.disagree + differ, dropped)


def read_datagram(data: bytes) -> tuple[dict[str, Array], Classes, int]:
    """(inputs, classes that were answered, windows dropped so far); raises `ProtocolError`."""
    named, raw = tensors.decode(data, DATAGRAM_BYTES)
    meta = Fields(raw, "shadow datagram")
    klass = np.asarray(meta.list("klass"))
    if klass.dtype.kind != "i":
        raise MalformedError("shadow datagram: classes are integers")
    return {name: array_of(tensor) for name, tensor in named.items()}, klass, meta.integer("dropped")

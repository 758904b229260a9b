"""The signer process: owns the director, snapshot, timestamp and audit keys, and signs what its rules allow.

1. It listens on a Unix socket; it has no other connection. It answers its own user, and those that it was started for.
2. Every signature is in `logs/signatures.jsonl`, on disk, before it is given out.
3. One request at a time is signed; every refusal says its class, message and hint.
4. Online roles are signed anew before they grow old, and after a ceremony, without being asked.
5. Where it runs as its own user, the others find the socket and the public metadata, and nothing else.

    python -m outrider_fleet.signing --home DIR
"""

import contextlib
import logging
import os
import socketserver
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from outrider_fleet.errors import FleetError
from outrider_fleet.pki.ca import Clock, utc_now
from outrider_fleet.pki.files import private_directory
from outrider_fleet.signing import framing, peers
from outrider_fleet.signing.errors import SignerError
from outrider_fleet.signing.heads import HeadSigner
from outrider_fleet.signing.journal import Journal
from outrider_fleet.signing.online import OnlineRoles
from outrider_fleet.signing.online_keys import OnlineKeys
from outrider_fleet.signing.orders import OrderSigner
from outrider_fleet.signing.repository import TrustRepository
from outrider_protocol.audit import Link
from outrider_protocol.errors import MalformedError, ProtocolError, TooLargeError
from outrider_protocol.fields import Fields
from outrider_protocol.messages import TrustOnline
from outrider_protocol.order import Order

_log: Final = logging.getLogger(__name__)
TICK_S: Final = 60.0
Answer = dict[str, Any]


def socket_path(home: Path) -> Path:
    """Where the signer of this home listens."""
    return home / "run" / "signer.sock"


class Signer:
    """The signer without its socket: `handle` answers one request."""

    def __init__(self, home: Path, clock: Clock = utc_now) -> None:
        self._clock, self._lock = clock, threading.Lock()
        keys = OnlineKeys.load(home / "keys")
        self.journal = Journal(home / "logs" / "signatures.jsonl")
        past = self.journal.entries()
        self._keys, self._repository = keys, TrustRepository(home / "trust")
        self._roles = OnlineRoles(self._repository, keys, self.journal.append)
        self._orders = OrderSigner(keys.for_orders, self.journal, past)
        self._heads = HeadSigner(keys.for_heads, self.journal, past)
        self._operations: dict[str, Callable[[Fields], Answer]] = {
            "sign_orders": self._sign_orders,
            "publish": self._publish,
            "refresh": self._refresh,
            "online": self._refresh,
            "audit_head": self._audit_head,
            "audit_seal": self._audit_seal,
            "audit_reopen": self._audit_reopen,
        }

    def handle(self, request: dict[str, Any]) -> Answer:
        """Answer `{"ok": true, …}` or `{"ok": false, error, message, hint}`."""
        try:
            with self._lock, self._repository.locked():
                return {"ok": True, **self._perform(Fields(request, "request"))}
        except (FleetError, ProtocolError) as error:
            _log.warning("refused: %s: %s", type(error).__name__, error)
            return _refusal(error)
        except OSError as error:  # a full disk: the next request may find room
            _log.exception("not signed")
            return _refusal(SignerError(f"the signer cannot write: {error}"))

    def _perform(self, fields: Fields) -> Answer:
        operation = self._operations.get(fields.text("op"))
        if operation is None:
            raise MalformedError(f"request.op: {fields.value['op']!r} is not known")
        return operation(fields)

    def tick(self) -> None:
        """Sign anew what grows old; a broken trust repository or a full disk is logged, orders go on."""
        try:
            with self._lock, self._repository.locked():
                self._roles.refresh(self._clock())
                keys = self._repository.audit_keys()
                if keys is not None:
                    self._keys.for_heads(keys)  # a successor that is in charge takes its place
        except (FleetError, ProtocolError, OSError) as error:
            _log.error("online roles were not signed: %s (%s)", error, getattr(error, "hint", type(error).__name__))

    def _sign_orders(self, fields: Fields) -> Answer:
        orders = [Order.decode(text.encode()) for text in fields.texts("orders")]
        envelopes = self._orders.sign(orders, self._repository.director(), self._clock())
        return {"envelopes": [envelope.decode() for envelope in envelopes]}

    def _publish(self, fields: Fields) -> Answer:
        metadata = fields.text("metadata", limit=framing.FRAME_BYTES).encode()
        return _online(self._roles.publish(fields.text("model"), metadata, self._clock()))

    def _refresh(self, _fields: Fields) -> Answer:
        return _online(self._roles.refresh(self._clock()))

    def _audit_head(self, _fields: Fields) -> Answer:
        return {"seq": self._heads.last.seq, "hash": self._heads.last.hash}

    def _audit_seal(self, fields: Fields) -> Answer:
        entries = [text.encode() for text in fields.texts("entries")]
        envelope = self._heads.seal(entries, self._repository.audit_keys(), self._clock())
        return {"envelope": envelope.decode()}

    def _audit_reopen(self, fields: Fields) -> Answer:
        kept = Link(fields.integer("seq"), fields.text("hash"))
        self._heads.reopen(kept, fields.text("reason"), self._clock())
        return {}


def _online(online: TrustOnline) -> Answer:
    return {"online": online.encode().decode()}


def _refusal(error: FleetError | ProtocolError) -> Answer:
    return {"ok": False, "error": type(error).__name__, "message": str(error), "hint": error.hint}


class SignerServer(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """Serves a `Signer` on its socket."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, path: Path, signer: Signer, clients: frozenset[int] = frozenset()) -> None:
        self.signer, self._path, self.answered = signer, path, clients | {os.getuid()}
        private_directory(path.parent)
        if clients:
            path.parent.chmod(0o711)
        path.unlink(missing_ok=True)
        with framing.short_path(path) as name:
            mask = os.umask(0o111 if clients else 0o177)  # from its first moment
            try:
                super().__init__(name, _Handler)
            finally:
                os.umask(mask)

    def server_close(self) -> None:
        """Close and remove the socket."""
        super().server_close()
        self._path.unlink(missing_ok=True)


class _Handler(socketserver.BaseRequestHandler):
    server: SignerServer

    def handle(self) -> None:
        uid = peers.uid_of(self.request)
        if uid not in self.server.answered:
            _log.warning("user %d is not answered", uid)
            return
        with contextlib.suppress(OSError):  # a client that went away needs no answer
            self._answer_all()

    def _answer_all(self) -> None:
        while True:
            try:
                request = framing.receive(self.request)
            except (MalformedError, TooLargeError) as error:
                framing.send(self.request, _refusal(error))
                return
            if request is None:
                return
            framing.send(self.request, self.server.signer.handle(request))


def _let_in(home: Path) -> None:
    """Others find the public metadata and the socket; the home is not listed to them, keys/ and logs/ stay closed."""
    home.chmod(0o711)
    for directory in (home / "trust", home / "trust" / "fleet"):
        directory.chmod(0o755)


def serve(
    home: Path,
    stop: threading.Event,
    *,
    clients: frozenset[int] = frozenset(),
    clock: Clock = utc_now,
    tick_s: float = TICK_S,
) -> None:
    """Run until `stop` is set, for this user and the user ids `clients`."""
    signer = Signer(home, clock)
    signer.tick()
    if clients:
        _let_in(home)
    with SignerServer(socket_path(home), signer, clients) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, name="signer")
        thread.start()
        try:
            while not stop.wait(tick_s):
                signer.tick()
        finally:  # whatever ends it: a process that only seems to be there is not started again
            server.shutdown()
            thread.join()
    signer.journal.close()

"""The authorization callout: the fleet server decides, live, who may connect to the broker.

1. At least two workers share one queue, so that an answer is never more than one reconnect away.
2. A client is admitted when its certificate's name is its client id **and** `admit` (or, for `_fleet`, the name
   itself) says yes; in doubt it is denied.
3. `revoke` denies the device first and then ends its live session; `kick` only ends the session.
4. Workers reconnect at once and for ever: while none is there, nobody connects and nobody loses a session.

    callout = Callout(broker.nats_url, broker.credentials, admit=store.is_enrolled)
    await callout.start()
    await callout.revoke("dev-1")
"""

import asyncio
import json
import logging
import time
from collections.abc import Callable
from typing import Any, Final

import nats
import nkeys
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import NoRespondersError
from nats.errors import TimeoutError as NatsTimeoutError

from outrider_fleet.broker.claims import Issuer, Request, read_request
from outrider_fleet.broker.errors import CalloutError
from outrider_fleet.broker.permissions import permissions
from outrider_fleet.broker.settings import Credentials
from outrider_fleet.errors import FleetError
from outrider_fleet.pki.ca import FLEET_NAME
from outrider_protocol.errors import MalformedError

_log: Final = logging.getLogger(__name__)
AUTH_SUBJECT: Final = "$SYS.REQ.USER.AUTH"
QUEUE: Final = "outrider-callout"
RECONNECT_S: Final = 0.005
CONNECT_TIMEOUT_S: Final = 10.0
REQUEST_TIMEOUT_S: Final = 2.0
SETTLE_S: Final = 0.3  # an admission that was decided before the deny set changed has connected by then

Admit = Callable[[str], bool]
KeyOf = Callable[[str], str | None]


class Callout:
    """Answers the broker's questions. `admit(device)` is asked at each connect and must be quick.

    `key_of(device)`, when given, returns the hex SHA-256 of the public key that the device enrolled with:
    a certificate of an earlier key is denied.
    """

    def __init__(
        self,
        nats_url: str,
        credentials: Credentials,
        admit: Admit,
        *,
        key_of: KeyOf | None = None,
        workers: int = 2,
        wall_s: Callable[[], float] = time.time,
    ) -> None:
        self._url, self._credentials, self._wall_s = nats_url, credentials, wall_s
        self._admit, self._key_of = admit, key_of
        self._issuer = Issuer(nkeys.from_seed(bytearray(credentials.issuer_seed.encode())))
        self._denied: set[str] = set()
        self._worker_count = max(2, workers)
        self._workers: list[Client] = []
        self._system: Client | None = None
        self.answered = 0

    async def start(self) -> None:
        """Connect the workers; raises `CalloutError` when the broker is not there."""
        self._workers = [
            await self._connect("auth", self._credentials.auth_password) for _ in range(self._worker_count)
        ]
        for worker in self._workers:
            await worker.subscribe(AUTH_SUBJECT, queue=QUEUE, cb=self._answer)
            await worker.flush()
        self._system = await self._connect("sys", self._credentials.sys_password)

    async def stop(self) -> None:
        """Disconnect; from now on nobody new is admitted."""
        for client in [*self._workers, *([self._system] if self._system else [])]:
            await client.close()
        self._workers, self._system = [], None

    def deny(self, device: str) -> None:
        """Refuse the device's next connects, whatever `admit` says, until `allow`."""
        self._denied.add(device)

    def allow(self, device: str) -> None:
        """Let `admit` decide again."""
        self._denied.discard(device)

    async def revoke(self, device: str) -> int:
        """End a device's sessions, also one that is just being made; returns how many ended.

        `admit` must already say no (commit first): from the end of this call on it alone decides.
        """
        self.deny(device)
        try:
            ended = await self.kick(device)
            await asyncio.sleep(SETTLE_S)
            return ended + await self.kick(device)
        finally:
            self.allow(device)

    async def kick(self, device: str) -> int:
        """End the live sessions of a client id; returns how many there were."""
        ended = 0
        for server_id, cid in await self._sessions(device):
            await self._request(f"$SYS.REQ.SERVER.{server_id}.KICK", {"cid": cid})
            ended += 1
        return ended

    async def _sessions(self, device: str) -> list[tuple[str, int]]:
        answer = await self._request("$SYS.REQ.SERVER.PING.CONNZ", {"mqtt_client": device, "auth": True})
        server_id = str(answer["server"]["id"])
        return [(server_id, int(row["cid"])) for row in answer["data"].get("connections") or []]

    async def _answer(self, message: Msg) -> None:
        try:
            answer = self._decide(read_request(message.data))
        except (MalformedError, FleetError) as error:  # no answer is a refusal
            _log.warning("authorization request not answered: %s", error)
            return
        await message.respond(answer)
        self.answered += 1

    def _decide(self, request: Request) -> bytes:
        now_s = int(self._wall_s())
        if request.client is None or not self._admitted(request.client, request.key_sha256):
            _log.info("refused %s", request.client or "a client without a proven name")
            return self._issuer.deny(request, now_s)
        return self._issuer.admit(request, permissions(request.client), now_s)

    def _admitted(self, client: str, key_sha256: str) -> bool:
        if client == FLEET_NAME:
            return True
        if client in self._denied or not self._admit(client):
            return False
        return self._key_of is None or self._key_of(client) == key_sha256

    async def _connect(self, user: str, password: str) -> Client:
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):  # the client itself tries for ever
                return await nats.connect(
                    self._url,
                    user=user,
                    password=password,
                    name=f"outrider-{user}",
                    allow_reconnect=True,
                    reconnect_time_wait=RECONNECT_S,
                    max_reconnect_attempts=-1,
                    error_cb=_log_error,
                    ping_interval=5,
                )
        except (OSError, TimeoutError, nats.errors.Error) as error:
            raise CalloutError(f"{self._url}: {error}") from error

    async def _request(self, subject: str, body: dict[str, object]) -> dict[str, Any]:
        if self._system is None:
            raise CalloutError("the callout is not started")
        try:
            reply = await self._system.request(subject, json.dumps(body).encode(), timeout=REQUEST_TIMEOUT_S)
        except (NoRespondersError, NatsTimeoutError, nats.errors.ConnectionClosedError) as error:
            raise CalloutError(f"{subject}: {error}") from error
        answer: dict[str, Any] = json.loads(reply.data)
        return answer


async def _log_error(error: Exception) -> None:
    _log.debug("callout connection: %s", error)

"""Bodies are bounded before they are read.

1. A declared length over the limit is refused at once; an undeclared one when the limit is passed.
2. Only blobs may be large; what devices send without a token is small.
"""

from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from outrider_fleet.api import failures
from outrider_fleet.errors import TooLargeError
from outrider_protocol import limits

BODY_BYTES: Final = 16 * limits.MIB
BLOB_PREFIX: Final = "/api/v1/blobs/"
JOINING: Final = frozenset({"/api/v1/enrol", "/api/v1/renew"})


def limit_of(path: str) -> int:
    """The limit of a request's body in bytes."""
    if path in JOINING:
        return limits.ENROL_BYTES
    return limits.LAYER_BYTES if path.startswith(BLOB_PREFIX) else BODY_BYTES


class BoundedBodies:
    """ASGI middleware."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with its body bounded."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit, declared = limit_of(scope["path"]), dict(scope["headers"]).get(b"content-length", b"0")
        if not declared.isdigit() or int(declared) > limit:  # [API-8]
            error = TooLargeError(f"a body of {declared.decode(errors='replace')[:20]} bytes, {limit} are allowed")
            await failures.answer("TooLargeError", str(error), error.hint, 413)(scope, receive, send)
            return
        body = _Body(receive, limit)
        await self._app(scope, body.receive, body.answer_with(scope, send))


class _Body:
    """Counts what is received; once it is too much, the answer is a 413 whatever the application says."""

    def __init__(self, receive: Receive, limit: int) -> None:
        self._receive, self._limit, self._received = receive, limit, 0
        self._refused = False

    async def receive(self) -> Message:
        """The next part of the body."""
        message = await self._receive()
        self._received += len(message.get("body", b""))
        if self._received > self._limit:
            raise TooLargeError(f"a body of more than {self._limit} bytes")
        return message

    def answer_with(self, scope: Scope, send: Send) -> Send:
        """Pass the application's answer on, unless the body was too large."""

        async def answer(message: Message) -> None:
            if self._received <= self._limit:
                await send(message)
            elif not self._refused:
                self._refused = True
                error = TooLargeError(f"a body of more than {self._limit} bytes")
                await failures.answer("TooLargeError", str(error), error.hint, 413)(scope, self._receive, send)

        return answer

"""Bodies are bounded before they are read.

1. A declared length over the limit is refused at once; an undeclared one when the limit is passed.
2. Only blobs may be large.
"""

from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from outrider_fleet.api import failures
from outrider_fleet.errors import TooLargeError
from outrider_protocol import limits

BODY_BYTES: Final = 16 * limits.MIB
BLOB_PREFIX: Final = "/api/v1/blobs/"


def limit_of(path: str) -> int:
    """The limit of a request's body in bytes."""
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
        await self._app(scope, _bounded(receive, limit), send)


def _bounded(receive: Receive, limit: int) -> Receive:
    received = 0

    async def bounded() -> Message:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        if received > limit:
            raise TooLargeError(f"a body of more than {limit} bytes")
        return message

    return bounded

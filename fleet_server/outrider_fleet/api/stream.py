"""`GET /events`: server-sent events that say what kind of thing has changed.

1. An event follows a commit, never precedes it.
2. A comment every 15 s keeps the connection; a reader that is gone is forgotten.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Final

from fastapi import APIRouter
from fastapi.responses import StreamingResponse

from outrider_fleet.api.access import Given, Reader
from outrider_fleet.app.bus import Bus

router = APIRouter()
KEEPALIVE_S: Final = 15.0


@router.get("/events")
async def events(given: Given, _caller: Reader) -> StreamingResponse:
    """An endless stream."""
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(_stream(given.fleet.bus), media_type="text/event-stream", headers=headers)


async def _stream(bus: Bus) -> AsyncIterator[bytes]:
    listener = bus.listen()
    try:
        yield b": listening\n\n"
        while True:
            try:
                changed = await asyncio.wait_for(listener.next(), KEEPALIVE_S)
            except TimeoutError:
                yield b": alive\n\n"
                continue
            yield b"event: change\ndata: " + json.dumps({"what": changed}).encode() + b"\n\n"
    finally:
        bus.leave(listener)

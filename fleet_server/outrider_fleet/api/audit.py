"""The audit log: who did what, and how far it is signed."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from fastapi.concurrency import run_in_threadpool

from outrider_fleet.api.access import Answer, Given, Operator, Reader
from outrider_fleet.api.answers import tagged
from outrider_fleet.api.bodies import ReopenBody
from outrider_fleet.app import seal
from outrider_fleet.errors import UnknownError
from outrider_fleet.store import audit
from outrider_protocol import limits

router = APIRouter()
Limit = Annotated[int, Query(ge=1, le=500)]
After = Annotated[int | None, Query(ge=0, le=limits.SEQ_MAX)]


@router.get("/audit")
def list_audit(
    request: Request,
    given: Given,
    _caller: Operator,
    after: After = None,
    limit: Limit = 100,
    action: str | None = None,
    actor: str | None = None,
) -> Response:
    """Entries, newest first; `action` and `actor` are beginnings, `after` the last sequence seen."""
    with given.fleet.look() as connection:
        return tagged(request, audit.newest(connection, before=after, limit=limit, action=action, actor=actor))


@router.get("/audit/head")
def audit_head(given: Given, _caller: Reader) -> Response:
    """The newest signed head: kept elsewhere, it tells a log that was cut or rewritten."""
    with given.fleet.look() as connection:
        head = audit.newest_head(connection)
    if head is None:
        raise UnknownError("the audit log has no signed head yet")
    return Response(head["envelope"], media_type="application/json")


@router.post("/audit/reopen")
async def reopen_audit(body: ReopenBody, given: Given, caller: Operator) -> Answer:
    """Go on with a log that was cut by a restored backup; what is lost is told for ever."""
    return await run_in_threadpool(seal.reopen, given.fleet, body.reason, caller.actor)

"""What devices ask over HTTP: to join, and for the next certificate once theirs has ended."""

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool

from outrider_fleet.api.access import Given
from outrider_fleet.app import enrol, renew
from outrider_protocol.messages import EnrolRequest, RenewRequest

router = APIRouter()


@router.post("/enrol")
async def enrol_device(request: Request, given: Given) -> Response:
    """A device joins, by its token."""
    asked = EnrolRequest.decode(await request.body())
    answered = await run_in_threadpool(enrol.enrol, given.fleet, asked)
    given.allow(asked.device)
    return Response(answered.encode(), media_type="application/json")


@router.post("/renew")
async def renew_certificate(request: Request, given: Given) -> Response:
    """The next certificate of a device, for the key that signs the request."""
    asked = RenewRequest.decode(await request.body())
    answered = await run_in_threadpool(renew.over_http, given.fleet, asked)
    return Response(answered.encode(), media_type="application/json", status_code=202 if answered.why else 200)

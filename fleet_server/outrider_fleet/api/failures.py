"""Errors as answers: `{error, message, hint}` and a status by the error's kind.

1. Domain errors know no status: the table below does, the most special class wins.
2. A request that does not parse is a 400 like any other malformed one.
3. A refused change of somebody with a token is in the audit log.
"""

import logging
from typing import Final

from fastapi import FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy.exc import SQLAlchemyError
from starlette.exceptions import HTTPException

from outrider_fleet import errors
from outrider_fleet.broker.errors import BrokerError
from outrider_fleet.errors import FleetError
from outrider_fleet.pki.errors import RequestRefusedError
from outrider_protocol.errors import ProtocolError, TooLargeError, UntrustedError

_log: Final = logging.getLogger(__name__)
UNFORESEEN: Final = "The server's log tells what happened: please report it."
READING: Final = ("GET", "HEAD", "OPTIONS")
STATUS: Final[dict[type[Exception], int]] = {
    errors.InvalidRequestError: 400,
    errors.UnauthenticatedError: 401,
    errors.ForbiddenError: 403,
    errors.UnknownError: 404,
    errors.ConflictError: 409,
    errors.TooLargeError: 413,
    errors.RefusedError: 422,
    errors.UnavailableError: 503,
    errors.StoreError: 503,
    BrokerError: 503,
    RequestRefusedError: 422,
    TooLargeError: 413,
    UntrustedError: 422,
    ProtocolError: 400,
    FleetError: 500,
}


def status_of(error: Exception) -> int:
    """The status of an error: that of its nearest class in the table."""
    return next((STATUS[kind] for kind in type(error).__mro__ if kind in STATUS), 500)


def answer(name: str, message: str, hint: str, status: int) -> JSONResponse:
    """The one form of every refusal."""
    return JSONResponse({"error": name, "message": message, "hint": hint}, status)


async def _refuse(request: Request, error: Exception) -> JSONResponse:
    hint = str(getattr(error, "hint", ""))
    await run_in_threadpool(_record, request, error)
    return answer(type(error).__name__, str(error), hint, status_of(error))


def _record(request: Request, error: Exception) -> None:
    """[AUD-3] A change that somebody with a token asked for and did not get."""
    caller = getattr(request.state, "caller", None)
    if caller is None or request.method in READING:
        return
    fleet, said = request.app.state.services.fleet, {"error": type(error).__name__, "message": str(error)}
    try:
        with fleet.change() as change:
            change.audit(caller.actor, "request.refused", f"{request.method} {request.url.path}", said)
    except (FleetError, SQLAlchemyError) as failed:
        _log.error("a refusal was not recorded: %s", failed)


async def _refuse_form(_request: Request, error: Exception) -> JSONResponse:
    first = error.errors()[0] if isinstance(error, RequestValidationError) else {}
    where = ".".join(str(part) for part in first.get("loc", ()))
    message = f"{where}: {first.get('msg', error)}"
    return answer("InvalidRequestError", message, errors.InvalidRequestError.hint, 400)


async def _refuse_plain(_request: Request, error: Exception) -> JSONResponse:
    status = error.status_code if isinstance(error, HTTPException) else 500
    name = {404: "UnknownError", 405: "InvalidRequestError"}.get(status, "FleetError")
    return answer(name, str(getattr(error, "detail", error)), errors.InvalidRequestError.hint, status)


async def _refuse_store(_request: Request, error: Exception) -> JSONResponse:
    _log.error("the database: %s", error)
    failed = errors.StoreError("the database refused this request")
    return answer("StoreError", str(failed), failed.hint, status_of(failed))


async def _refuse_unforeseen(_request: Request, error: Exception) -> JSONResponse:
    """The server itself logs what it was."""
    return answer("FleetError", f"this request met an error in the server: {type(error).__name__}", UNFORESEEN, 500)


def install(app: FastAPI) -> None:
    """Answer every error of ours in the one form."""
    app.add_exception_handler(FleetError, _refuse)
    app.add_exception_handler(ProtocolError, _refuse)
    app.add_exception_handler(RequestValidationError, _refuse_form)
    app.add_exception_handler(HTTPException, _refuse_plain)
    app.add_exception_handler(SQLAlchemyError, _refuse_store)
    app.add_exception_handler(Exception, _refuse_unforeseen)

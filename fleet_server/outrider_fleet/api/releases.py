"""Blobs, releases, and folders that carry them to devices without a network."""

from dataclasses import asdict
from hashlib import sha256
from tempfile import NamedTemporaryFile
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse

from outrider_fleet.api.access import Answer, Given, Operator, Pipeline, Reader, needs
from outrider_fleet.api.answers import tagged
from outrider_fleet.api.bodies import AirGapBody, ReleaseBody
from outrider_fleet.app import air_gap, blobs, publish_release, views
from outrider_fleet.app.publish_release import Upload
from outrider_fleet.app.tokens import Caller
from outrider_fleet.store import releases
from outrider_protocol import ids, limits

router = APIRouter()
Limit = Annotated[int, Query(ge=1, le=500)]
After = Annotated[int | None, Query(ge=0, le=limits.SEQ_MAX)]
Taker = Annotated[Caller, Depends(needs("operator", "pipeline", "runner"))]


@router.post("/blobs/{digest}", operation_id="post_blob")
@router.put("/blobs/{digest}")
async def put_blob(digest: str, request: Request, given: Given, caller: Pipeline) -> Answer:
    """Store a blob under its digest; streamed to disk, refused when the bytes have another digest."""
    directory = given.fleet.home.blobs
    ids.digest(digest)
    directory.mkdir(parents=True, exist_ok=True)
    with NamedTemporaryFile(dir=directory, prefix=".upload-") as file:
        hashed, size = sha256(), 0
        async for chunk in request.stream():
            hashed.update(chunk)
            size += len(chunk)
            file.write(chunk)
        file.flush()
        received = blobs.Received(file.name, f"sha256:{hashed.hexdigest()}", size)
        created = await run_in_threadpool(blobs.adopt, given.fleet, digest, received, caller.actor)
    return {"digest": digest, "size": size, "created": created}


@router.get("/blobs/{digest}")
def get_blob(digest: str, given: Given, _caller: Taker) -> FileResponse:
    """The bytes of a blob, or of a range of it."""
    return FileResponse(blobs.path_of(given.fleet, digest, "blob"), media_type="application/octet-stream")


@router.post("/air-gap")
def export_air_gap(body: AirGapBody, given: Given, caller: Operator) -> Answer:
    """What a folder carries to devices without a network."""
    return asdict(air_gap.export(given.fleet, body.devices, caller.actor))


@router.head("/blobs/{digest}")
def has_blob(digest: str, given: Given, _caller: Pipeline) -> Response:
    """Whether a blob is there: 200 or 404."""
    blobs.path_of(given.fleet, digest, "blob")
    return Response()


@router.post("/releases", status_code=201)
def publish(body: ReleaseBody, given: Given, caller: Pipeline) -> Answer:
    """Publish a signed release whose blobs were uploaded."""
    upload = Upload(body.metadata, body.index, _provenance(given, body, caller))
    row = publish_release.publish(given.fleet, upload, caller.actor)
    return {name: value for name, value in row.items() if name not in ("role_metadata", "index_json")}


def _provenance(given: Given, body: ReleaseBody, caller: Caller) -> dict[str, Any]:
    """What the upload says; a runner's says it in the release itself where the request does not."""
    if body.provenance is not None or caller.kind != "runner":
        return body.provenance or {}
    return publish_release.provenance_in(given.fleet, body.index)


@router.get("/releases")
def list_releases(request: Request, given: Given, _caller: Reader, after: After = None, limit: Limit = 500) -> Response:
    """Releases with their artifacts, newest first."""
    with given.fleet.look() as connection:
        return tagged(request, releases.listed(connection, after=after, limit=limit))


@router.get("/releases/{model}/{version}")
def show_release(request: Request, model: str, version: str, given: Given, _caller: Reader) -> Response:
    """One release."""
    with given.fleet.look() as connection:
        return tagged(request, views.release(connection, model, version))

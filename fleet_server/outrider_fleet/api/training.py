"""Drift, labels, policies, snapshots, runs and lineage."""

from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Query, Request, Response
from fastapi.responses import FileResponse

from outrider_fleet.api.access import Answer, Given, Operator, Reader, Runner, needs
from outrider_fleet.api.answers import tagged
from outrider_fleet.api.bodies import ClaimBody, FinishBody, LabelsBody, ModelBody, ProgressBody
from outrider_fleet.app import labels, lineage, policies, runs, snapshots, views
from outrider_fleet.app.tokens import Caller
from outrider_fleet.store import training
from outrider_protocol import canonical, limits

router = APIRouter()
Limit = Annotated[int, Query(ge=1, le=500)]
After = Annotated[int | None, Query(ge=0, le=limits.SEQ_MAX)]
Downloader = Annotated[Caller, Depends(needs("runner", "operator"))]


@router.get("/drift")
def show_drift(request: Request, given: Given, _caller: Reader) -> Response:
    """Drift by model and device, and what the policy makes of it."""
    with given.fleet.look() as connection:
        return tagged(request, views.drift_view(connection, given.fleet.clock_ms()))


@router.post("/labels")
def add_labels(body: LabelsBody, given: Given, caller: Operator) -> Answer:
    """Labels from people."""
    return {"accepted": len(body.labels), "new": labels.add(given.fleet, body.model, body.labels, caller.actor)}


@router.get("/policies")
def list_policies(request: Request, given: Given, _caller: Reader) -> Response:
    """Every policy."""
    with given.fleet.look() as connection:
        return tagged(request, views.policy_list(connection))


@router.put("/policies/{model}")
def set_policy(model: str, value: Annotated[dict[str, Any], Body()], given: Given, caller: Operator) -> Answer:
    """Replace the parts given."""
    canonical.encode(value)
    return {"model": model, **policies.set_policy(given.fleet, model, value, caller.actor).json()}


@router.post("/snapshots", status_code=201)
def create_snapshot(body: ModelBody, given: Given, caller: Operator) -> Answer:
    """Freeze the labelled samples of a model."""
    return snapshots.create(given.fleet, body.model, caller.actor)


@router.get("/snapshots")
def list_snapshots(
    request: Request, given: Given, _caller: Reader, after: After = None, limit: Limit = 100
) -> Response:
    """Snapshots, newest first."""
    with given.fleet.look() as connection:
        return tagged(request, views.snapshot_list(connection, after, limit))


@router.get("/snapshots/{digest}/file")
def snapshot_file(digest: str, given: Given, _caller: Downloader) -> FileResponse:
    """The SQLite file."""
    return FileResponse(snapshots.file_of(given.fleet, digest), media_type="application/vnd.sqlite3")


@router.post("/runs", status_code=201)
def create_run(body: ModelBody, given: Given, caller: Operator) -> Answer:
    """Start a training run by hand."""
    return runs.create(given.fleet, body.model, {"why": f"asked for by {caller.actor}"}, caller.actor)


@router.get("/runs")
def list_runs(
    request: Request, given: Given, _caller: Reader, after: str | None = None, limit: Limit = 100
) -> Response:
    """Runs, newest first."""
    with given.fleet.look() as connection:
        return tagged(request, training.listed(connection, after=after, limit=limit))


@router.post("/runs/claim", response_model=None)
def claim_run(body: ClaimBody, given: Given, caller: Runner) -> Answer | Response:
    """Take the oldest waiting run; 204 without one."""
    row = runs.claim(given.fleet, body.models, caller.actor)
    return Response(status_code=204) if row is None else {"run": row}


@router.get("/runs/{run}")
def show_run(request: Request, run: str, given: Given, _caller: Reader) -> Response:
    """One run."""
    with given.fleet.look() as connection:
        return tagged(request, views.run(connection, run))


@router.post("/runs/{run}/approve")
def approve_run(run: str, given: Given, caller: Operator) -> Answer:
    """Let a proposed run begin."""
    return runs.approve(given.fleet, run, caller.actor)


@router.post("/runs/{run}/progress")
def progress_run(run: str, body: ProgressBody, given: Given, caller: Runner) -> Answer:
    """A sign of life."""
    runs.progress(given.fleet, run, body.fence, body.text, body.ratio, caller.actor)
    return {"run": run}


@router.post("/runs/{run}/finish")
def finish_run(run: str, body: FinishBody, given: Given, caller: Runner) -> Answer:
    """End a run."""
    return runs.finish(given.fleet, run, body.fence, body.model_dump(exclude={"fence"}), caller.actor)


@router.get("/lineage/{kind}/{name:path}")
def show_lineage(request: Request, kind: str, name: str, given: Given, _caller: Reader) -> Response:
    """Both directions."""
    return tagged(request, lineage.trace(given.fleet, kind, name))

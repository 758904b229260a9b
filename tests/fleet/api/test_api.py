"""The HTTP interface. Rules: docs/spec/api.md."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from outrider_fleet import errors
from outrider_fleet.api import failures
from outrider_fleet.api.application import PREFIX
from outrider_fleet.api.limits import BODY_BYTES
from outrider_fleet.app import tokens
from outrider_protocol.ids import digest_of
from outrider_protocol.messages import EnrolRequest, EnrolResponse
from tests.fleet.api.conftest import Ask
from tests.fleet.app.house import CANARY, OUTBOX, House, csr

V1 = PREFIX
SPEC = Path(__file__).parents[3] / "docs" / "spec" / "api.md"
ROLLOUT = {"model": "har", "version": "1.1", "group": "all", **CANARY}
WRITES = [
    ("POST", "/tokens", {"kind": "viewer", "name": "x"}, {"operator"}),
    ("POST", "/trust/refresh", None, {"operator"}),
    ("POST", "/devices/watch-1/revoke", None, {"operator"}),
    ("POST", "/devices/watch-1/approve", None, {"operator"}),
    ("POST", "/devices/watch-1/decommission", {"wait": True}, {"operator"}),
    ("POST", "/groups", {"name": "g", "devices": []}, {"operator"}),
    ("PUT", "/blobs/sha256:" + "0" * 64, None, {"pipeline", "runner"}),
    ("POST", "/releases", {"metadata": "{}", "index": "{}"}, {"pipeline", "runner"}),
    ("POST", "/rollouts", ROLLOUT, {"operator"}),
    ("POST", "/rollouts/ro-000001/abort", {}, {"operator"}),
    ("POST", "/labels", {"model": "har", "labels": []}, {"operator"}),
    ("PUT", "/policies/har", {"autonomy": "approve"}, {"operator"}),
    ("POST", "/snapshots", {"model": "har"}, {"operator"}),
    ("GET", "/snapshots/sha256:0/file", None, {"operator", "runner"}),
    ("POST", "/runs", {"model": "har"}, {"operator"}),
    ("POST", "/runs/claim", {}, {"runner"}),
    ("POST", "/runs/run-1/approve", None, {"operator"}),
    ("POST", "/runs/run-1/progress", {"fence": 1, "text": "x"}, {"runner"}),
    ("POST", "/runs/run-1/finish", {"fence": 1, "state": "failed"}, {"runner"}),
]
READS = [
    "/devices",
    "/devices/watch-1",
    "/groups",
    "/releases",
    "/releases/har/1.0",
    "/rollouts",
    "/rollouts/ro-000001",
    "/rollouts/ro-000001/why",
    "/drift",
    "/policies",
    "/snapshots",
    "/runs",
    "/lineage/release/har/1.0",
]


@pytest.mark.parametrize("kind", [None, "operator", "viewer", "pipeline", "runner"])
def test_every_change_needs_its_token(ask: Ask, kind: str | None) -> None:
    """API-1: 401 without a token, 403 with one of another kind, anything else with the right one."""
    client = ask(kind)
    for method, path, body, kinds in WRITES:
        status = client.request(method, V1 + path, json=body).status_code
        if kind is None:
            assert status == 401, path
        else:
            assert (status == 403) == (kind not in kinds), path


def test_unknown_tokens(ask: Ask) -> None:
    """API-1: a made-up token opens nothing, not even reading."""
    for header in ("Bearer nonsense", "bearer x", "Bearer"):
        answer = ask().get(f"{V1}/devices", headers={"Authorization": header})
        assert answer.status_code == (401 if " " in header else 200)


def test_reading(ask: Ask) -> None:
    """API-4 and API-6: reading is open on the loopback, and collections have an ETag."""
    client = ask()
    for path in READS:
        answer = client.get(V1 + path)
        assert answer.status_code == 200, (path, answer.text)
        if "etag" in answer.headers:
            again = client.get(V1 + path, headers={"If-None-Match": answer.headers["etag"]})
            assert (again.status_code, again.content) == (304, b"")
    assert isinstance(client.get(f"{V1}/devices").json(), list)


def test_reading_from_elsewhere(ask: Ask, house: House) -> None:
    """API-6: another address, another host name, or `anonymous_read = false` need a token or are refused."""
    assert ask(address="10.0.0.9").get(f"{V1}/devices").status_code == 401
    assert ask("viewer", "10.0.0.9").get(f"{V1}/devices").status_code == 200
    assert ask().get(f"{V1}/devices", headers={"Host": "evil.example"}).status_code == 400
    house.fleet.config = replace(house.fleet.config, api=replace(house.fleet.config.api, anonymous_read=False))
    assert ask().get(f"{V1}/devices").status_code == 401


@pytest.mark.parametrize(
    "page", ["/", "/devices", "/devices/watch-1", "/fragments/devices", "/lineage/release/har/1.0"]
)
def test_pages_are_reading_too(ask: Ask, house: House, page: str) -> None:
    """API-6: what the pages show needs what the API needs for it."""
    assert ask().get(page).status_code == 200
    assert ask(address="10.0.0.9").get(page).status_code == 401
    house.fleet.config = replace(house.fleet.config, api=replace(house.fleet.config.api, anonymous_read=False))
    assert ask().get(page).status_code == 401
    assert ask("viewer").get(page).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "error"),
    [
        ("GET", "/devices/nobody", None, 404, "UnknownError"),
        ("GET", "/rollouts/ro-9", None, 404, "UnknownError"),
        ("GET", "/nothing", None, 404, "UnknownError"),
        ("GET", "/trust/../fleet.toml", None, 404, "UnknownError"),
        ("GET", "/trust/..%2Fkeys%2Foperator.token", None, 404, "UnknownError"),
        ("GET", "/trust/none.json", None, 404, "UnknownError"),
        ("POST", "/rollouts", {**ROLLOUT, "version": "9"}, 404, "UnknownError"),
        ("POST", "/rollouts", {**ROLLOUT, "speed": 1}, 400, "InvalidRequestError"),
        ("POST", "/rollouts", {**ROLLOUT, "gates": {"luck": {}}}, 400, "GateError"),
        ("POST", "/rollouts", {"model": 3}, 400, "InvalidRequestError"),
        ("POST", "/rollouts/ro-000001/resume", {}, 409, "IllegalActionError"),
        ("POST", "/rollouts/ro-000001/fly", {}, 404, "UnknownError"),
        ("POST", "/groups", {"name": "all", "devices": []}, 409, "ConflictError"),
        ("POST", "/groups", {"name": "x", "kind": "lucky"}, 400, "InvalidRequestError"),
        ("PUT", "/policies/har", {"mood": 1}, 400, "InvalidRequestError"),
        ("PUT", "/policies/har", {"autonomy": "reckless"}, 400, "InvalidRequestError"),
        ("POST", "/labels", {"model": "har", "labels": [{}]}, 400, "InvalidRequestError"),
        ("POST", "/snapshots", {"model": "har"}, 409, "ConflictError"),
        ("GET", "/devices?limit=501", None, 400, "InvalidRequestError"),
        ("DELETE", "/devices/watch-1", None, 405, "InvalidRequestError"),
    ],
)
def test_refusals(ask: Ask, method: str, path: str, body: Any, status: int, error: str) -> None:
    """API-2 and API-5: one form, the error's name, a hint, a status by kind."""
    answer = ask("operator").request(method, V1 + path, json=body)
    assert answer.status_code == status, answer.text
    assert set(answer.json()) == {"error", "message", "hint"}
    assert answer.json()["error"] == error
    assert answer.json()["hint"]


def test_every_error_has_a_status_and_a_hint() -> None:
    """API-2: each class of the tree is answered by its kind."""
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.FleetError)]
    for kind in kinds:
        assert kind is errors.FleetError or kind.hint, kind
        assert failures.status_of(kind("x")) in failures.STATUS.values()
    assert failures.status_of(errors.GateError("x")) == 400
    assert failures.status_of(errors.BelowFloorError("x")) == 422


def test_idempotent_rollout(ask: Ask, house: House) -> None:
    """API-3: sent twice, created once; another request under the key is a conflict."""
    house.publish("1.1", 2)
    client, key = ask("operator"), {"Idempotency-Key": "k-1"}
    first = client.post(f"{V1}/rollouts", json=ROLLOUT, headers=key)
    again = client.post(f"{V1}/rollouts", json=ROLLOUT, headers=key)
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.json()["id"] == again.json()["id"] == "ro-000002"
    other = client.post(f"{V1}/rollouts", json={**ROLLOUT, "gates": {}}, headers=key)
    assert other.status_code == 409
    assert house.value("SELECT count(*) FROM rollouts") == 2


def test_rollout_by_hand(ask: Ask, house: House) -> None:
    """ROL-14: created, paused, resumed, aborted; `why` says each time where it stands."""
    house.publish("1.1", 2)
    client = ask("operator")
    made = client.post(f"{V1}/rollouts", json=ROLLOUT).json()
    assert (made["state"], made["exposed"], made["total"]) == ("running", 2, 2)
    assert [phase["bound"] for phase in made["phases"]] == [2, 2]
    for action, state in (("pause", "paused"), ("resume", "running"), ("abort", "aborted")):
        answer = client.post(f"{V1}/rollouts/{made['id']}/{action}", json={"reason": "because"})
        assert answer.json()["state"] == state
    why = client.get(f"{V1}/rollouts/{made['id']}/why").json()
    assert why["why"] == "aborted: because (operator:test)"


def test_enrolment_over_http(ask: Ask, house: House) -> None:
    """ENR-4: the protocol's own messages go both ways; a second use is a 401 with its name."""
    request = EnrolRequest(tokens.create(house.fleet, "device", ""), "watch-9", "x86-64", csr())
    answer = ask().post(f"{V1}/enrol", content=request.encode())
    assert EnrolResponse.decode(answer.content).device == "watch-9"
    again = ask().post(f"{V1}/enrol", content=request.encode())
    assert (again.status_code, again.json()["error"]) == (401, "TokenRefusedError")
    assert ask().post(f"{V1}/enrol", content=b"{}").status_code == 400


def test_revoke_ends_the_session(ask: Ask, ended: list[str]) -> None:
    """ENR-5: the device is refused first, then its live session is ended."""
    answer = ask("operator").post(f"{V1}/devices/watch-1/revoke")
    assert answer.json() == {"device": "watch-1", "state": "revoked", "sessions_ended": 1}
    assert ended == ["watch-1"]


def test_publishing_over_http(ask: Ask, house: House) -> None:
    """REL-2: blobs, then the release; a blob with other bytes is a 422 and is not there."""
    made, client = house.make("1.1", 2), ask("pipeline")
    for digest, data in made.blobs.items():
        assert client.put(f"{V1}/blobs/{digest}", content=data).json()["size"] == len(data)
    wrong = digest_of(b"wrong")
    answer = client.put(f"{V1}/blobs/{wrong}", content=b"right")
    assert (answer.status_code, answer.json()["error"]) == (422, "TamperedError")
    assert client.head(f"{V1}/blobs/{wrong}").status_code == 404
    assert client.head(f"{V1}/blobs/{made.artifact}").status_code == 200
    body = {"metadata": made.metadata.decode(), "index": made.index.decode()}
    bad = client.post(
        f"{V1}/releases", json={**body, "metadata": body["metadata"].replace('"counter":2', '"counter":3')}
    )
    assert (bad.status_code, bad.json()["error"]) == (422, "SignatureThresholdError")
    good = client.post(f"{V1}/releases", json=body)
    assert good.status_code == 201
    assert good.json()["version"] == "1.1"


def test_runner_over_http(ask: Ask, house: House) -> None:
    """RUN-1: nothing to claim is 204; a fence that is not one's own is a 409."""
    assert ask("runner").post(f"{V1}/runs/claim", json={"models": ["har"]}).status_code == 204
    prediction = house.predict("watch-1", str(house.value("SELECT digest FROM artifacts")), [0])
    house.sample("watch-1", str(house.value("SELECT digest FROM artifacts")), prediction)
    given = [{"prediction_id": prediction[0], "label": "walk", "source": "p1/r1"}]
    assert ask("operator").post(f"{V1}/labels", json={"model": "har", "labels": given}).json() == {
        "accepted": 1,
        "new": 1,
    }
    assert ask("operator").post(f"{V1}/runs", json={"model": "har"}).status_code == 201
    runner = ask("runner")
    run = runner.post(f"{V1}/runs/claim", json={}).json()["run"]
    assert (run["version"], run["counter"], run["fence"]) == ("1.1", 2, 1)
    file = runner.get(f"{V1}/snapshots/{run['snapshot']}/file").content
    assert digest_of(file) == run["snapshot"]
    assert runner.post(f"{V1}/runs/{run['id']}/progress", json={"fence": 7, "text": "x"}).status_code == 409
    assert (
        runner.post(f"{V1}/runs/{run['id']}/progress", json={"fence": 1, "text": "x", "ratio": 0.5}).status_code == 200
    )
    done = runner.post(f"{V1}/runs/{run['id']}/finish", json={"fence": 1, "state": "failed", "error": "e"})
    assert done.json()["state"] == "failed"


def test_bounded_bodies(ask: Ask) -> None:
    """API-8: a declared or an actual excess is a 413."""
    client = ask("operator")
    assert (
        client.post(f"{V1}/labels", content=b"{}", headers={"Content-Length": str(BODY_BYTES + 1)}).status_code == 413
    )
    assert client.post(f"{V1}/labels", content=b"{}", headers={"Content-Length": "many"}).status_code in (400, 413)

    async def endless() -> AsyncIterator[bytes]:
        for _ in range(BODY_BYTES // 1_000_000 + 2):
            yield b" " * 1_000_000

    answer = client.post(f"{V1}/labels", content=endless())
    assert (answer.status_code, answer.json()["error"]) == (413, "TooLargeError")


def test_health_and_trust(ask: Ask) -> None:
    """API-1: health and public metadata need no token."""
    assert ask().get(f"{V1}/health").json()["fleet"] == "test"
    for name in ("root.json", "1.root.json", "har.json", "online.json", "timestamp.json"):
        assert json.loads(ask().get(f"{V1}/trust/{name}").content), name


def test_pages_bring_everything(ask: Ask) -> None:
    """API-9: no page names another origin."""
    for path in ("/", "/devices", "/rollouts"):
        page = ask().get(path)
        assert page.status_code == 200, path
        assert not re.search(r"(src|href)=.?(https?:)?//", page.text)


def test_spec_lists_every_request(ask: Ask) -> None:
    """API-2: docs/spec/api.md names every route."""
    text = SPEC.read_text("utf-8")
    routes = [path for path in ask().app.openapi()["paths"] if path.startswith(V1)]
    assert len(routes) > 25
    for route in routes:
        path = re.sub(r"\{\w+\}", "<x>", route.removeprefix(V1))
        known = re.sub(r"<\w+>", "<x>", text)
        stem = path.rsplit("/<x>", 1)[0] if path.endswith("/<x>") and f"`{path}" not in known else path
        assert path in known or stem + "/{" in known, route


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/releases?after=99999999999999999999", ""),
        ("GET", "/audit?after=99999999999999999999", ""),
        ("GET", "/snapshots?after=-1", ""),
        ("GET", f"/lineage/prediction/watch-1/{OUTBOX}/99999999999999999999/0", ""),
        ("POST", "/tokens", '{"kind": "viewer", "ttl_s": NaN}'),
        ("POST", "/tokens", '{"kind": "viewer", "ttl_s": 1e999}'),
        ("POST", "/tokens", '{"kind": "viewer", "ttl_s": 1e300}'),
        ("POST", "/tokens", r'{"kind": "viewer", "name": "\ud800"}'),
        ("POST", "/rollouts", r'{"model": "har", "version": "1.0", "phases": [{"name": "\ud800", "percent": 100}]}'),
        (
            "POST",
            "/labels",
            r'{"model": "har", "labels": [{"prediction_id": "x", "label": "run", "source": "\ud800"}]}',
        ),
        ("PUT", "/policies/har", '{"drift": {"cooldown_s": NaN}}'),
        ("PUT", "/policies/har", r'{"rollout": {"group": "\ud800"}}'),
    ],
)
def test_what_no_store_can_hold(ask: Ask, method: str, path: str, body: str) -> None:
    """API-2: numbers beyond every column, NaN and half characters are malformed, like anything else that is."""
    answer = ask("operator").request(method, V1 + path, content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400
    assert set(answer.json()) == {"error", "message", "hint"}


def test_a_store_that_is_away(ask: Ask, house: House) -> None:
    """API-2: a part that is away is told in the one form, whatever part it is."""
    client = ask("operator")
    with house.fleet.change() as change:
        change.connection.exec_driver_sql("ALTER TABLE releases RENAME TO elsewhere")
    answer = client.get(f"{V1}/releases")
    assert (answer.status_code, answer.json()["error"]) == (503, "StoreError")
    assert "elsewhere" not in answer.text

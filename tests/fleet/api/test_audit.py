"""Every change that came over HTTP is in the audit log, under the token that was shown. Rules: docs/spec/audit.md."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import httpx
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from fastapi import FastAPI

from outrider_fleet.api import application
from outrider_fleet.api.failures import READING
from outrider_fleet.api.services import Services
from outrider_fleet.app import tokens
from outrider_fleet.app.seal import Seal
from outrider_fleet.store import sql
from outrider_fleet.store.tables import renewals
from outrider_protocol.messages import EnrolRequest, RenewRequest
from tests.fleet.api.conftest import Ask, Client
from tests.fleet.app.house import ALL, House, csr

V1 = "/api/v1"


@dataclass
class Day:
    """Sends requests and holds each against the newest entry of the log."""

    house: House
    app: FastAPI
    asked: set[tuple[str, str]] = field(default_factory=set)

    def __call__(self, kind: str, method: str, route: str, body: Any = None, **values: str) -> Any:
        """One request that succeeds: its entry names kind, token and the request's digest."""
        text = tokens.create(self.house.fleet, kind, "day")
        last, path = self.newest()["id"], V1 + route.format(**values)
        content = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {text}", "Content-Type": "application/json"}
        answer = Client(self.app, headers, "127.0.0.1").request(method, path, content=content)
        assert answer.is_success, (path, answer.text)
        hashed = b"" if route.startswith("/blobs/") else content
        entries = self.house.rows("SELECT * FROM audit WHERE id > ?", last)
        wanted = (f"{kind}:day", tokens.token_id(tokens.hashed(text)), digest(method, path, hashed))
        assert wanted in [(row["actor"], row["token"], row["request_sha256"]) for row in entries], path
        self.asked.add((method, route))
        return answer.json()

    def newest(self) -> dict[str, Any]:
        return self.house.rows("SELECT * FROM audit ORDER BY id DESC LIMIT 1")[0]


def digest(method: str, path: str, content: bytes) -> str:
    return sha256(f"{method} {path}\n".encode() + content).hexdigest()


def routes(app: FastAPI) -> set[tuple[str, str]]:
    """Every route of the interface that may change something."""
    found = {path.removeprefix(V1): item for path, item in app.openapi()["paths"].items() if path.startswith(V1)}
    assert len(found) > 25
    return {(method.upper(), path) for path, item in found.items() for method in item if method.upper() not in READING}


def test_every_change_is_an_entry(house: House, ask: Ask) -> None:
    """AUD-1: each route that changes something leaves an entry: who, by which token, what exactly was asked."""
    app = application.create(Services(house.fleet))
    day = Day(house, app)
    made = house.make("1.1", 2)
    artifact = str(house.value("SELECT digest FROM artifacts"))
    prediction = house.predict("watch-1", artifact, [0])
    house.sample("watch-1", artifact, prediction)
    Seal(house.fleet).step()

    day("operator", "POST", "/trust/refresh")
    day("operator", "POST", "/tokens", {"kind": "viewer", "name": "x"})
    spare = tokens.token_id(tokens.hashed(tokens.create(house.fleet, "viewer", "spare")))
    day("operator", "POST", "/tokens/{identifier}/revoke", {}, identifier=spare)
    day("operator", "POST", "/groups", {"name": "pair", "devices": ["watch-1"]})
    for digest_, data in made.blobs.items():
        day("pipeline", "PUT", "/blobs/{digest}", data, digest=digest_)
    day("pipeline", "POST", "/blobs/{digest}", data, digest=digest_)
    upload = {"metadata": made.metadata.decode(), "index": made.index.decode()}
    day("pipeline", "POST", "/releases", upload)
    rollout = day("operator", "POST", "/rollouts", {"model": "har", "version": "1.1", **ALL})["id"]
    day("operator", "POST", "/air-gap", {"devices": ["watch-1"]})
    day("operator", "POST", "/rollouts/{rollout}/{action}", {"reason": "r"}, rollout=rollout, action="abort")
    label = {"prediction_id": prediction[0], "label": "walk", "source": "p1/r1"}
    day("operator", "POST", "/labels", {"model": "har", "labels": [label]})
    day("operator", "PUT", "/policies/{model}", {"autonomy": "approve"}, model="har")
    day("operator", "POST", "/snapshots", {"model": "har"})
    run = day("operator", "POST", "/runs", {"model": "har"})["id"]
    day("runner", "POST", "/runs/claim", {})
    day("runner", "POST", "/runs/{run}/progress", {"fence": 1, "text": "x"}, run=run)
    day("runner", "POST", "/runs/{run}/finish", {"fence": 1, "state": "failed"}, run=run)
    with house.fleet.change() as change:
        change.connection.exec_driver_sql("UPDATE runs SET state = 'proposed'")
    day("operator", "POST", "/runs/{run}/approve", run=run)
    waits_for_approval(house, "watch-1")
    day("operator", "POST", "/devices/{device}/approve", device="watch-1")
    day("operator", "POST", "/devices/{device}/decommission", {"wait": False}, device="watch-1")
    day("operator", "POST", "/devices/{device}/revoke", device="watch-2")
    with house.fleet.change() as change:
        change.connection.exec_driver_sql("UPDATE audit SET hash = 'x' WHERE id = 3")
        change.connection.exec_driver_sql("DELETE FROM audit_heads")
        change.connection.exec_driver_sql("UPDATE audit SET id = id + 1000, hash = 'x'")
    day("operator", "POST", "/audit/reopen", {"reason": "test"})

    missing = routes(app) - day.asked - {("POST", "/enrol"), ("POST", "/renew")}
    assert not missing, (
        f"each of these changes something: ask for it above, or show elsewhere that it is an entry: {missing}"
    )


def waits_for_approval(house: House, device: str) -> None:
    """The device's certificate has ended and it asks for the next one."""
    row = {"device": device, "key_sha256": "0" * 64, "asked_ms": house.clock.now_ms}
    with house.fleet.change() as change:
        sql.put(change.connection, renewals, {**row, "approved_ms": None, "approved_by": None})


def test_enrolment_is_an_entry(ask: Ask, house: House) -> None:
    """AUD-1: a device that joins is named with the token that it used up and the digest of its request."""
    text = tokens.create(house.fleet, "device", "")
    request = EnrolRequest(text, "watch-9", "x86-64", csr())
    assert ask().post(f"{V1}/enrol", content=request.encode()).is_success
    row = house.rows("SELECT * FROM audit WHERE action = 'device.enrol' ORDER BY id DESC")[0]
    assert (row["actor"], row["token"]) == ("device:watch-9", tokens.token_id(tokens.hashed(text)))
    assert row["request_sha256"] == sha256(request.encode()).hexdigest()


def test_renewal_is_an_entry(ask: Ask, house: House) -> None:
    """AUD-1: a device that asks for its next certificate is named, with the digest of its request."""
    key = ec.generate_private_key(ec.SECP256R1())
    signed = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    text = signed.public_bytes(Encoding.PEM).decode()
    token = tokens.create(house.fleet, "device", "")
    assert ask().post(f"{V1}/enrol", content=EnrolRequest(token, "watch-9", "x86-64", text).encode()).is_success
    house.clock.pass_s(25 * 86_400)
    request = RenewRequest("watch-9", text)
    assert ask().post(f"{V1}/renew", content=request.encode()).is_success
    row = house.rows("SELECT * FROM audit WHERE action = 'device.renew'")[0]
    assert (row["actor"], row["token"], row["object"]) == ("device:watch-9", None, "watch-9")
    assert row["request_sha256"] == sha256(request.encode()).hexdigest()


def test_refused_changes_are_entries(ask: Ask, house: House) -> None:
    """AUD-3: what somebody with a token asked for and did not get; what nobody asked for with a token is not."""
    before = house.value("SELECT count(*) FROM audit WHERE action = 'request.refused'")
    viewer = ask("viewer")
    assert viewer.post(f"{V1}/rollouts", json={"model": "har", "version": "1.0", **ALL}).status_code == 403
    assert ask("operator").post(f"{V1}/rollouts/ro-000001/resume", json={}).status_code == 409
    assert ask("pipeline").put(f"{V1}/blobs/sha256:{'0' * 64}", content=b"other").status_code == 422
    rows = house.rows("SELECT actor, object, detail FROM audit WHERE action = 'request.refused' ORDER BY id")[before:]
    assert [(row["actor"], row["object"], json.loads(row["detail"])["error"]) for row in rows] == [
        ("viewer:test", f"POST {V1}/rollouts", "ForbiddenError"),
        ("operator:test", f"POST {V1}/rollouts/ro-000001/resume", "IllegalActionError"),
        ("pipeline:test", f"PUT {V1}/blobs/sha256:{'0' * 64}", "TamperedError"),
    ]
    count = house.value("SELECT count(*) FROM audit")
    for client in (ask(), ask()):
        assert client.post(f"{V1}/rollouts", json={}).status_code in (400, 401)
    assert ask("operator").get(f"{V1}/devices/nobody").status_code == 404
    assert house.value("SELECT count(*) FROM audit WHERE action != 'token.create'") == count - tokens_made(house, count)


def tokens_made(house: House, count: int) -> int:
    return int(house.value("SELECT count(*) FROM audit WHERE action = 'token.create' AND id <= ?", count))


def test_a_revoked_token(ask: Ask, house: House) -> None:
    """API-10: a token is revoked by the id that the log names, and opens nothing from then on."""
    text = tokens.create(house.fleet, "operator", "eve")
    identifier = tokens.token_id(tokens.hashed(text))
    eve, client = {"Authorization": f"Bearer {text}"}, ask("operator")
    assert ask().get(f"{V1}/audit", headers=eve).status_code == 200
    assert client.post(f"{V1}/tokens/{identifier}/revoke", json={}).json() == {"id": identifier, "state": "revoked"}
    assert ask().get(f"{V1}/audit", headers=eve).status_code == 401
    rows = {row["id"]: row["state"] for row in client.get(f"{V1}/tokens").json()}
    assert rows[identifier] == "revoked"
    assert {"used", "valid"} <= set(rows.values())
    assert client.post(f"{V1}/tokens/{'0' * 12}/revoke", json={}).status_code == 404


def test_the_last_operators_token(ask: Ask, house: House) -> None:
    """API-10: an operator does not lock everybody out; with another one made, the former goes."""
    first = tokens.create(house.fleet, "operator", "first")
    tokens.create(house.fleet, "operator", "was short", ttl_s=0.001)
    house.clock.pass_s(1)
    header, place = {"Authorization": f"Bearer {first}"}, f"{V1}/tokens/{tokens.token_id(tokens.hashed(first))}/revoke"
    refused = ask().post(place, json={}, headers=header)
    assert (refused.status_code, refused.json()["error"]) == (409, "LastOperatorError")
    ask("operator")
    assert ask().post(place, json={}, headers=header).status_code == 200


def test_reading_the_log(ask: Ask, house: House) -> None:
    """AUD-14: the log is an operator's to read, by pages, by beginnings; the signed head is anybody's who may read."""
    assert ask().get(f"{V1}/audit").status_code == 401
    assert ask("viewer").get(f"{V1}/audit").status_code == 403
    client = ask("operator")
    assert client.get(f"{V1}/audit/head").status_code == 404
    seen: list[dict[str, Any]] = []
    while page := page_of(client, seen):
        seen += page
    assert [row["id"] for row in seen] == list(range(len(seen), 0, -1))
    found = client.get(f"{V1}/audit", params={"action": "device.", "actor": "device:watch-1"}).json()
    assert {row["action"] for row in found} == {"device.enrol"}
    assert client.get(f"{V1}/audit", params={"action": "%"}).json() == []
    Seal(house.fleet).step()
    assert json.loads(ask().get(f"{V1}/audit/head").content)["payloadType"].endswith("audit-head.v1+json")


def page_of(client: Client, seen: list[dict[str, Any]]) -> list[dict[str, Any]]:
    params = httpx.QueryParams({"limit": 5, **({"after": seen[-1]["id"]} if seen else {})})
    return list(client.get(f"{V1}/audit", params=params).json())

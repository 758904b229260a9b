"""Stolen keys and tokens against a real server: what they start, and what they do not. Rules: docs/spec/trust.md."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from outrider_fleet.app import create_rollout, labels, policies, tokens
from outrider_fleet.app.create_rollout import Wanted
from outrider_fleet.signing import ceremony
from outrider_fleet.store import counters
from tests.database import rows
from tests.fleet.app.house import ALL, House, make_release
from tests.fleet.server.test_up import Up, eventually

TICKS = "[engine]\ntick_s = 0.02\n"


class Town:
    """A fleet with two devices on release 1.0, labelled samples and an automatic policy, served by a real server."""

    def __init__(self, directory: Path) -> None:
        self.house = House(directory)
        house = self.house
        house.enrol("watch-1", "watch-2")
        house.publish("1.0", 1)
        create_rollout.create(house.fleet, Wanted("har", "1.0", "all", ALL), "operator:test")
        for device in ("watch-1", "watch-2"):
            house.succeed(device)
        digest = str(house.value("SELECT digest FROM artifacts"))
        predicted = house.predict("watch-1", digest, [0, 1])
        house.sample("watch-1", digest, predicted)
        given = [{"prediction_id": p, "label": "run", "source": "p1/r1"} for p in predicted]
        labels.add(house.fleet, "har", given, "operator:people")
        self.tokens = {
            name: tokens.create(house.fleet, kind, name)
            for name, kind in (("operator", "operator"), ("ci", "pipeline"), ("runner", "runner"), ("thief", "runner"))
        }
        with house.fleet.change() as change:
            counters.draw(change.connection, "server_starts")  # the house was the first
            change.connection.exec_driver_sql("UPDATE blobs SET published_ms = NULL")  # and had no broker
        (house.home.path / "fleet.toml").write_text(f'name = "test"\n{TICKS}[training]\nenabled = false\n')

    def autonomy(self, level: str) -> None:
        policies.set_policy(
            self.house.fleet, "har", {"autonomy": level, "rollout": {"group": "all", **ALL}}, "operator:x"
        )

    def serve(self) -> None:
        self.house.close()
        self.up = Up(self.house.home.path)

    def ask(self, token: str, method: str, path: str, body: Any = None) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.tokens[token]}"}
        url = f"{self.up.endpoints['api']}/api/v1{path}"
        return httpx.request(method, url, json=body, headers=headers, trust_env=False, timeout=20)

    def publish(self, token: str, version: str, counter: int, run: dict[str, Any] | None = None) -> httpx.Response:
        """Upload and publish a release that the pipeline's key signed."""
        made = make_release(self.house, version, counter)
        headers = {"Authorization": f"Bearer {self.tokens[token]}"}
        for digest, data in made.blobs.items():
            url = f"{self.up.endpoints['api']}/api/v1/blobs/{digest}"
            assert httpx.put(url, content=data, headers=headers, trust_env=False).is_success
        said = {"run": run["id"], "snapshot": run["snapshot"], "inputs": ["p1/r1"]} if run else {}
        body = {"metadata": made.metadata.decode(), "index": made.index.decode(), "provenance": said}
        return self.ask(token, "POST", "/releases", body)

    def rollouts(self) -> list[dict[str, Any]]:
        return list(self.ask("operator", "GET", "/rollouts").json())

    def let_the_engine_turn(self) -> None:
        """Return when the engine has looked at everything that was there before: it ended a rollout for its age."""
        body = {"model": "har", "version": "1.0", **ALL, "execution_timeout_s": 1}
        answer = self.ask("operator", "POST", "/rollouts", body)
        assert answer.status_code == 201, answer.text
        eventually(lambda: self.states(answer.json()["id"]) == {"timed_out"})

    def states(self, rollout: str) -> set[str]:
        shown = self.ask("operator", "GET", f"/rollouts/{rollout}").json()
        return {execution["state"] for execution in shown["executions"]}


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    made = Town(tmp_path)
    yield made
    if made.up.process.poll() is None:
        made.up.end()


def test_a_stolen_pipeline_key_starts_nothing(town: Town) -> None:
    """RUN-3, RUN-6, SGN-44: with a pipeline's key and token, under `automatic`, nothing is rolled out or ordered."""
    town.autonomy("automatic")
    town.serve()
    before = town.rollouts()
    assert town.publish("ci", "6.6", 66).status_code == 201
    run = town.ask("operator", "POST", "/runs", {"model": "har"}).json()
    claimed = town.ask("runner", "POST", "/runs/claim", {}).json()["run"]
    refused = town.publish("ci", run["version"], run["counter"], run)
    assert (refused.status_code, refused.json()["error"]) == (422, "ReleaseRefusedError")
    for method, path, body in (
        ("POST", "/rollouts", {"model": "har", "version": "6.6", **ALL}),
        ("POST", "/rollouts/ro-000001/approve", {}),
        ("POST", "/runs", {"model": "har"}),
        ("POST", "/runs/claim", {}),
        ("POST", f"/runs/{run['id']}/finish", {"fence": claimed["fence"], "state": "succeeded"}),
        ("PUT", "/policies/har", {"autonomy": "automatic"}),
        ("POST", "/tokens", {"kind": "operator"}),
    ):
        assert town.ask("ci", method, path, body).status_code == 403, path
    town.let_the_engine_turn()
    assert {rollout["version"] for rollout in town.rollouts()} == {"1.0"}
    assert len(town.rollouts()) == len(before) + 1


def test_a_runner_that_did_not_claim_the_run(town: Town) -> None:
    """RUN-6: another runner's token neither publishes for a run nor reports on it, though it reads the fence."""
    town.autonomy("automatic")
    town.serve()
    town.ask("operator", "POST", "/runs", {"model": "har"})
    claimed = town.ask("runner", "POST", "/runs/claim", {}).json()["run"]
    assert town.publish("thief", claimed["version"], claimed["counter"], claimed).status_code == 422
    for path, body in (("progress", {"text": "x"}), ("finish", {"state": "succeeded"})):
        answer = town.ask("thief", "POST", f"/runs/{claimed['id']}/{path}", {"fence": claimed["fence"], **body})
        assert answer.status_code == 409
    assert {rollout["version"] for rollout in town.rollouts()} == {"1.0"}


def test_the_whole_runners_machine(town: Town) -> None:
    """RUN-3: with the runner's key and token and a run that the server started, a person is waited for all the same,
    save where the model's level says that nobody is asked.
    """
    town.serve()
    for level, state in (("propose", "proposed"), ("approve", "proposed"), ("automatic", "running")):
        policy = {"autonomy": level, "rollout": {"group": "all", **ALL}}
        assert town.ask("operator", "PUT", "/policies/har", policy).status_code == 200
        run = town.ask("operator", "POST", "/runs", {"model": "har"}).json()
        claimed = town.ask("thief", "POST", "/runs/claim", {}).json()["run"]
        assert town.publish("thief", run["version"], run["counter"], claimed).status_code == 201
        done = {"fence": claimed["fence"], "state": "succeeded", "inputs": ["p1/r1"]}
        assert town.ask("thief", "POST", f"/runs/{run['id']}/finish", done).status_code == 200
        found = eventually(lambda run=run: [r for r in town.rollouts() if r["version"] == run["version"]])
        assert [(r["state"], r["created_by"], r["run"]) for r in found] == [(state, "policy", run["id"])]
        assert (town.states(found[0]["id"]) == {"queued"}) == (state == "proposed")


def test_a_revoked_pipelines_release_is_not_rolled_out(town: Town) -> None:
    """ROL-20: what was published before its pipeline was revoked is refused by name when somebody rolls it out."""
    town.autonomy("propose")
    town.serve()
    assert town.publish("ci", "6.6", 66).status_code == 201
    new = town.house.directory / "new.pem"
    ceremony.delegate(town.house.home.path, town.house.offline, "har", ceremony.make_pipeline_key(new))
    body = {"model": "har", "version": "6.6", **ALL}
    answer = town.ask("operator", "POST", "/rollouts", body)
    assert (answer.status_code, answer.json()["error"]) == (422, "WithdrawnError")
    assert town.publish("ci", "6.7", 67).json()["error"] == "SignatureThresholdError"


_NOTE = """
import os, sys
_file = os.open(os.environ["OPENED"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
_ends = (".pem", ".key", ".token", ".pub")
def _note(event, args):
    if event == "open" and isinstance(args[0], str) and args[0].endswith(_ends):
        os.write(_file, f"{os.getpid()}\\t{' '.join(sys.orig_argv)[:300]}\\t{args[0]}\\n".encode())
sys.addaudithook(_note)
"""


def test_who_opens_which_key(town: Town, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SGN-45: an audit hook in every Python process of a working server: the signer alone opens the online keys, nobody
    opens an offline or a pipeline's key, and no key is among the server's open files.
    """
    (tmp_path / "hook").mkdir()
    (tmp_path / "hook" / "sitecustomize.py").write_text(_NOTE)
    monkeypatch.setenv("OPENED", str(tmp_path / "opened.log"))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path / "hook"), *sys.path]))
    town.autonomy("propose")
    town.serve()
    assert town.publish("ci", "1.1", 2).status_code == 201
    answer = town.ask("operator", "POST", "/rollouts", {"model": "har", "version": "1.1", **ALL})
    assert answer.status_code == 201
    assert town.ask("operator", "POST", "/trust/refresh").status_code == 200
    eventually(lambda: town.ask("operator", "GET", "/audit/head").status_code == 200)
    pids = town.up.endpoints["pids"]
    held = {path.readlink() for path in Path(f"/proc/{pids['server']}/fd").iterdir() if path.exists()}
    assert not [path for path in held if path.suffix in (".pem", ".key")]
    assert town.up.end() == 0
    opened: dict[str, set[str]] = {"signer": set(), "others": set()}
    for line in (tmp_path / "opened.log").read_text().splitlines():
        _, argv, path = line.split("\t")
        opened["signer" if "-m outrider_fleet.signing" in argv else "others"].add(path)
    keys = {
        str(town.house.home.path / "keys" / f"{name}.pem") for name in ("snapshot", "timestamp", "director", "audit")
    }
    assert keys <= opened["signer"]
    assert not keys & opened["others"]
    private = [path for path in opened["others"] if "PRIVATE" in Path(path).read_text(errors="replace")]
    assert {str(Path(path).relative_to(town.house.home.path).parent) for path in private} <= {"ca", "broker"}
    never = {str(town.house.pipeline), *map(str, town.house.offline.directory.iterdir())}
    assert not never & (opened["signer"] | opened["others"])


def test_killed_and_whole(town: Town) -> None:
    """AUD-2, AUD-13: a server that was killed with -9 leaves a whole log; its end is sealed after the next start."""
    town.autonomy("propose")
    town.serve()
    for number in range(5):
        body = {"model": "har", "version": "1.0", **ALL}
        assert town.ask("operator", "POST", "/rollouts", body).status_code == 201, number
    town.up.end(9)
    town.up = Up(town.house.home.path)
    eventually(lambda: town.up.health()["audit"])
    assert town.up.end() == 0
    from click.testing import CliRunner

    from outrider_fleet.cli import main

    result = CliRunner().invoke(main, ["--home", str(town.house.home.path), "audit", "verify", "--json"])
    said = json.loads(result.stdout)
    assert (said["whole"], said["unsigned"]) == (True, 0)
    actions = rows(town.house.home.database, "SELECT action FROM audit")
    assert actions.count(("rollout.create",)) == 6

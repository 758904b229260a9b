"""The audit log of a fleet: what is in it, that it is whole, and how it is sealed. Rules: docs/spec/audit.md."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from outrider_fleet.app import admission, create_rollout, policies, rollouts, tokens
from outrider_fleet.app.create_rollout import Wanted
from outrider_fleet.app.distribute import Distribution
from outrider_fleet.app.seal import Seal, reopen
from outrider_fleet.cli import main
from outrider_fleet.domain.rollout_state import Action
from outrider_fleet.errors import FleetError, IllegalActionError
from outrider_fleet.signing import ceremony, rotation
from outrider_fleet.signing.errors import AuditForkedError
from outrider_fleet.store import audit
from outrider_protocol import dsse, limits, signing
from outrider_protocol.audit import HEAD_TYPE, Head
from outrider_protocol.order import Order
from tests.database import rows
from tests.fleet.app.house import ALL, CANARY, House


@pytest.fixture(scope="module")
def earlier(tmp_path_factory: pytest.TempPathFactory) -> House:
    """Two devices on release 1.0, 1.1 published."""
    made = House(tmp_path_factory.mktemp("audit"))
    made.enrol("watch-1", "watch-2")
    made.publish("1.0", 1)
    create_rollout.create(made.fleet, Wanted("har", "1.0", "all", ALL), "operator:test")
    for device in ("watch-1", "watch-2"):
        made.succeed(device)
    made.publish("1.1", 2)
    made.close()
    return made


@pytest.fixture
def house(tmp_path: Path, earlier: House) -> Iterator[House]:
    made = House(tmp_path / "house", earlier)
    yield made
    made.close()


def actions(house: House, beginning: str = "") -> list[tuple[str, str, str]]:
    rows = house.rows("SELECT actor, action, object FROM audit ORDER BY id")
    return [(r["actor"], r["action"], r["object"]) for r in rows if r["action"].startswith(beginning)]


def verify(house: House, *args: str) -> Result:
    return CliRunner().invoke(main, ["--home", str(house.home.path), "audit", "verify", *args])


def seal(house: House) -> None:
    Seal(house.fleet).step()


def head(house: House, path: Path) -> Path:
    path.write_text(house.value("SELECT envelope FROM audit_heads ORDER BY seq DESC LIMIT 1"))
    return path


def test_a_rollouts_whole_life(house: House) -> None:
    """AUD-1: created by a person, ordered, stepped by the engine, aborted by a person: each is an entry."""
    wanted = Wanted("har", "1.1", "all", {**CANARY, "phases": [{"name": "canary", "max_devices": 1}]})
    rollout = create_rollout.create(house.fleet, wanted, "operator:eve")
    rollouts.act(house.fleet, rollout, Action.PAUSE, "lunch", "operator:eve")
    rollouts.act(house.fleet, rollout, Action.RESUME, "", "operator:adam")
    rollouts.act(house.fleet, rollout, Action.ABORT, "no", "operator:adam")
    assert [entry for entry in actions(house) if entry[2] == rollout] == [
        ("operator:eve", "rollout.create", rollout),
        ("operator:eve", "rollout.paused", rollout),
        ("operator:adam", "rollout.resumed", rollout),
        ("operator:adam", "rollout.aborted", rollout),
    ]
    assert ("engine", "rollout.completed", "ro-000001") in actions(house)
    assert [actor for actor, _, _ in actions(house, "order.issue")] == [
        "operator:test",
        "operator:eve",
        "operator:adam",
    ]


def test_orders_are_told_apart(house: House) -> None:
    """AUD-1: an entry's digest is that of exactly the orders that were signed."""
    row = house.rows("SELECT detail FROM audit WHERE action = 'order.issue'")[0]
    said = json.loads(row["detail"])
    lines = []
    for order in house.rows("SELECT envelope FROM orders ORDER BY seq"):
        payload = dsse.Envelope.decode(order["envelope"], limits.ORDER_BYTES).payload
        made = Order.decode(payload)
        lines.append(f"{made.aud.device} {made.epoch} {made.seq} {sha256(payload).hexdigest()}\n")
    assert said["orders_sha256"] == sha256("".join(lines).encode()).hexdigest()
    assert (said["devices"], said["targets"]) == (["watch-1", "watch-2"], ["har/1.0/x86-64"])


def test_ceremonies_are_seen(house: House) -> None:
    """AUD-1: whatever a ceremony changed is an entry with versions, digests, signing keys, delegations and floors."""
    distribution = Distribution(house.fleet)
    distribution.step()
    before = actions(house, "trust.")
    ceremony.set_floor(house.home.path, house.offline, "har", 2)
    rotation.rotate_director(house.home.path, house.offline)
    distribution.step()
    distribution.step()
    assert actions(house, "trust.")[len(before) :] == [("ceremony", "trust.changed", "root v1, targets v4")]
    said = json.loads(
        house.rows("SELECT detail FROM audit WHERE action = 'trust.changed' ORDER BY id DESC")[0]["detail"]
    )
    assert (said["director_epoch"], said["floors"], len(said["targets_signed_by"])) == (2, {"har": 2}, 1)


def test_it_stands_with_what_it_tells(house: House) -> None:
    """AUD-2: a change that fails leaves no entry, and one that is committed has its own."""
    before = audit_end(house)
    with pytest.raises(FleetError):
        admission.revoke(house.fleet, "nobody", "operator:eve")
    with pytest.raises(ZeroDivisionError):
        fail(house)
    assert audit_end(house) == before
    admission.revoke(house.fleet, "watch-1", "operator:eve")
    assert audit_end(house) == before + 1


def fail(house: House) -> None:
    with house.fleet.change() as change:
        change.audit("operator:eve", "x", "y")
        raise ZeroDivisionError


def audit_end(house: House) -> int:
    with house.fleet.look() as connection:
        return audit.end(connection).seq


_WRITER = """
import sys
from pathlib import Path
from outrider_fleet.store import audit, sql
from outrider_fleet.store.database import open_database
from outrider_fleet.store.tables import maintenance_events
database = open_database(f"sqlite:///{sys.argv[1]}")
print("ready", flush=True)
n = 0
while True:
    n += 1
    with database.write() as connection:
        row = {"device": "d", "model": "m", "text": str(n), "created_ms": n}
        sql.insert(connection, maintenance_events, row)
        audit.append(connection, n, "cli:writer", "test.event", str(n), detail={"n": n})
    print(n, flush=True)
"""


def test_after_kill_9(tmp_path: Path) -> None:
    """AUD-2: a writer is killed again and again; every committed change has its entry, no entry lacks its change."""
    path = tmp_path / "fleet.db"
    told = 0
    for turn in range(6):
        with subprocess.Popen([sys.executable, "-c", _WRITER, str(path)], stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            assert writer.stdout.readline() == "ready\n"
            for _ in range(3 + 5 * turn):
                told += bool(writer.stdout.readline())
            os.kill(writer.pid, signal.SIGKILL)
        changes = rows(path, "SELECT text FROM maintenance_events ORDER BY id")
        entries = rows(path, "SELECT object FROM audit ORDER BY id")
        assert changes == entries
        assert len(entries) >= told
        told = len(entries)
    from outrider_fleet.domain.audit_check import check
    from outrider_fleet.store import audit_file

    with audit_file.opened(path) as log:
        report = check(log.rows, [], [])
    assert (report.whole, report.entries) == (True, told)


def test_sealed_and_verified(house: House, tmp_path: Path) -> None:
    """AUD-5, AUD-6, AUD-13: the signer's head reaches the end; nothing new, nothing signed; verified by public keys."""
    keeper = Seal(house.fleet)
    keeper.step()
    assert keeper.holds
    signed = house.signer.journal.entries()
    keeper.step()
    assert house.signer.journal.entries() == signed
    assert "whole" in verify(house).stdout
    away = tmp_path / "away"
    house.fleet.database.close()
    shutil.copytree(house.home.trust, away / "trust")
    shutil.copy(house.home.database, away / "copy.db")
    root = away / "trust" / "1.root.json"
    args = (str(away / "copy.db"), "--trust", str(away / "trust"), "--root", str(root), "--json")
    said = json.loads(verify(house, *args).stdout)
    assert (said["whole"], said["unsigned"], said["signed_seq"]) == (True, 0, said["entries"])


def test_many_entries_are_sealed_in_steps(house: House) -> None:
    """AUD-13: what one request cannot hold is sealed in several; of each hour the last head is kept."""
    house.clock.now_ms -= house.clock.now_ms % 3_600_000
    seal(house)
    house.clock.pass_s(3600)
    with house.fleet.change() as change:
        for number in range(1200):
            change.audit("operator:eve", "test", str(number))
    seal(house)
    rows = house.rows("SELECT seq FROM audit_heads ORDER BY seq")
    assert [row["seq"] for row in rows] == [audit_end(house) - 1200, audit_end(house)]
    signed = [line for line in house.signer.journal.entries() if line["kind"] == "audit_head"]
    assert len(signed) == 4
    assert verify(house).exit_code == 0


def test_a_server_that_died_before_keeping_the_head(house: House) -> None:
    """AUD-13: a head that was signed and not stored is signed again, and stored."""
    seal(house)
    with house.fleet.change() as change:
        change.connection.exec_driver_sql("DELETE FROM audit_heads")
    seal(house)
    assert house.value("SELECT count(*) FROM audit_heads") == 1
    assert verify(house).exit_code == 0


TAMPERINGS: dict[str, str] = {
    "changed": "UPDATE audit SET actor = 'operator:nobody' WHERE id = 3",
    "detail": "UPDATE audit SET detail = '{}' WHERE id = 4",
    "no entry": "UPDATE audit SET at_ms = 'x' WHERE id = 3",
    "no hash": "UPDATE audit SET hash = '' WHERE id = 3",
    "removed": "DELETE FROM audit WHERE id = 3",
    "cut": "DELETE FROM audit WHERE id > 3",
    "moved": "UPDATE audit SET id = id + 1000 WHERE id = 2",
}


@pytest.mark.parametrize("statement", TAMPERINGS.values(), ids=TAMPERINGS.keys())
def test_a_tampered_database(house: House, statement: str) -> None:
    """AUD-7: one statement on the database is found, by the chain or by the head beside it."""
    seal(house)
    with house.fleet.change() as change:
        change.connection.exec_driver_sql(statement)
    result = verify(house)
    assert result.exit_code == 3
    assert "NOT WHOLE" in result.stdout


def rewrite(house: House, act: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> None:
    """What an intruder with the database does, and covers up: every hash is made anew, no head is left."""
    from dataclasses import replace

    from outrider_protocol.audit import START

    with house.fleet.change() as change:
        rows = act(audit.after(change.connection, 0))
        change.connection.exec_driver_sql("DELETE FROM audit")
        change.connection.exec_driver_sql("DELETE FROM audit_heads")
        last = START
        for number, row in enumerate(rows, start=1):
            entry = replace(audit.entry_of(row), seq=number, prev=last.hash)
            change.connection.execute(audit.audit.insert().values(audit.row_of(entry)))
            last = entry.link


@pytest.mark.parametrize("act", [lambda rows: rows[:-2], lambda rows: rows[1:], lambda rows: [rows[0], *rows]])
def test_a_rewritten_database(house: House, tmp_path: Path, act: Callable[[Any], Any]) -> None:
    """AUD-5, AUD-7: an intruder makes the whole chain anew: the signer refuses it, and so does whoever kept a head."""
    seal(house)
    kept = head(house, tmp_path / "head.json")
    rewrite(house, act)
    with pytest.raises(AuditForkedError):
        seal(house)
    journal = house.home.logs / "signatures.jsonl"
    copy = str(shutil.copy(house.home.database, tmp_path / "copy.db"))
    house.fleet.database.close()
    assert verify(house, "--head", str(kept)).exit_code == 3
    assert verify(house, "--signatures", str(journal)).exit_code == 3
    assert verify(house).exit_code == 3
    assert verify(house, copy).exit_code == 0, "without any head the copy says of itself what it likes"


def test_a_stolen_audit_key(house: House, tmp_path: Path) -> None:
    """AUD-7: with the audit key an intruder signs a head for a rewritten log; one that was kept elsewhere tells it."""
    seal(house)
    kept = head(house, tmp_path / "head.json")
    rewrite(house, lambda rows: rows[1:])
    with house.fleet.change() as change:
        end = audit.end(change.connection)
        stolen = signing.load_private(house.home.path / "keys" / "audit.pem")
        forged = Head("test", end.seq, end.hash, house.clock.now_ms + 1)
        envelope = signing.sign_envelope(HEAD_TYPE, forged.encode(), [stolen])
        audit.put_head(change.connection, house.clock.now_ms, end.seq, end.hash, envelope)
    house.fleet.database.close()
    copy = str(shutil.copy(house.home.database, tmp_path / "copy.db"))
    assert verify(house, copy).exit_code == 0
    assert verify(house, copy, "--head", str(kept)).exit_code == 3
    assert verify(house).exit_code == 3, "the signer's own log contradicts it"


def test_a_restored_backup(house: House, tmp_path: Path) -> None:
    """AUD-9: the log of a restored backup is not signed until it is reopened; every later head says what is lost."""
    seal(house)
    house.fleet.database.close()
    shutil.copy(house.home.database, tmp_path / "backup.db")
    policies.set_policy(house.fleet, "har", {"autonomy": "automatic"}, "operator:eve")
    seal(house)
    lost = head(house, tmp_path / "lost.json")
    house.fleet.database.close()
    for suffix in ("-wal", "-shm"):
        Path(f"{house.home.database}{suffix}").unlink(missing_ok=True)
    shutil.copy(tmp_path / "backup.db", house.home.database)
    house.restart()
    keeper = Seal(house.fleet)
    admission.revoke(house.fleet, "watch-2", "operator:eve")
    with pytest.raises(AuditForkedError):
        keeper.step()
    assert not keeper.holds
    said = reopen(house.fleet, "backup of monday", "operator:eve")
    assert said["signed_seq"] - said["kept_seq"] == 1
    keeper.step()
    result = verify(house, "--head", str(lost))
    assert result.exit_code == 0, result.stdout
    assert "given up: entries" in result.stdout
    assert ("operator:eve", "audit.reopened", "test") in actions(house)
    with pytest.raises(IllegalActionError):
        reopen(house.fleet, "again", "operator:eve")


def test_strange_texts(house: House) -> None:
    """AUD-10: lone surrogates, infinities, endless details and long names never fail the change they tell of."""
    with house.fleet.change() as change:
        change.audit("operator:\ud800", "test", "x" * 5000, {"a": float("inf"), "\udc00": ["\ud800", (1, None)]})
        change.audit("operator:eve", "test", "long", {"devices": ["d" * 64] * 5000})
        change.audit("operator:eve", "test", "deep", {"n": 2**60, "t": 0.1, "o": object})
    seal(house)
    assert verify(house).exit_code == 0
    rows = house.rows("SELECT actor, object, detail FROM audit WHERE action = 'test' ORDER BY id")
    assert rows[0]["actor"] == "operator:\\ud800"
    assert len(rows[0]["object"]) == 1000
    assert set(json.loads(rows[1]["detail"])) == {"bytes", "digest"}


def test_tokens_are_named_by_id(house: House) -> None:
    """AUD-1: a token's making and its uses carry the same id, which opens nothing."""
    text = tokens.create(house.fleet, "operator", "eve", actor="cli:adam")
    caller = tokens.authenticate(house.fleet, text)
    policies.set_policy(house.fleet, "har", {"autonomy": "approve"}, caller.actor)
    made, used = house.rows("SELECT token, detail FROM audit ORDER BY id DESC LIMIT 2")[::-1]
    assert json.loads(made["detail"])["token"] == used["token"] == sha256(text.encode()).hexdigest()[:12]
    with pytest.raises(FleetError):
        tokens.authenticate(house.fleet, str(used["token"]))


def test_a_new_directors_orders(house: House) -> None:
    """AUD-1, ORD-2: after a rotation what still waits is ordered anew by the server, in the new epoch, and told."""
    create_rollout.create(house.fleet, Wanted("har", "1.1", "all", ALL), "operator:eve")
    house.signer.tick()
    rotation.rotate_director(house.home.path, house.offline)
    distribution = Distribution(house.fleet)
    distribution.step()
    rotation.rotate_director(house.home.path, house.offline)
    distribution.step()
    distribution.step()
    orders = [house.order(device) for device in ("watch-1", "watch-2")]
    assert [(order.epoch, order.release) for order in orders if order] == [(3, "1.1"), (3, "1.1")]
    assert [actor for actor, _, _ in actions(house, "order.issue")][-3:] == ["operator:eve", "server", "server"]

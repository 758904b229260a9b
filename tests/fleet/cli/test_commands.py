"""`outrider-fleet` against a running server. Rules: docs/spec/server.md."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from outrider_fleet.app import tokens
from outrider_fleet.app.seal import Seal
from outrider_fleet.cli import main
from tests.fleet.cli.shell import Shell

DOCS = Path(__file__).parents[3] / "docs"


def commands(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name), command


@pytest.fixture
def a_list(tmp_path: Path) -> str:
    """A file that holds a JSON list: no object, and no folder."""
    (tmp_path / "list.json").write_text("[]", encoding="utf-8")
    return str(tmp_path / "list.json")


def test_every_command_is_documented() -> None:
    """CLI-5: each command has its heading in the reference."""
    text = (DOCS / "reference" / "outrider-fleet.md").read_text("utf-8")
    missing = [" ".join(path) for path, _ in commands(main) if f"# outrider-fleet {' '.join(path)}\n" not in text]
    assert missing == []


def test_every_answer_has_json() -> None:
    """CLI-1: apart from what only acts on this machine."""
    plain = {("up",), ("signer",), ("trust", "pipeline-key")}
    for path, command in commands(main):
        has = any("--json" in parameter.opts for parameter in command.params)
        assert has or path in plain, path
        assert command.help, path


@pytest.mark.parametrize(
    "args",
    [
        ("devices",),
        ("device", "show", "watch-1"),
        ("group", "list"),
        ("release", "list"),
        ("release", "show", "har", "1.0"),
        ("rollout", "list"),
        ("rollout", "show", "ro-000001"),
        ("why", "ro-000001"),
        ("drift",),
        ("snapshot", "list"),
        ("run", "list"),
        ("policy", "show"),
        ("lineage", "release", "har/1.0"),
    ],
)
def test_reading(shell: Shell, args: tuple[str, ...]) -> None:
    """CLI-1 and CLI-5: every view, for people and for programs."""
    assert shell.json(*args) is not None
    people = shell(*args)
    assert people.exit_code == 0
    assert people.stdout.strip()
    assert people.stderr == ""


def test_a_working_day(shell: Shell, tmp_path: Path) -> None:
    """CLI-5: tokens, groups, a rollout from canary to abort, labels, policy, snapshot, run, revocation."""
    assert shell("token", "create", "--kind", "device").stdout.strip().endswith(shell.house.authority.fingerprint)
    assert shell.json("token", "create", "--kind", "viewer")["token"].startswith("outrider-viewer-")
    assert shell.json("group", "create", "pair", "--device", "watch-1")["devices"] == ["watch-1"]
    made = shell.json(
        "rollout", "create", "har", "1.1", "--phase", "canary=1", "--phase", "all=100%", "--failures", "max_ratio=0.1",
        "--failures", "min_sample=1", "--parameter", "probation_windows=3", "--idempotency-key", "day-1",
    )  # fmt: skip
    assert (made["exposed"], made["total"]) == (1, 2)
    for action, state in (("pause", "paused"), ("resume", "running"), ("advance", "running"), ("abort", "aborted")):
        assert shell.json("rollout", action, made["id"], "--reason", "test")["state"] == state
    assert "test" in shell("why", made["id"]).stdout
    digest = str(shell.house.value("SELECT digest FROM artifacts WHERE version = '1.0'"))
    predicted = shell.house.predict("watch-2", digest, [0, 1])
    shell.house.sample("watch-2", digest, predicted)
    file = tmp_path / "labels.json"
    file.write_text(json.dumps([{"prediction_id": p, "label": "run", "source": "p1/r1"} for p in predicted]))
    assert shell.json("label", "import", str(file), "--model", "har") == {"accepted": 2}
    assert shell.json("policy", "set", "har", "--autonomy", "approve")["autonomy"] == "approve"
    assert shell.json("snapshot", "create", "har")["n"] == 2
    run = shell.json("run", "create", "har")
    assert shell.json("run", "show", run["id"])["state"] == "queued"
    assert "run run-000001" in shell("lineage", "recording", "p1/r1").stdout
    assert shell.json("device", "revoke", "watch-1")["state"] == "revoked"
    assert shell.json("device", "decommission", "watch-1", "--now")["state"] == "decommissioned"
    files = shell.json("broker-config", "mosquitto", str(tmp_path / "mosquitto"))
    assert Path(files["configuration"]).exists()


@pytest.mark.parametrize(
    ("args", "status", "error"),
    [
        (("device", "show", "nobody"), 4, "UnknownError"),
        (("rollout", "create", "har", "9.9"), 4, "UnknownError"),
        (("rollout", "resume", "ro-000001"), 4, "IllegalActionError"),
        (("rollout", "create", "har", "1.0", "--failures", "max_ratio=7"), 2, "GateError"),
        (("run", "approve", "run-000099"), 4, "UnknownError"),
        (("device", "approve", "watch-2"), 4, "ConflictError"),
        (("device", "decommission", "nobody"), 4, "UnknownError"),
    ],
)
def test_refusals(shell: Shell, args: tuple[str, ...], status: int, error: str) -> None:
    """CLI-2 and CLI-3: the server's own words, and a status by kind."""
    result = shell(*args)
    assert (result.exit_code, result.stdout) == (status, "")
    first, second = result.stderr.strip().splitlines()
    assert first.startswith(f"error: {error}: ")
    assert second.startswith("hint: ")


@pytest.mark.parametrize(
    "args",
    [
        ("rollout", "create", "har", "1.0", "--phase", "canary"),
        ("rollout", "create", "har", "1.0", "--shadow", "max_ratio"),
        ("group", "create", "x"),
        ("token", "create", "--kind", "king"),
        ("label", "import", "/nowhere", "--model", "har"),
        ("rollout", "create", "har", "1.0", "--phase", "none=0%"),
        ("rollout", "create", "har", "1.0", "--phase", "odd=\u00b2"),
        ("rollout", "create", "har", "1.0", "--failures", "min_sample=nan"),
        ("rollout", "create", "har", "1.0", "--spec", "LIST"),
        ("policy", "set", "har", "--spec", "LIST"),
        ("trust", "adopt", str(DOCS)),
    ],
)
def test_usage(shell: Shell, args: tuple[str, ...], a_list: str) -> None:
    """CLI-2: what makes no sense never reaches the server."""
    result = shell(*(arg.replace("LIST", a_list) for arg in args))
    assert (result.exit_code, type(result.exception), result.stdout) == (2, SystemExit, "")


@pytest.mark.parametrize(
    "args",
    [
        ("audit", "head", "LIST/head.json"),
        ("audit", "export", "LIST/log.jsonl"),
        ("broker-config", "mosquitto", "LIST/mosquitto"),
        ("init", "LIST/home", "--offline", "LIST/offline", "--without-passphrase"),
        ("trust", "prepare", "timestamp", "LIST/timestamp.pub"),
    ],
)
def test_a_place_that_cannot_be_used(shell: Shell, args: tuple[str, ...], a_list: str) -> None:
    """CLI-2 and CLI-3: a folder that takes no file ends in a named error with a hint, not in Python's own words."""
    Seal(shell.house.fleet).step()
    result = shell(*(arg.replace("LIST", a_list) for arg in args))
    assert (result.exit_code, type(result.exception), result.stdout) == (2, SystemExit, "")
    first, second = result.stderr.strip().splitlines()
    assert first.startswith(f"error: NotADirectoryError: {a_list}/")
    assert second.startswith("hint: ")


def test_tokens(shell: Shell) -> None:
    """CLI-4: a token of another kind is 5, a wrong one too; the environment goes before the home."""
    viewer = tokens.create(shell.house.fleet, "viewer", "v")
    assert shell("--token", viewer, "rollout", "create", "har", "1.0").exit_code == 5
    assert shell("devices", OUTRIDER_FLEET_TOKEN="nonsense").exit_code == 5
    assert shell("devices", OUTRIDER_FLEET_TOKEN=viewer).exit_code == 0
    for none in ("t\u00f6ken", "two\nlines"):
        result = shell("devices", OUTRIDER_FLEET_TOKEN=none)
        assert (result.exit_code, "holds what no token holds" in result.stderr) == (5, True)


def test_no_address() -> None:
    """CLI-2: an address that is none is usage, and is named."""
    result = CliRunner().invoke(main, ["--api", "http://127.0.0.1:abc", "devices"])
    assert (result.exit_code, result.stdout) == (2, "")
    assert "http://127.0.0.1:abc is no address" in result.stderr


def test_no_server(tmp_path: Path) -> None:
    """CLI-2: nothing runs on that home, or nothing answers there."""
    for args in (["--home", str(tmp_path), "devices"], ["--api", "http://127.0.0.1:9", "devices"]):
        result = CliRunner().invoke(main, args)
        assert (result.exit_code, result.stdout) == (1, "")
        assert "hint: " in result.stderr

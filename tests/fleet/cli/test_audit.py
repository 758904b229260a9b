"""`outrider-fleet audit …` and what commands on the server's machine leave in the log. Rules: docs/spec/audit.md."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from outrider_fleet.app.seal import Seal
from outrider_fleet.cli import main
from outrider_fleet.server.initialise import cli_user
from tests.database import rows
from tests.fleet.cli.shell import Shell


@pytest.fixture
def exported(shell: Shell, tmp_path: Path) -> Path:
    """A log that was exported, and the trust that it is verified with."""
    Seal(shell.house.fleet).step()
    path = tmp_path / "audit.jsonl"
    assert shell.json("audit", "export", str(path))["entries"] > 5
    shutil.copytree(shell.house.home.trust, tmp_path / "trust")
    return path


def verify(path: Path, *args: str) -> tuple[int, str]:
    """Verify an export as an auditor would who has no server: only the file and public metadata."""
    trust = str(path.parent / "trust")
    result = CliRunner().invoke(main, ["--home", "/nowhere", "audit", "verify", str(path), "--trust", trust, *args])
    return result.exit_code, result.stdout + result.stderr


def test_show(shell: Shell) -> None:
    """AUD-14: newest first, narrowed by beginnings, for people and for programs."""
    rows = shell.json("audit", "show", "--limit", "500")
    assert [row["id"] for row in rows] == sorted((row["id"] for row in rows), reverse=True)
    few = shell.json("audit", "show", "--action", "release.", "--actor", "pipeline:")
    assert {row["action"] for row in few} == {"release.publish"}
    assert shell.json("audit", "show", "--before", "3", "--limit", "1")[0]["id"] == 2
    assert "release.publish" in shell("audit", "show", "--action", "release.").stdout


def test_an_export_is_verified_anywhere(exported: Path, shell: Shell, tmp_path: Path) -> None:
    """AUD-6: an export, public metadata and a root of trust are all it takes."""
    status, said = verify(exported, "--root", str(exported.parent / "trust" / "1.root.json"))
    assert (status, "whole" in said) == (0, True), said
    head = tmp_path / "head.json"
    assert shell("audit", "head", str(head)).exit_code == 0
    assert json.loads(shell("audit", "head").stdout) == json.loads(head.read_text())
    assert verify(exported, "--head", str(head))[0] == 0
    for option in ("--head", "--root"):
        status, said = verify(exported, option, __file__)
        assert (status, __file__ in said) == (3, True), said


@pytest.mark.parametrize(
    ("find", "put"),
    [
        (b'"actor":"pipeline:test"', b'"actor":"pipeline:tess"'),
        (b'"prev":"', b'"prev":"0'),
        (b'"seq":3,', b'"seq":4,'),
    ],
)
def test_a_tampered_export(exported: Path, find: bytes, put: bytes) -> None:
    """AUD-7: one changed byte in an export is found."""
    data = exported.read_bytes()
    assert find in data
    exported.write_bytes(data.replace(find, put, 1))
    assert verify(exported)[0] == 3


def test_lines_removed_moved_doubled_and_torn(exported: Path) -> None:
    """AUD-7, AUD-8: lines that are missing, moved, doubled or torn are found; the head at the end covers them all."""
    lines = exported.read_bytes().splitlines(keepends=True)
    for changed in (
        lines[1:],
        [*lines[:2], *lines[3:]],
        [*lines[:-2], lines[-1]],
        [lines[1], lines[0], *lines[2:]],
        [lines[0], *lines],
        [lines[-1]],
    ):
        exported.write_bytes(b"".join(changed))
        assert verify(exported)[0] == 3
    exported.write_bytes(b"".join(lines)[:-20])
    status, said = verify(exported)
    assert (status, "torn" in said) == (3, True)


def test_other_keys(exported: Path, tmp_path: Path) -> None:
    """AUD-6: a head by keys that the given root does not lead to is refused by name."""
    other = CliRunner().invoke(
        main,
        ["--home", str(tmp_path / "other"), "trust", "init", "--offline", str(tmp_path / "k"), "--without-passphrase"],
    )
    assert other.exit_code == 0
    trust = tmp_path / "other" / "trust"
    assert "TrustBrokenError" in verify(exported, "--root", str(trust / "root.json"))[1]
    result = CliRunner().invoke(main, ["audit", "verify", str(exported), "--trust", str(trust)])
    assert (result.exit_code, "SignatureError" in result.stderr) == (3, True)


def test_ceremonies_name_the_user(tmp_path: Path) -> None:
    """AUD-1: what a person does on the server's machine stands under their user's name, tokens of `init` included."""
    home, offline = str(tmp_path / "home"), ("--offline", str(tmp_path / "offline"))
    runner = CliRunner()
    assert runner.invoke(main, ["init", home, *offline, "--without-passphrase"]).exit_code == 0
    key = str(tmp_path / "k.pem")
    for args in (
        ["pipeline-key", key],
        ["delegate", "har", "--key", f"{key}.pub", *offline],
        ["floor", "har", "2", *offline],
        ["rotate", "timestamp", *offline],
        ["renew", "targets", *offline],
        ["revoke", "har", *offline],
    ):
        result = runner.invoke(main, ["--home", home, "trust", *args])
        assert result.exit_code == 0, result.output
    result = runner.invoke(main, ["--home", home, "audit", "verify", "--json"])
    assert json.loads(result.stdout)["whole"]
    assert rows(tmp_path / "home" / "fleet.db", "SELECT actor, action, object FROM audit ORDER BY id") == [
        (cli_user(), "token.create", "operator:local"),
        (cli_user(), "token.create", "runner:local"),
        (cli_user(), "trust.delegate", "har"),
        (cli_user(), "trust.floor", "har"),
        (cli_user(), "trust.rotate", "timestamp"),
        (cli_user(), "trust.renew", "targets"),
        (cli_user(), "trust.revoke", "har"),
    ]


def test_a_log_that_cannot_be_written(tmp_path: Path) -> None:
    """AUD-1: a ceremony is held though the log is away; it is told, and the server will see the change."""
    home, offline = tmp_path / "home", ("--offline", str(tmp_path / "offline"))
    runner = CliRunner()
    runner.invoke(main, ["init", str(home), *offline, "--without-passphrase"])
    (home / "fleet.db").write_bytes(b"no database at all, but long enough to be looked at" * 40)
    result = runner.invoke(main, ["--home", str(home), "trust", "floor", "har", "2", *offline])
    assert (result.exit_code, "warning: " in result.stderr) == (0, True)

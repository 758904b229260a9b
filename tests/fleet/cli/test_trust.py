"""`outrider-fleet trust …`: the ceremonies as commands. Rules: docs/spec/trust.md and server.md."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from outrider_fleet.cli import main
from outrider_fleet.signing.repository import TrustRepository
from tests.protocol.softhsm import PIN, SoftHsm

SECRET = {"OUTRIDER_PASSPHRASE": "correct horse"}


class Desk:
    """Where the ceremonies are held: one home, one directory of offline keys."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.home, self.offline = directory, directory / "home", directory / "offline"

    def __call__(self, *args: str, **env: str) -> Result:
        return CliRunner().invoke(main, ["--home", str(self.home), *args], env={**SECRET, **env})

    def json(self, *args: str, keys: bool = True, **env: str) -> Any:
        where = ("--offline", str(self.offline)) if keys else ()
        result = self(*args, *where, "--json", **env)
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    def trust(self) -> TrustRepository:
        return TrustRepository(self.home / "trust")

    def role(self, name: str) -> dict[str, Any]:
        said = self.json("trust", "status", keys=False)
        return next(row for row in said["roles"] if row["role"] == name)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    desk = Desk(tmp_path_factory.mktemp("ceremonies"))
    desk.json("trust", "init", "--name", "test")
    return desk


@pytest.fixture
def desk(made: Desk, tmp_path: Path) -> Desk:
    shutil.copytree(made.directory, tmp_path / "desk")
    return Desk(tmp_path / "desk")


def test_no_plain_keys_by_accident(tmp_path: Path) -> None:
    """SGN-4: without a passphrase nothing is made, unless it is said in so many words."""
    desk = Desk(tmp_path)
    for command in (("trust", "init"), ("init", str(desk.home))):
        result = desk(*command, "--offline", str(desk.offline), OUTRIDER_PASSPHRASE="")
        assert (result.exit_code, result.stdout) == (3, ""), result.output
        assert "PassphraseError" in result.stderr
        assert "OUTRIDER_PASSPHRASE_FILE" in result.stderr
        assert not list(tmp_path.rglob("*.pem"))
        assert not (desk.home / "fleet.toml").exists()
    desk.json("init", str(desk.home), "--without-passphrase", OUTRIDER_PASSPHRASE="")
    assert b"ENCRYPTED" not in (desk.offline / "root-1.pem").read_bytes()


def test_every_offline_key_is_encrypted(tmp_path: Path) -> None:
    """SGN-4: with a passphrase every file of the medium is, the authority's root key too; none is in the home."""
    desk = Desk(tmp_path)
    desk.json("init", str(desk.home))
    found = sorted(path.name for path in desk.offline.iterdir())
    assert found == ["root-1.pem", "root-2.pem", "root-3.pem", "root.key", "targets.pem"]
    for path in desk.offline.iterdir():
        assert path.read_bytes().startswith(b"-----BEGIN ENCRYPTED PRIVATE KEY-----")
        assert path.stat().st_mode & 0o777 == 0o600
    assert not [path for path in desk.home.rglob("*") if path.is_file() and b"ENCRYPTED" in path.read_bytes()]


def test_three_sticks(tmp_path: Path) -> None:
    """SGN-1: three places may be named for the root keys, and one for targets."""
    desk = Desk(tmp_path)
    sticks = [tmp_path / name for name in ("a", "b", "c", "d")]
    root = [part for stick in sticks[:3] for part in ("--root-key", f"{stick}/")]
    desk.json("trust", "init", *root, "--targets-key", f"{sticks[3]}/")
    assert [path.name for stick in sticks for path in stick.iterdir()] == [
        "root-1.pem",
        "root-2.pem",
        "root-3.pem",
        "targets.pem",
    ]
    two = [part for stick in (sticks[0], sticks[2]) for part in ("--root-key", str(next(stick.iterdir())))]
    assert desk.json("trust", "renew", "root", *two, keys=False)["version"] == 2
    assert not desk.offline.exists()


def test_a_year_of_ceremonies(desk: Desk, tmp_path: Path) -> None:
    """SGN-43: each ceremony is one command that says what is in charge afterwards."""
    key = tmp_path / "pipeline.pem"
    assert desk("trust", "pipeline-key", str(key)).stdout.strip() == f"{key}.pub"
    (keyid,) = desk.json("trust", "delegate", "har", "--key", f"{key}.pub")["keyids"]
    assert desk.role("har")["keyids"] == [keyid]
    assert desk.json("trust", "floor", "har", "3") == {"har": 3}
    refused = desk("trust", "floor", "har", "2", "--offline", str(desk.offline))
    assert (refused.exit_code, "FloorLoweredError" in refused.stderr) == (3, True)
    for role in ("snapshot", "timestamp"):
        before = desk.role(role)["keyids"]
        rotated = desk.json("trust", "rotate", role)
        assert rotated["keyids"] == desk.role(role)["keyids"] != before
    assert desk.json("trust", "rotate", "director", "--reset-time-floor")["epoch"] == 2
    assert desk.trust().director().reset_time_floor
    assert desk.json("trust", "rotate", "director")["epoch"] == 3
    assert not desk.trust().director().reset_time_floor
    assert len(desk.json("trust", "rotate", "audit")["keyids"]) == 2
    gone = desk.role("root")["keyids"][0]
    left = desk.json("trust", "rotate", "root", "--revoke", gone[:8], "--new-key", str(desk.offline / "root-4.pem"))
    assert gone not in left["keyids"]
    assert len(left["keyids"]) == 3
    new = tmp_path / "targets-2.pem"
    desk.json("trust", "rotate", "targets", "--new-key", str(new))
    assert desk.json("trust", "renew", "targets", "--targets-key", str(new))["holds"]
    assert desk.json("trust", "renew", "root")["version"] == desk.trust().root().version
    assert desk.json("trust", "revoke", "har", "--targets-key", str(new)) == {"model": "har", "keyids": []}


def test_signed_elsewhere(desk: Desk, tmp_path: Path) -> None:
    """SGN-40: a key is prepared here, its public half signed on the machine of the offline keys, the result adopted."""
    public = str(tmp_path / "timestamp.pub")
    keyid = desk.json("trust", "prepare", "timestamp", public, keys=False)["keyid"]
    away = Desk(tmp_path / "away")
    shutil.copytree(desk.home / "trust", away.home / "trust")
    shutil.move(desk.offline, away.offline)
    assert away.json("trust", "rotate", "timestamp", "--public", public)["keyids"] == [keyid]
    adopted = desk.json("trust", "adopt", str(away.home / "trust"), keys=False)
    assert adopted == {"root": 2, "targets": 1}
    refused = away("trust", "adopt", str(desk.home / "keys"))
    assert refused.exit_code in (2, 3)


def test_status_for_people(desk: Desk) -> None:
    """SGN-42: the table names every role, its keys and signers, and what is due."""
    shown = desk("trust", "status").stdout
    for word in ("root", "targets", "snapshot", "timestamp", "director: epoch 1", "audit: keys", "floors: none"):
        assert word in shown
    gone = desk.role("root")["keyids"][0]
    desk.json("trust", "rotate", "root", "--revoke", gone)
    assert "due: root: 2 keys" in desk("trust", "status").stdout


@pytest.mark.parametrize(
    "args",
    [
        ("trust", "delegate", "har", "--key", "x.pub"),
        ("trust", "rotate", "root", "--offline", "."),
        ("trust", "rotate", "targets", "--offline", "."),
        ("trust", "rotate", "timestamp", "--revoke", "ab", "--offline", "."),
        ("trust", "rotate", "root", "--new-key", "x", "--reset-time-floor", "--offline", "."),
        ("trust", "rotate", "king", "--offline", "."),
        ("trust", "renew", "timestamp", "--offline", "."),
        ("trust", "floor", "har", "0", "--offline", "."),
    ],
)
def test_usage(desk: Desk, args: tuple[str, ...]) -> None:
    """CLI-2: what makes no sense changes nothing."""
    before = {path: path.read_bytes() for path in desk.home.rglob("*.json")}
    assert desk(*args).exit_code == 2
    assert before == {path: path.read_bytes() for path in desk.home.rglob("*.json")}


@pytest.mark.parametrize(
    ("args", "error"),
    [
        (("trust", "revoke", "har"), "NotDelegatedError"),
        (("trust", "delegate", "har", "--key", "/nowhere.pub"), "KeyFileError"),
        (("trust", "delegate", "har", "--key", "pkcs11:object=x"), "KeyFileError"),
        (("trust", "rotate", "root", "--revoke", "00000000"), "KeyUnknownError"),
        (("trust", "init"), "TrustExistsError"),
    ],
)
def test_refusals(desk: Desk, args: tuple[str, ...], error: str) -> None:
    """CLI-3: a refused ceremony prints its error and a hint, and changes nothing."""
    before = {path: path.read_bytes() for path in desk.home.rglob("*.json")}
    result = desk(*args, "--offline", str(desk.offline))
    assert (result.exit_code in (2, 3), result.stdout) == (True, "")
    first, second = result.stderr.strip().splitlines()
    assert error in first or "TokenError" in first
    assert second.startswith("hint: ")
    assert before == {path: path.read_bytes() for path in desk.home.rglob("*.json")}


def test_wrong_passphrase(desk: Desk) -> None:
    """SGN-4: a wrong passphrase, or none, signs nothing."""
    for secret in ("wrong", ""):
        result = desk("trust", "floor", "har", "2", "--offline", str(desk.offline), OUTRIDER_PASSPHRASE=secret)
        assert result.exit_code == 3
        assert result.stderr.startswith("error: ")
    assert desk.trust().floors().min_counter == {}


def test_tokens(softhsm: SoftHsm, tmp_path: Path) -> None:
    """SGN-31: every key argument takes a `pkcs11:` address, its PIN from the environment or a file."""
    desk = Desk(tmp_path)
    places = [softhsm.uri(f"root-{n}", pin=False) for n in (1, 2, 3)]
    root = [part for place in places for part in ("--root-key", place)]
    targets = ("--targets-key", softhsm.uri("targets"))
    desk.json("trust", "init", *root, *targets, keys=False, OUTRIDER_PIN=PIN)
    pipeline = softhsm.uri("pipeline")
    assert desk.json("trust", "delegate", "har", "--key", pipeline, *targets, keys=False)["model"] == "har"
    file = str(softhsm.directory / "pin")
    assert desk.json("trust", "rotate", "snapshot", *root[:4], keys=False, OUTRIDER_PIN_FILE=file)["root_version"] == 2
    assert desk("trust", "rotate", "snapshot", *root[:4], OUTRIDER_PIN="0000").exit_code == 3

"""Attacks on enrolment, and what a stolen server's disk signs: the real commands against a real fleet server."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID
from tuf.api.metadata import TargetFile, Targets

from outrider_protocol import ids, limits, signing, topics
from outrider_protocol.director import DIRECTOR_TARGET, Director
from outrider_protocol.order import Audience, Order
from tests.agent.enrolment import ROOT, FleetServer
from tests.agent.supervisor.folder import write_folder
from tests.agent.supervisor.house import Authority, Trust
from tests.attacks.attacker import FOREIGN, OWN, Keyring, Offer, newest_root, now_ms
from tests.e2e.harness import Fleet, running

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """A running fleet server; its offline keys lie elsewhere."""
    made = Fleet(tmp_path_factory.mktemp("fleet"))
    with running(made.process):
        made.start()
        yield made


def agent(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `outrider-agent`."""
    command = [sys.executable, "-m", "outrider_agent.cli", *arguments]
    environment = {"OUTRIDER_HOME": str(home), "PATH": "/usr/bin:/bin"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


def enrol(home: Path, server: str, token: str, root: str, device: str = "dev-1") -> subprocess.CompletedProcess[str]:
    named = ("--device", device, "--profile", "x86-64", "--trust-root", root)
    return agent(home, "enrol", "--server", server, "--token", token, *named)


def refused(done: subprocess.CompletedProcess[str], home: Path, *words: str) -> None:
    """Status 3, a named error with a hint, and nothing on the disk."""
    assert done.returncode == 3, done.stderr
    said = done.stderr.splitlines()
    assert said[0].startswith("outrider-agent: EnrolmentError: "), said
    assert said[1].strip(), said
    assert all(word in done.stderr for word in words), said
    assert not (home / "var" / "identity").exists()
    assert not (home / "etc").exists()


def token_of(fleet: Fleet) -> str:
    return fleet.cli("token", "create", "--kind", "device").strip()


@pytest.fixture(scope="module")
def device(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """An enrolled device's home, and the token that it used."""
    home, token = tmp_path_factory.mktemp("dev-1"), token_of(fleet)
    done = enrol(home, fleet.endpoints["api"], token, str(fleet.home / "trust/root.json"))
    assert done.returncode == 0, done.stderr
    return home, token


# -------------------------------------------------------------------- the server answers wrongly


@pytest.mark.parametrize("given", ["file", "digest"])
def test_a_foreign_root(fleet: Fleet, given: str, tmp_path: Path) -> None:
    """ATK-12: a compromised server hands out its own root: whoever was given the right one writes nothing."""
    right = fleet.home / "trust" / "root.json"
    kept, token = right.read_bytes(), token_of(fleet)
    (tmp_path / "given.json").write_bytes(kept)
    root = str(tmp_path / "given.json") if given == "file" else f"sha256:{hashlib.sha256(kept).hexdigest()}"
    right.write_bytes(Trust().roots[1])
    try:
        done = enrol(tmp_path / "home", fleet.endpoints["api"], token, root, f"dev-{given}")
    finally:
        right.write_bytes(kept)
    refused(done, tmp_path / "home", "root of trust", hashlib.sha256(kept).hexdigest())


def test_a_token_is_used_twice(fleet: Fleet, device: tuple[Path, str], tmp_path: Path) -> None:
    """ATK-12: a token that was read over somebody's shoulder enrols nobody once it was used."""
    done = enrol(tmp_path, fleet.endpoints["api"], device[1], str(fleet.home / "trust/root.json"), "dev-2")
    refused(done, tmp_path)


def test_a_token_that_was_made_up(fleet: Fleet, tmp_path: Path) -> None:
    """ATK-12: nor does one that the server never made."""
    done = enrol(tmp_path, fleet.endpoints["api"], "guess.0000", str(fleet.home / "trust/root.json"), "dev-2")
    refused(done, tmp_path)


ANSWERS: list[tuple[str, Callable[[Path], dict[str, Any]]]] = [
    ("for-another-device", lambda _: {"device": "dev-2"}),
    ("for-another-key", lambda ca: {"certificate_pem": (ca / "dev-1.pem").read_text()}),
    ("for-another-name", lambda ca: {"certificate_pem": (ca / "_fleet.pem").read_text()}),
    ("that-is-none", lambda _: {"certificate_pem": "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"}),
    ("under-no-authority", lambda _: {"ca_pem": "nothing"}),
    ("under-another-authority", lambda ca: {"ca_pem": Authority(ca / "other").certificate_pem}),
    ("with-an-endless-root", lambda _: {"root": " " * 4 * limits.ROOT_BYTES}),
]


@pytest.mark.parametrize(("name", "changes"), ANSWERS, ids=[name for name, _ in ANSWERS])
def test_an_answer(authority: Authority, name: str, changes: Callable[[Path], dict[str, Any]], tmp_path: Path) -> None:
    """ATK-12 and ATK-9: a server that answers with another's certificate, or with nonsense, enrols nobody."""
    authority.issue("dev-1", ExtendedKeyUsageOID.CLIENT_AUTH)
    server = FleetServer(authority, tls=False)
    server.changes = changes(authority.directory)
    try:
        root = f"sha256:{hashlib.sha256(ROOT.encode()).hexdigest()}"
        refused(enrol(tmp_path / "home", server.url, "random.00", root), tmp_path / "home")
    finally:
        server.close()


# -------------------------------------------------------------------- the server's disk


@dataclass
class Disk:
    """What lies in the server's home: private keys by their files' names, documents as they are offered."""

    keyring: Keyring
    offer: Offer
    fleet: str


@pytest.fixture(scope="module")
def disk(fleet: Fleet) -> Disk:
    """A copy of everything in it that signs."""
    found: dict[str, Any] = {}
    for path in fleet.home.rglob("*"):
        if path.is_file() and b"PRIVATE KEY" in path.read_bytes():
            found[path.stem] = load_pem_private_key(path.read_bytes(), None)
    signers = {name: key for name, key in found.items() if isinstance(key, Ed25519PrivateKey)}
    trust = fleet.home / "trust"
    offer = Offer({topics.TRUST_ONLINE: (trust / "online.json").read_bytes()})
    offer = offer.with_message(topics.trust_root(1), (trust / "1.root.json").read_bytes())
    director = Director.decode(offer.online.files[DIRECTOR_TARGET].encode())
    return Disk(Keyring(signers), offer, director.fleet)


def test_what_lies_there(fleet: Fleet, disk: Disk) -> None:
    """ATK-13: no key of root, targets or a pipeline is on the server's disk, under whatever name."""
    assert {"director", "snapshot", "timestamp"} <= set(disk.keyring.stolen)
    held = {signing.tuf_key(key).keyid for key in disk.keyring.stolen.values()}
    root, targets = newest_root(disk.offer), disk.offer.role(Targets, "targets")
    assert targets.delegations is not None
    offline = {*root.roles["root"].keyids, *root.roles["targets"].keyids, *targets.delegations.keys}
    assert len(offline) == 5
    assert not held & offline


def own_root(disk: Disk) -> Offer:
    root = newest_root(disk.offer)
    root.add_key(signing.tuf_key(disk.keyring.own), "targets")
    return disk.offer.with_root(root.version, disk.keyring.sign(root, *disk.keyring.stolen, OWN))


def own_targets(disk: Disk) -> Offer:
    """Targets that name the thief's director, pinned by the real snapshot and timestamp keys."""
    role = disk.offer.role(Targets, "targets")
    text = Director(disk.fleet, 9, (signing.public_bytes(disk.keyring.own).hex(),)).encode()
    role.version += 1
    role.targets[DIRECTOR_TARGET] = TargetFile.from_data(DIRECTOR_TARGET, text, ["sha256"])
    offer = disk.offer.with_file(DIRECTOR_TARGET, text.decode())
    offer = offer.with_online(targets=disk.keyring.sign(role, *disk.keyring.stolen, OWN).decode())
    return disk.keyring.pin(offer, targets=role.version)


def own_model(disk: Disk) -> Offer:
    """A role of the model, by every key that lies there, pinned likewise."""
    role = Targets(1, expires=disk.offer.role(Targets, "targets").expires)
    name = "tiny/6.6/x86-64"
    role.targets[name] = signing.artifact_target(name, FOREIGN, 66)
    offer = disk.offer.with_message(topics.trust_model("tiny"), disk.keyring.sign(role, *disk.keyring.stolen, OWN))
    return disk.keyring.pin(offer, tiny=1)


@pytest.mark.parametrize("forge", [own_root, own_targets, own_model], ids=lambda forge: f"{forge.__name__}-by-disk")
def test_it_signs_nothing_that_devices_run(
    device: tuple[Path, str], disk: Disk, forge: Callable[[Disk], Offer], tmp_path: Path
) -> None:
    """ATK-13: TRU-2 and TRU-4: the whole disk signs an order that a device reads, and no artifact to go with it."""
    home, _ = device
    identity = home / "var/identity/identity.json"
    key = json.loads(identity.read_bytes())["key_sha256"]
    order = Order(
        *(Audience("dev-1", key), disk.fleet, 1, 1, now_ms(), now_ms() + limits.ORDER_LIFETIME_MS),
        *("tiny", "6.6", 66, "x86-64", ids.digest_of(FOREIGN), len(FOREIGN)),
    )
    chunks = {topics.blob(ids.hex_of(order.manifest), 0): FOREIGN}
    stick = write_folder(tmp_path, "dev-1", disk.keyring.order(order, "director"), forge(disk).messages, chunks)
    done = agent(home, "import", str(stick))
    assert done.returncode == 3, done.stderr
    assert "UntrustedMetadataError" in done.stderr
    assert len(done.stderr.splitlines()) >= 2
    assert not list((home / "var/artifacts").iterdir())
    assert json.loads((home / "var/update.json").read_bytes())["floors"]["seq"] == 0

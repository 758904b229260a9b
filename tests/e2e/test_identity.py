"""The life of a device's certificate, with real processes. Rules: docs/spec/enrolment.md."""

from __future__ import annotations

import datetime as dt
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from outrider_agent.errors import UnreachableError
from outrider_agent.status import ask
from outrider_fleet.pki.ca import CertificateAuthority
from tests.e2e.harness import Device, Fleet, eventually, running

pytestmark = pytest.mark.e2e
DAY = dt.timedelta(days=1)


@pytest.fixture
def fleet(tmp_path: Path, founded: Path) -> Iterator[Fleet]:
    """A running fleet server without a release."""
    made = Fleet(tmp_path, like=founded)
    with running(made.process):
        made.start()
        yield made


def age(fleet: Fleet, device: Device, days: float) -> bytes:
    """Let the device's certificate be `days` old, on both sides; its bytes."""
    folder, now = device.home / "var" / "identity", dt.datetime.now(dt.UTC)
    key = load_pem_private_key((folder / "device.key").read_bytes(), None)
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())  # type: ignore[arg-type]  # P-256
    authority = CertificateAuthority.load(fleet.home / "ca", clock=lambda: now - days * DAY)
    pem = authority.issue_device(request.public_bytes(Encoding.PEM).decode(), device.name)
    (folder / "device.pem").write_text(pem)
    with closing(sqlite3.connect(fleet.home / "fleet.db")) as connection, connection:
        ends_ms = int((now + (30 - days) * DAY).timestamp() * 1000)
        connection.execute("UPDATE device_keys SET certificate_pem = ?, expires_ms = ?", (pem, ends_ms))
    with (device.home / "etc" / "agent.toml").open("a") as config:
        config.write("[supervisor]\nrenew_every_s = 0.5\n")
    return pem.encode()


def certificate(device: Device) -> bytes:
    return (device.home / "var" / "identity" / "device.pem").read_bytes()


def connected(device: Device) -> bool:
    try:
        return bool(ask(device.home / "run" / "supervisor.sock")["connected"])
    except UnreachableError:
        return False


def test_a_certificate_is_renewed_unattended(fleet: Fleet, tmp_path: Path) -> None:
    """REN-1 and REN-3: a connected agent replaces its certificate after two thirds of its life, and keeps its key."""
    device = Device(tmp_path, fleet, "dev-1")
    old, key = age(fleet, device, 25), (device.home / "var/identity/device.key").read_bytes()
    with running(device.process):
        device.start()
        eventually(lambda: certificate(device) != old, "a new certificate")
        assert connected(device)
        assert (device.home / "var/identity/device.key").read_bytes() == key
        new = x509.load_pem_x509_certificate(certificate(device))
        assert new.not_valid_after_utc - dt.datetime.now(dt.UTC) > 29 * DAY
        assert new.public_key() == x509.load_pem_x509_certificate(old).public_key()
    with running(device.process):
        device.start()
        eventually(lambda: connected(device), "a connection with the new certificate")


def test_an_ended_certificate_comes_back_with_an_operator(fleet: Fleet, tmp_path: Path) -> None:
    """REN-4 and REN-5: a device that was off too long asks over HTTP with its old key, and is let in when approved."""
    device = Device(tmp_path, fleet, "dev-1")
    old = age(fleet, device, 45)
    with running(device.process):
        device.start()
        eventually(lambda: fleet.ask("device", "show", "dev-1")["renewal"], "the device to ask")
        assert not connected(device)
        assert certificate(device) == old
        assert fleet.ask("device", "approve", "dev-1")["approved_ms"]
        eventually(lambda: certificate(device) != old, "a new certificate")
        eventually(lambda: connected(device), "a connection")
    said = json.dumps(fleet.ask("device", "show", "dev-1")["renewal"])
    assert said == "null"

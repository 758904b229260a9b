"""What the fleet server does for a broker that is not its own. Rules: docs/spec/broker.md."""

from __future__ import annotations

import datetime as dt
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from cryptography import x509

from outrider_fleet.broker import mosquitto
from outrider_fleet.broker.errors import BrokerFilesError
from outrider_fleet.broker.mosquitto_files import ACL, CONFIG, LIST, PID, Listener, access_list
from outrider_fleet.broker.permissions import FLEET
from outrider_fleet.pki.ca import CertificateAuthority
from outrider_fleet.pki.revocation import LIST_DAYS, Revoked
from tests.fleet.broker.house import until

ADDRESS = mosquitto.Address("127.0.0.1", 1, "broker.example")


@pytest.fixture
def ca(tmp_path: Path) -> CertificateAuthority:
    return CertificateAuthority.create(tmp_path / "ca", fleet="test")


@pytest.fixture
def directory(tmp_path: Path, ca: CertificateAuthority) -> Path:
    place = tmp_path / "mosquitto"
    mosquitto.write_files(place, ca, Listener("127.0.0.1", 1, "mosquitto"), ADDRESS)
    return place


def listed(directory: Path) -> x509.CertificateRevocationList:
    return x509.load_pem_x509_crl((directory / LIST).read_bytes())


def test_the_files(directory: Path, ca: CertificateAuthority) -> None:
    """BRK-27: configuration, access list, CA, certificate for every name, an empty list; keys for their owner."""
    text = (directory / CONFIG).read_text()
    for path in ("acl", "ca.pem", "server.pem", "server.key", "crl.pem"):
        assert f"{directory / path}\n" in text
        assert (directory / path).exists()
    assert directory.stat().st_mode & 0o777 == 0o700
    for secret in ("server.key", ACL):
        assert (directory / secret).stat().st_mode & 0o777 == 0o600
    certificate = x509.load_pem_x509_certificate((directory / "server.pem").read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["broker.example", "localhost"]
    assert not list(listed(directory))
    assert mosquitto.read_address(directory) == ADDRESS
    with pytest.raises(BrokerFilesError):
        mosquitto.read_address(directory / "store")


def test_the_server_may_do_the_same_on_both_brokers() -> None:
    """BRK-27: what the callout grants `_fleet`, the access list grants it."""
    section = access_list().partition("pattern")[0]
    for kind, subjects in (("write", FLEET.publish), ("read", FLEET.subscribe)):
        granted = {line.split()[-1] for line in section.splitlines() if line.startswith("topic") and kind in line}
        wanted = {subject.replace(".", "/").replace("*", "+").replace(">", "#") for subject in subjects}
        assert {topic for topic in wanted if topic != "o1/+/+/up"} <= granted


def test_the_list(directory: Path, ca: CertificateAuthority) -> None:
    """BRK-26: signed by the issuer, valid for thirty days, with the serial numbers that the store names."""
    revoked = [Revoked(7, 1_790_000_000_000), Revoked(8, 1_790_000_000_000)]
    gate = mosquitto.MosquittoGate(directory, ca, lambda: revoked)
    gate.start()
    found = listed(directory)
    assert found.is_signature_valid(ca.issuer.public_key())
    assert found.next_update_utc is not None
    assert found.next_update_utc - dt.datetime.now(dt.UTC) > dt.timedelta(days=LIST_DAYS - 0.1)
    assert {entry.serial_number for entry in found} == {7, 8}
    revoked.append(Revoked(9, 1_790_000_000_000))
    gate.allow("dev-1")
    assert {entry.serial_number for entry in listed(directory)} == {7, 8, 9}
    assert gate.revoke("dev-1") == 0  # nothing runs: the list is read at its start
    assert {7, 8, 9} < {entry.serial_number for entry in listed(directory)}
    gate.stop()


STARTING = """
import signal, sys, time
print("listens", flush=True)
sys.stdin.readline()
signal.signal(signal.SIGHUP, lambda *_: print("loads its list", flush=True))
sys.stdin.read()
"""


def test_a_broker_that_is_just_starting_is_not_ended(
    directory: Path, ca: CertificateAuthority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """BRK-29: SIGHUP ends a process that does not catch it yet: a broker that is starting is waited for, then told."""
    starting = subprocess.Popen(
        [sys.executable, "-c", STARTING, directory / CONFIG], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert starting.stdin is not None
    assert starting.stdout is not None
    assert starting.stdout.readline() == "listens\n"
    (directory / PID).write_text(str(starting.pid))
    gate, looked, look = mosquitto.MosquittoGate(directory, ca, list), threading.Event(), mosquitto._catches
    monkeypatch.setattr(mosquitto, "_catches", lambda *asked: (look(*asked), looked.set())[0])
    telling = threading.Thread(target=gate.refresh)
    telling.start()
    assert until(lambda: looked.is_set() or starting.poll() is not None)
    assert starting.poll() is None
    starting.stdin.write("go on\n")
    starting.stdin.flush()
    assert starting.stdout.readline() == "loads its list\n"
    telling.join(10)
    assert starting.poll() is None
    starting.communicate()


def test_no_stranger_is_signalled(directory: Path, ca: CertificateAuthority) -> None:
    """BRK-29: a pid file that names another process does it no harm."""
    bystander = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
    gate = mosquitto.MosquittoGate(directory, ca, list)
    for content in (str(bystander.pid), "nonsense", "", str(2**22 + 1)):
        (directory / PID).write_text(content)
        gate.refresh()
        assert gate.revoke("dev-1") == 0
    os.kill(bystander.pid, 0)
    assert bystander.poll() is None
    bystander.communicate()

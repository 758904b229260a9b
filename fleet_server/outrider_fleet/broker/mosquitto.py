"""A mosquitto that somebody else runs: its files, who is let in, and how a session is ended.

1. `write_files` makes everything that mosquitto needs, in one directory that both can reach.
2. Whoever has a certificate of the fleet that has not ended and is not in the revocation list is let in.
3. `revoke` writes a new list and sends SIGHUP; the list has been loaded when a canary certificate that it names is
   refused. Only then is the live session ended, by a visit under the same name: nothing can come back.
4. A broker that is not running needs no signal: it reads the list when it starts. One that is just starting is waited
   for: until it catches SIGHUP, the signal would end it.

    gate = MosquittoGate(directory, authority, revoked=lambda: …)
    gate.start()
    gate.revoke("dev-1")
"""

import json
import logging
import os
import signal
import ssl
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from outrider_fleet.broker.errors import BrokerFilesError, RevocationError
from outrider_fleet.broker.mosquitto_files import ACL, ADDRESS, CONFIG, LIST, PID, Listener, access_list, configuration
from outrider_fleet.broker.visit import visit
from outrider_fleet.pki.ca import CANARY_NAME, CertificateAuthority, KeyPair
from outrider_fleet.pki.files import given_directory, private_directory, write_private, write_public
from outrider_fleet.pki.revocation import Revoked, serial_of
from outrider_fleet.pki.tls import client_context

_log: Final = logging.getLogger(__name__)
VISIT_S: Final = 2.0
STARTING_S: Final = 5.0
LOADED_S: Final = 1.8  # a revoked session ends within 2 s, or the revocation is an error
POLL_S: Final = 0.02
VISITOR_DAYS: Final = 1 / 24


@dataclass(frozen=True)
class Address:
    """Where the fleet server connects, and what devices are told."""

    host: str
    port: int
    advertise_host: str


def write_files(directory: Path, authority: CertificateAuthority, listener: Listener, address: Address) -> None:
    """Make configuration, access list, certificates and an empty list; a later call replaces them all."""
    given_directory(directory)
    private_directory(directory / "store")
    write_public(directory / CONFIG, configuration(directory, listener).encode())
    write_private(directory / ACL, access_list().encode())
    write_public(directory / "ca.pem", authority.ca_pem.encode())
    hosts = tuple(dict.fromkeys((address.advertise_host, address.host, "127.0.0.1", "localhost")))
    authority.issue_server(hosts).write(directory, "server")
    write_public(directory / LIST, authority.revocation_list([]))
    write_public(directory / ADDRESS, json.dumps(asdict(address)).encode())


def read_address(directory: Path) -> Address:
    """What `write_files` was told; raises `BrokerFilesError`."""
    try:
        return Address(**json.loads((directory / ADDRESS).read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise BrokerFilesError(f"{directory / ADDRESS}: {error}") from error


class MosquittoGate:
    """Keeps the revocation list of one mosquitto, and ends sessions."""

    restarts = 0  # whoever runs it starts it again
    pid = None

    def __init__(
        self, directory: Path, authority: CertificateAuthority, revoked: Callable[[], Iterable[Revoked]]
    ) -> None:
        self._directory, self._authority, self._revoked = directory, authority, revoked
        self._told = read_address(directory)
        self._lock = threading.Lock()

    @property
    def address(self) -> tuple[str, int]:
        """Host and port for the fleet server's own connection."""
        return self._told.host, self._told.port

    @property
    def advertised(self) -> tuple[str, int]:
        """Host and port that devices are told."""
        return self._told.advertise_host, self._told.port

    def start(self) -> None:
        """Bring the list up to date."""
        self.refresh()

    def stop(self) -> None:
        """Nothing is ours to end."""

    def allow(self, device: str) -> None:
        """A device was enrolled (anew): certificates of a former key are in the next list."""
        self.refresh()
        _log.debug("%s: list is up to date", device)

    def refresh(self) -> None:
        """Write the list anew and let the broker load it; also called now and then, before the list ends."""
        with self._lock:
            self._write(self._revoked())
            self._signal()

    def revoke(self, device: str) -> int:
        """End the session of a device whose certificates the store says are revoked; returns how many were ended.

        Raises `RevocationError` when the broker goes on letting revoked certificates in.
        """
        with self._lock, tempfile.TemporaryDirectory(dir=self._directory) as folder:
            canary = self._authority.issue_client(CANARY_NAME, VISITOR_DAYS)
            now_ms = time.time_ns() // 1_000_000
            self._write([*self._revoked(), Revoked(serial_of(canary.certificate_pem.decode()), now_ms)])
            patience_s = LOADED_S if self._signal() else 0.0
            self._wait_loaded(self._context(Path(folder), "canary", canary), patience_s)
            visitor = self._authority.issue_client(device, VISITOR_DAYS)
            return int(self._visit(self._context(Path(folder), "visitor", visitor), device))

    def _wait_loaded(self, canary: ssl.SSLContext, patience_s: float) -> None:
        deadline = time.monotonic() + patience_s
        while self._visit(canary, CANARY_NAME):
            if time.monotonic() >= deadline:
                raise RevocationError(f"{self._directory / LIST} was not loaded within {patience_s:g} s")
            time.sleep(POLL_S)

    def _visit(self, context: ssl.SSLContext, name: str) -> bool:
        try:
            return visit(self.address, context, name, VISIT_S)
        except OSError as error:
            _log.warning("no broker at %s:%d: %s", *self.address, error)
            return False

    def _context(self, folder: Path, stem: str, pair: KeyPair) -> ssl.SSLContext:
        return client_context(self._directory / "ca.pem", *pair.write(folder, stem))

    def _write(self, revoked: Iterable[Revoked]) -> None:
        write_public(self._directory / LIST, self._authority.revocation_list(revoked))

    def _signal(self) -> bool:
        """SIGHUP to the process of the pid file, if it really is one with our configuration."""
        try:
            pid = int((self._directory / PID).read_text())
            if os.fsencode(self._directory / CONFIG) not in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0"):
                return False
            _wait_catching(pid)
            os.kill(pid, signal.SIGHUP)
        except (FileNotFoundError, ValueError, ProcessLookupError):
            return False
        except PermissionError as error:
            raise RevocationError(f"the broker cannot be told to load its list: {error}") from error
        return True


def _wait_catching(pid: int) -> None:
    """Until the process catches SIGHUP; raises `RevocationError` where it never does, `OSError` at its end."""
    deadline = time.monotonic() + STARTING_S
    while not _catches(pid, signal.SIGHUP):
        if time.monotonic() >= deadline:
            raise RevocationError(f"process {pid} does not catch SIGHUP: it would end by it")
        time.sleep(POLL_S)


def _catches(pid: int, number: signal.Signals) -> bool:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    caught = next(line for line in lines if line.startswith("SigCgt:")).split()[1]
    return bool(int(caught, 16) >> (number - 1) & 1)

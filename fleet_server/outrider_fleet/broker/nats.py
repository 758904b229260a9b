"""The embedded broker: one nats-server process, started, watched and restarted.

1. `start` returns when MQTT and NATS listen, or raises `BrokerStartError` with the end of the log.
2. A broker that dies is started again with the same ports, secrets and store, until `stop`; ever more slowly where it
   dies at once.
3. A broker left behind by a server that was killed is ended before a new one starts (one per home).
4. Ports given as 0 are chosen once and kept in `ports.json`: clients find a restarted server again.

    broker = EmbeddedBroker(home / "broker", ServerTls(chain, key, ca))
    broker.start()
    broker.mqtt_address  # ("127.0.0.1", 41883)
"""

import json
import logging
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from outrider_fleet.broker import credentials
from outrider_fleet.broker.binary import find_binary
from outrider_fleet.broker.errors import BrokerStartError
from outrider_fleet.broker.settings import Listen, ServerTls, render
from outrider_fleet.pki.files import private_directory, write_private, write_public
from outrider_fleet.processes.child import end, next_delay_s

_log: Final = logging.getLogger(__name__)
START_TIMEOUT_S: Final = 20.0
STOP_TIMEOUT_S: Final = 10.0
RESTART_DELAY_MAX_S: Final = 2.0
POLL_S: Final = 0.02


class EmbeddedBroker:
    """One supervised nats-server; `home` keeps configuration, secrets, log and the JetStream store."""

    def __init__(
        self,
        home: Path,
        tls: ServerTls,
        *,
        mqtt_host: str = "127.0.0.1",
        mqtt_port: int = 0,
        nats_port: int = 0,
        binary: Path | None = None,
        restart_delay_s: float = 0.05,
    ) -> None:
        self.home = private_directory(home.absolute())
        self.tls, self.binary, self.restart_delay_s = tls, find_binary(binary), restart_delay_s
        self.listen = _listen(self.home / "ports.json", mqtt_host, mqtt_port, nats_port)
        self.credentials = credentials.load_or_create(self.home / "credentials.json")
        self.restarts = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._stopping = threading.Event()
        self._outage_until = 0.0
        self._watcher: threading.Thread | None = None

    @property
    def mqtt_address(self) -> tuple[str, int]:
        """Host and port for devices."""
        return self.listen.mqtt_host, self.listen.mqtt_port

    @property
    def nats_url(self) -> str:
        """Where the callout connects."""
        return f"nats://127.0.0.1:{self.listen.nats_port}"

    @property
    def pid(self) -> int | None:
        """Process id of the running broker; None between two lives."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    def start(self) -> None:
        """Start and watch; returns when it listens. Raises `BrokerStartError`."""
        self._stopping.clear()
        _end_leftover(self._pid_file, self._config_file)
        write_private(self._config_file, render(self.listen, self.tls, self.credentials, self.home / "store").encode())
        process = self._spawn()
        try:
            self._wait(START_TIMEOUT_S, lambda: process.poll() is not None)
        except BrokerStartError:
            self._end_process()
            raise
        self._watcher = threading.Thread(target=self._watch, args=(process,), name="broker-watch", daemon=True)
        self._watcher.start()

    def stop(self) -> None:
        """End the broker for good."""
        self._stopping.set()
        self._end_process()
        if self._watcher is not None:
            self._watcher.join(STOP_TIMEOUT_S)
        self._end_process()  # one that the watcher started at the last moment
        self._pid_file.unlink(missing_ok=True)

    def kill(self, outage_s: float = 0.0) -> None:
        """Kill -9; it is started again after `outage_s` seconds."""
        self._outage_until = time.monotonic() + outage_s
        process = self._process
        if process is not None:
            process.kill()
            process.wait()

    def wait_listening(self, timeout_s: float = START_TIMEOUT_S) -> None:
        """Block until both ports accept; raises `BrokerStartError`."""
        self._wait(timeout_s, lambda: False)

    def _wait(self, timeout_s: float, is_hopeless: Callable[[], bool]) -> None:
        deadline = time.monotonic() + timeout_s
        while not (_accepts(*self.mqtt_address) and _accepts("127.0.0.1", self.listen.nats_port)):
            if time.monotonic() > deadline or is_hopeless():
                raise BrokerStartError(f"nats-server does not listen: {self._log_tail()}")
            time.sleep(POLL_S)

    @property
    def _config_file(self) -> Path:
        return self.home / "nats.conf"

    @property
    def _pid_file(self) -> Path:
        return self.home / "nats.pid"

    def _spawn(self) -> subprocess.Popen[bytes]:
        with (self.home / "nats.log").open("ab") as log:
            process = self._process = subprocess.Popen(
                [self.binary, "-c", self._config_file],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            write_public(self._pid_file, str(process.pid).encode())
        except OSError:
            end(process, STOP_TIMEOUT_S)  # without its number nobody could end it after a crash
            raise
        return process

    def _watch(self, process: subprocess.Popen[bytes]) -> None:
        delay_s, started = self.restart_delay_s, time.monotonic()
        while not self._stopping.is_set():
            status = process.wait()
            ended = time.monotonic()
            delay_s = next_delay_s(delay_s, ended - started, self.restart_delay_s, RESTART_DELAY_MAX_S)
            if self._stopping.wait(max(delay_s, self._outage_until - ended)):
                return
            _log.warning("broker ended with status %d, starting it again", status)
            started = time.monotonic()
            try:
                process = self._spawn()
            except OSError:  # a full disk, no process to be had: `wait` gives the old status at once
                _log.exception("the broker cannot be started")
            else:
                self.restarts += 1

    def _end_process(self) -> None:
        if self._process is not None:
            end(self._process, STOP_TIMEOUT_S)

    def _log_tail(self, limit_bytes: int = 4000) -> str:
        log = self.home / "nats.log"
        if not log.exists():
            return ""
        logged = log.read_bytes()[-limit_bytes:].decode(errors="replace")
        text = logged.rpartition("Starting nats-server")[2].strip()
        said = [line for line in text.splitlines() if "[FTL]" in line or "[ERR]" in line]
        return "\n".join(said[-5:]) or text


def _listen(path: Path, mqtt_host: str, mqtt_port: int, nats_port: int) -> Listen:
    kept = json.loads(path.read_text()) if path.exists() else {}
    chosen = {
        "mqtt": mqtt_port or kept.get("mqtt") or _free_port(),
        "nats": nats_port or kept.get("nats") or _free_port(),
    }
    write_public(path, json.dumps(chosen).encode())
    return Listen(mqtt_host, chosen["mqtt"], chosen["nats"])


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _accepts(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), timeout=1):
            return True
    except OSError:
        return False


def _end_leftover(pid_file: Path, config: Path) -> None:
    """End the nats-server of an earlier life, if that process really is one with our configuration."""
    with suppress(FileNotFoundError, ValueError, ProcessLookupError):
        pid = int(pid_file.read_text())
        command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        if os.fsencode(config) not in command:
            return
        os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + STOP_TIMEOUT_S
        while time.monotonic() < deadline:
            os.kill(pid, 0)
            time.sleep(POLL_S)
        os.kill(pid, signal.SIGKILL)

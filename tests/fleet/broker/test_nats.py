"""The embedded broker as a process: it comes back, forgets nothing, and leaves nothing behind."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from outrider_fleet.broker.errors import BrokerBinaryMissingError, BrokerStartError
from outrider_fleet.broker.nats import EmbeddedBroker
from outrider_fleet.broker.settings import ServerTls
from outrider_fleet.pki.ca import CertificateAuthority
from outrider_protocol import topics
from tests.fleet.broker.house import Client, House, Inbox, until


@pytest.fixture
def tls(tmp_path: Path) -> ServerTls:
    ca = CertificateAuthority.create(tmp_path / "ca")
    chain, key = ca.issue_server().write(tmp_path, "server")
    return ServerTls(chain, key, tmp_path / "ca" / "ca.pem")


def test_retained_state_survives_kill(house: House, client: Callable[..., Client], server: Inbox) -> None:
    """BRK-10: what was acknowledged is still retained after kill -9; the broker comes back on the same port.

    BRK-12: devices are admitted again as soon as it listens, at worst after one unanswered try of 1 s.
    """
    tls, address = house.device_tls("dev-7"), house.broker.mqtt_address
    server.link.publish(topics.desired("dev-7"), b"the order", retain=True).wait(5)
    restarts = house.broker.restarts
    house.broker.kill()
    assert until(lambda: house.broker.restarts > restarts)
    house.broker.wait_listening()
    assert until(lambda: client("dev-7", tls=tls).connect())
    device = client("dev-7", tls=tls)
    assert device.connect()
    assert device.subscribe(topics.all_down("dev-7"))
    assert device.wait_for(topics.desired("dev-7")) == b"the order"
    assert house.broker.mqtt_address == address


def test_outage_lasts_as_long_as_asked(house: House) -> None:
    """BRK-11: `kill(outage_s)` keeps the broker away for that long, then it is started again."""
    restarts, began = house.broker.restarts, time.monotonic()
    house.broker.kill(outage_s=0.5)
    assert house.broker.pid is None
    assert until(lambda: house.broker.restarts > restarts)
    assert time.monotonic() - began >= 0.5
    house.broker.wait_listening()


def test_a_broker_that_cannot_be_started_is_tried_again(house: House, caplog: pytest.LogCaptureFixture) -> None:
    """BRK-11: a full disk in the moment of its restart costs some tries, not the broker."""
    restarts, in_the_way = house.broker.restarts, house.broker.home / f".nats.pid.{os.getpid()}.new"
    in_the_way.mkdir()
    try:
        house.broker.kill()
        assert until(lambda: caplog.text.count("cannot be started") >= 2)
    finally:
        in_the_way.rmdir()
    assert until(lambda: house.broker.restarts > restarts)
    house.broker.wait_listening()


def test_secrets_are_owner_only(house: House) -> None:
    """BRK-13: passwords and the callout's signing key are random and in 0600 files."""
    for name in ("credentials.json", "nats.conf"):
        assert (house.broker.home / name).stat().st_mode & 0o777 == 0o600
    credentials = house.broker.credentials
    assert len({credentials.sys_password, credentials.auth_password, credentials.issuer_seed}) == 3
    assert min(len(credentials.sys_password), len(credentials.auth_password)) >= 40


_ABANDON = """
import os, signal, sys
from pathlib import Path
from outrider_fleet.broker.nats import EmbeddedBroker
from outrider_fleet.broker.settings import ServerTls
broker = EmbeddedBroker(Path(sys.argv[1]), ServerTls(*map(Path, sys.argv[2:5])))
broker.start()
print(broker.pid, broker.mqtt_address[1], flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_leftover_broker_is_replaced(tmp_path: Path, tls: ServerTls) -> None:
    """BRK-14: a server that was killed leaves its broker running; the next one ends it and takes its ports."""
    home = tmp_path / "broker"
    files = [str(path) for path in (tls.certificate, tls.key, tls.ca)]
    killed = subprocess.run(
        [sys.executable, "-c", _ABANDON, str(home), *files], check=False, capture_output=True, text=True
    )
    assert killed.returncode == -signal.SIGKILL
    leftover, port = map(int, killed.stdout.split())
    os.kill(leftover, 0)  # still there
    broker = EmbeddedBroker(home, tls)
    broker.start()
    try:
        assert broker.mqtt_address[1] == port
        assert until(lambda: not _is_running(leftover))
    finally:
        broker.stop()
    assert broker.pid is None


def test_pid_file_of_another_process_is_harmless(tmp_path: Path, tls: ServerTls) -> None:
    """BRK-14: only a process that really runs our configuration is ended."""
    bystander = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
    home = tmp_path / "broker"
    home.mkdir()
    (home / "nats.pid").write_text(str(bystander.pid))
    broker = EmbeddedBroker(home, tls)
    broker.start()
    broker.stop()
    assert bystander.poll() is None
    bystander.communicate()


def test_taken_port_is_a_named_error(tmp_path: Path, tls: ServerTls) -> None:
    """BRK-15: a broker that cannot start says why, and nothing is left running."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        broker = EmbeddedBroker(tmp_path / "broker", tls, mqtt_port=taken.getsockname()[1])
        with pytest.raises(BrokerStartError, match=r"^nats-server does not listen: .*address already in use$"):
            broker.start()
    assert broker.pid is None


def test_given_binary_is_used_or_refused(tmp_path: Path, tls: ServerTls) -> None:
    """BRK-15: a binary that was named and is missing is an error; no other is taken instead."""
    with pytest.raises(BrokerBinaryMissingError, match="no-such-binary"):
        EmbeddedBroker(tmp_path / "broker", tls, binary=tmp_path / "no-such-binary")


def _is_running(pid: int) -> bool:
    try:
        return " Z " not in Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False

"""The signer as a real process, reached over its socket."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from outrider_fleet.errors import InvalidRequestError
from outrider_fleet.signing import framing
from outrider_fleet.signing.client import SignerClient
from outrider_fleet.signing.errors import OrderRefusedError, SignatureThresholdError, SignerError
from outrider_fleet.signing.process import SignerProcess
from outrider_fleet.signing.server import Signer, SignerServer
from outrider_protocol import dsse, limits
from outrider_protocol.errors import MalformedError, TooLargeError
from outrider_protocol.messages import TrustOnline
from outrider_protocol.order import TYPE, Order
from tests.fleet.signing.fleet import Fleet, order


@pytest.fixture
def process(fleet: Fleet) -> Iterator[SignerProcess]:
    process = SignerProcess(fleet.home)
    process.start()
    yield process
    process.stop()


def test_orders_and_releases_over_the_socket(fleet: Fleet, process: SignerProcess) -> None:
    """SGN-26: client and process speak; refusals come back by class, with their hint."""
    client, wanted = SignerClient(process.socket), order()
    envelope = dsse.Envelope.decode(client.sign_order(wanted), limits.ORDER_BYTES)
    assert Order.decode(envelope.payload) == wanted
    assert envelope.payload_type == TYPE
    online = client.publish_release("har", fleet.role(("1.0", 1)))
    assert TrustOnline.decode(client.online()) == online == client.refresh()
    with pytest.raises(OrderRefusedError) as refused:
        client.sign_order(order(release="9.9"))
    assert refused.value.hint
    with pytest.raises(SignatureThresholdError):
        client.publish_release("har", fleet.role(("1.1", 2), key=fleet.home / "keys" / "director.pem"))
    with pytest.raises(InvalidRequestError):
        client.publish_release("../har", b"{}")


def test_more_orders_than_a_message_holds(process: SignerProcess) -> None:
    """SGN-23 and SGN-26: a fleet's orders come back in their order, however many there are."""
    parameters = {f"threshold-of-class-{n:03d}": 0.5 for n in range(200)}
    wanted = [order(f"dev-{n}", n + 1, parameters=parameters) for n in range(1500)]
    assert sum(len(each.encode()) for each in wanted) > framing.FRAME_BYTES
    envelopes = SignerClient(process.socket).sign_orders(wanted)
    payloads = [dsse.Envelope.decode(envelope, limits.ORDER_BYTES).payload for envelope in envelopes]
    assert payloads == [each.encode() for each in wanted]
    assert SignerClient(process.socket).sign_orders([]) == []


def test_socket_is_the_owners(process: SignerProcess) -> None:
    """SGN-27: only the signer's own user may open the socket."""
    assert process.socket.stat().st_mode & 0o777 == 0o600
    assert process.socket.parent.stat().st_mode & 0o777 == 0o700


def test_another_user_is_not_answered(fleet: Fleet) -> None:
    """SGN-27, SGN-46: who got hold of the socket is asked for by the kernel's word: a user it was not started for hears
    nothing.
    """
    signer, path = Signer(fleet.home), fleet.home / "run" / "signer.sock"
    with SignerServer(path, signer) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        heard = []
        for answered in (frozenset({os.getuid()}), frozenset({os.getuid() + 1})):
            server.answered = answered
            with socket.socket(socket.AF_UNIX) as asking, framing.short_path(path) as name:
                asking.connect(name)
                with contextlib.suppress(ConnectionError):  # closed before it was asked
                    framing.send(asking, {"op": "audit_head"})
                    heard.append(framing.receive(asking))
        server.shutdown()
    signer.journal.close()
    assert [answer["ok"] for answer in heard if answer is not None] == [True]


def test_killed_signer_comes_back_and_remembers(fleet: Fleet, process: SignerProcess) -> None:
    """SGN-28: after kill -9 it is started again and still refuses what contradicts its log."""
    client = SignerClient(process.socket)
    client.sign_order(order(seq=4))
    killed = process.pid
    assert killed is not None
    os.kill(killed, signal.SIGKILL)
    pause = threading.Event()
    for _ in range(1000):
        try:
            client.refresh()
            break
        except SignerError:
            pause.wait(0.02)
    assert process.pid != killed
    with pytest.raises(OrderRefusedError):
        client.sign_order(order(seq=4, release="9.9"))


_PARENT = """
import os, signal, sys
from pathlib import Path
from outrider_fleet.signing.process import SignerProcess
process = SignerProcess(Path(sys.argv[1]))
process.start()
print(process.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_signer_ends_with_its_server(fleet: Fleet) -> None:
    """SGN-29: when the server is killed, its signer ends by itself."""
    parent = subprocess.run(
        [sys.executable, "-c", _PARENT, str(fleet.home)], capture_output=True, text=True, check=False, timeout=30
    )
    pid, pause = int(parent.stdout), threading.Event()
    for _ in range(500):
        if not Path(f"/proc/{pid}").exists() or " Z " in Path(f"/proc/{pid}/stat").read_text():
            return
        pause.wait(0.02)
    pytest.fail("the signer outlived its server")


def test_signer_without_trust_says_so(tmp_path: Path) -> None:
    """SGN-30: a home without keys is a named error with the reason, not a hanging start."""
    with pytest.raises(SignerError, match="KeyFileError"):
        SignerProcess(tmp_path / "home").start()


def test_absent_signer_is_a_named_error(tmp_path: Path) -> None:
    """SGN-30: a client without a signer says which socket did not answer."""
    with pytest.raises(SignerError, match=r"signer\.sock"):
        SignerClient(tmp_path / "signer.sock").sign_order(order())


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"\xff\xff\xff\xff", TooLargeError),
        (b"\0\0\0\x05{}", MalformedError),
        (b"\0\0", MalformedError),
        (b"\0\0\0\x02[]", MalformedError),
    ],
)
def test_damaged_frames(data: bytes, error: type[Exception]) -> None:
    """SGN-24: a damaged or oversized frame is a named error, before memory is taken for it."""
    left, right = socket.socketpair()
    left.sendall(data)
    left.close()
    with right, pytest.raises(error):
        framing.receive(right)

"""The supervisor as a process: what it loads, how its children end, what it does with acks."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from outrider_agent.config import Broker, Config, Device, Model, Telemetry
from outrider_agent.control import Message
from outrider_agent.errors import ConfigError
from outrider_agent.outbox.store import Outbox
from outrider_agent.paths import Paths
from outrider_agent.supervisor.child import CANNOT_START, Child
from outrider_agent.supervisor.listeners import listen_unix
from outrider_agent.supervisor.lock import only_agent
from outrider_agent.supervisor.loop import Loop
from outrider_agent.supervisor.sender import Sender
from outrider_agent.supervisor.state import Release
from outrider_agent.supervisor.workers import Workers
from outrider_protocol import telemetry
from outrider_protocol.messages import Ack, Event
from tests.agent.supervisor.house import until
from tests.agent.supervisor.world import World
from tests.agent.worker.kit import write_artifact

FORBIDDEN = {"numpy", "onnxruntime", "ai_edge_litert", "tflite_runtime", "tuf", "cryptography", "urllib3"}


def test_the_supervisor_loads_nothing_heavy() -> None:
    """AGT-SUP-1 and REN-6: in a fresh interpreter, everything that `outrider-agent run` imports loads none of them."""
    script = (
        "import importlib, json, pkgutil, sys, outrider_agent.cli, outrider_agent.config\n"
        "import outrider_agent.supervisor as s, outrider_agent.outbox as o\n"
        "for p in (s, o):\n"
        "    for m in pkgutil.iter_modules(p.__path__): importlib.import_module(p.__name__ + '.' + m.name)\n"
        "print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert not FORBIDDEN & set(json.loads(done.stdout))


def test_the_running_supervisor_is_small_and_ends_in_order(world: World) -> None:
    """AGT-SUP-2: with its TLS connection and a serving release it stays under 30 MiB; SIGTERM leaves no process."""
    world.agent.start()
    world.install("1.0")
    assert world.agent.process is not None
    maps = Path(f"/proc/{world.agent.process.pid}/maps").read_text()
    assert not [name for name in FORBIDDEN if f"/{name}/" in maps]
    assert rss_mib(world.agent.process.pid) < 40, "the aim is 30 MiB; docs/benchmarks has the measured figure"
    children = world.agent.children()
    assert children
    assert world.agent.stop() == 0
    assert not [pid for pid in children if Path(f"/proc/{pid}").exists()]
    until(lambda: b'"online":false' in presence(world), "presence says offline")
    assert not (world.agent.home / "run" / "supervisor.sock").exists()


def rss_mib(pid: int) -> float:
    """Resident memory of a process."""
    line = next(row for row in Path(f"/proc/{pid}/status").read_text().splitlines() if row.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


def presence(world: World) -> bytes:
    found = [payload for topic, payload in world.server.messages if topic.endswith("/up/presence")]
    return found[-1] if found else b""


@pytest.fixture
def loop() -> Iterator[Loop]:
    made = Loop()
    yield made
    made.close()


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], list[str]]:
    """Arguments of a child that runs this code with its `channel`."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    def write(code: str) -> list[str]:
        head = (
            "import os, sys, time\nfrom outrider_agent.control import Channel\nchannel = Channel.from_environment()\n"
        )
        (tmp_path / "child_script.py").write_text(head + code)
        return ["child_script"]

    return write


class Heard:
    def __init__(self, loop: Loop) -> None:
        self.loop, self.messages, self.ended = loop, list[Message](), list[int]()
        self.child = Child(loop, "test child", self.messages.append, self.ended.append)

    def until(self, look: Callable[[], object], what: str) -> None:
        def turn() -> object:
            self.loop.run_once(0.05)
            return look()

        until(turn, what)


def test_large_messages_go_both_ways_without_blocking(loop: Loop, script: Callable[[str], list[str]]) -> None:
    """AGT-SUP-6: what the socket does not take waits in the supervisor, in order."""
    heard = Heard(loop)
    heard.child.start(script("while (m := channel.receive()): channel.send('echo', m.fields, m.blob)"))
    blobs = [os.urandom(300_000) for _ in range(6)]
    for number, blob in enumerate(blobs):
        heard.child.send("message", {"number": number}, blob)
    heard.until(lambda: len(heard.messages) == 6, "echoes")
    assert [(m.fields["number"], m.blob) for m in heard.messages] == list(enumerate(blobs))
    heard.child.kill()
    heard.until(lambda: heard.ended, "end")
    assert heard.ended == [-9]


def test_a_child_that_does_not_read_is_ended(
    loop: Loop, script: Callable[[str], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """AGT-SUP-6: the queue to a child is bounded."""
    monkeypatch.setattr("outrider_agent.supervisor.child.QUEUE_BYTES", 1_000_000)
    heard = Heard(loop)
    heard.child.start(script("time.sleep(60)"))
    for _ in range(20):
        heard.child.send("message", {}, bytes(100_000))
    heard.until(lambda: heard.ended, "end")
    assert heard.ended == [-9]


def test_a_child_dies_with_its_supervisor(tmp_path: Path, script: Callable[[str], list[str]]) -> None:
    """AGT-SUP-7: kill -9 of the parent ends a child even while it is busy and reads nothing."""
    script("print(os.getpid(), flush=True)\ntime.sleep(60)")
    parent = (
        "from outrider_agent.supervisor.loop import Loop\nfrom outrider_agent.supervisor.child import Child\n"
        "loop = Loop(); child = Child(loop, 'c', print, print); child.start(['child_script']); loop.run()"
    )
    process = subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    pid = int(process.stdout.readline())
    process.kill()
    process.wait()
    process.stdout.close()
    until(lambda: not running(pid), "child's end")


def test_a_load_test_dies_with_its_update_process(tmp_path: Path) -> None:
    """AGT-SUP-7: a model that hangs while it is tried is left running by no killed update process."""
    write_artifact(tmp_path / "a")
    (model,) = (tmp_path / "a").glob("*.onnx")
    model.unlink()
    os.mkfifo(model)  # the engine is loaded, and waits here for ever
    parent = "import sys; from pathlib import Path; from outrider_agent.update.stage import load_test\n"
    parent += "load_test(Path(sys.argv[1]), 'har')"
    process = subprocess.Popen([sys.executable, "-c", parent, str(tmp_path / "a")])
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    pid = int(until(children.read_text, "the load test").split()[0])
    until(lambda: "onnxruntime_pybind11_state" in Path(f"/proc/{pid}/maps").read_text(), "it loads the model")
    process.kill()
    process.wait()
    until(lambda: not running(pid), "its end", 10)


def running(pid: int) -> bool:
    """Whether the process exists and is no zombie."""
    status = Path(f"/proc/{pid}/status")
    return status.exists() and "State:\tZ" not in status.read_text()


def test_one_agent_a_directory(tmp_path: Path) -> None:
    """AGT-SUP-8: a second agent in one directory is refused; what a killed one's child holds open blocks nothing."""
    lock, path = tmp_path / "agent.lock", tmp_path / "s.sock"
    with only_agent(lock):
        orphaned = listen_unix(path)
        with pytest.raises(ConfigError, match="in use"), only_agent(lock):
            pass
    with only_agent(lock):
        listen_unix(path).close()
    orphaned.close()


def test_a_child_that_cannot_be_started_has_ended(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    """AGT-SUP-10: without memory or descriptors for a process the supervisor goes on and hears of its end."""
    monkeypatch.setattr("outrider_agent.supervisor.child.sys.executable", "/nonexistent/python")
    heard = Heard(loop)
    before = open_descriptors()
    heard.child.start(["child_script"])
    heard.child.send("message", {}, b"x")
    heard.child.terminate(0.0)
    heard.until(lambda: heard.ended, "end")
    heard.child.wait(1.0)
    assert heard.ended == [CANNOT_START]
    assert open_descriptors() == before


def test_descriptors_for_a_child_that_has_gone_are_closed(loop: Loop, script: Callable[[str], list[str]]) -> None:
    """AGT-SUP-10: what was to be handed to a process that ended stays open nowhere."""
    heard = Heard(loop)
    before = open_descriptors()
    heard.child.start(script("sys.exit(0)"))
    until(lambda: heard.child._process is not None and heard.child._process.poll() is not None, "its end")
    with Path("/dev/null").open("rb") as file:
        for _ in range(5):
            heard.child.send("shadow_on", {"n": 1}, fds=[file.fileno()])
    heard.until(lambda: heard.ended, "end")
    assert open_descriptors() == before


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_a_candidate_whose_address_is_taken_has_failed(tmp_path: Path, loop: Loop) -> None:
    """AGT-SUP-10: another program on its port fails the candidate, and ends no supervisor."""
    failed: list[dict[str, object]] = []
    with socket.create_server(("127.0.0.1", 0)) as taken:
        model = Model(http=f"127.0.0.1:{taken.getsockname()[1]}")
        config = Config(Device("dev-1", "x86-64"), Broker("127.0.0.1", 1), models={"har": model})
        outbox = Outbox.open(tmp_path / "o.db", 1 << 20)
        workers = Workers(loop, Paths.under(tmp_path), config, lambda: outbox)
        workers.trial = SimpleNamespace(candidate_failed=failed.append)
        workers.start_candidate(Release("har", "1.0", 1, "sha256:" + "a" * 64))
        loop.run_once(0.1)
    outbox.close()
    assert [detail["error"] for detail in failed] == ["ConfigError"]
    assert workers.all == []


class Link:
    def __init__(self) -> None:
        self.sent: list[telemetry.Batch] = []

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> bool:
        assert not retain
        assert topic.startswith("o1/03/dev-1/up/")
        self.sent.append(telemetry.decode(payload))
        return True


def test_acks_move_the_window_and_foreign_acks_do_not(tmp_path: Path) -> None:
    """AGT-OUT-12: an ack of another outbox deletes nothing; the right one deletes and lets the next go."""
    outbox, link = Outbox.open(tmp_path / "o.db", 1 << 20), Link()
    for _ in range(5):
        outbox.put("event", "event", 1, telemetry.event_body(Event("agent", 1, True, {})))
    sender = Sender("dev-1", lambda: outbox, link, Telemetry(in_flight=2), lambda: 0.0)
    sender.send()
    assert not link.sent
    sender.connected()
    assert [(b.seq, b.prev) for b in link.sent] == [(1, 0), (2, 1)]
    assert not sender.acked(Ack("f" * 16, "event", 2))
    assert sender.acked(Ack(outbox.outbox_id, "event", 1))
    assert [b.seq for b in link.sent] == [1, 2, 3]
    sender.lost()
    sender.connected()
    assert [b.seq for b in link.sent] == [1, 2, 3, 2, 3]
    outbox.close()

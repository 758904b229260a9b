"""The update process, in this process: the order of checks, and a named refusal for each."""

from __future__ import annotations

import datetime as dt
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from outrider_agent.errors import ControlError
from outrider_agent.supervisor.lock import in_turn
from outrider_agent.update import trust_file
from outrider_protocol import ids, limits, topics, trust
from outrider_protocol import order as protocol_order
from outrider_protocol.order import Audience, Order
from tests.agent.supervisor.house import FLEET, PROFILE, Artifact
from tests.agent.update.kit import DEVICE, KEY, Device


def order_of(artifact: Artifact, seq: int = 1, **changes: Any) -> Order:
    now_ms = time.time_ns() // 1_000_000
    made = Order(
        Audience(DEVICE, KEY),
        FLEET,
        1,
        seq,
        now_ms,
        now_ms + limits.ORDER_LIFETIME_MS,
        "har",
        artifact.version,
        artifact.counter,
        PROFILE,
        artifact.digest,
        len(artifact.encoded),
    )
    return replace(made, **changes)


def test_from_envelope_to_committed_artifact(device: Device) -> None:
    """AGT-UPD-1: accepted, downloaded, verified, load-tested, committed; floors come with the acceptance."""
    artifact = device.artifact("1.0")
    order = order_of(artifact, parameters={"probation_windows": 5})
    said = device.update(device.trust.order(order))
    assert said.op == "staged", said
    assert said.fields["parameters"]["probation_windows"] == 5
    assert said.fields["parameters"]["probation_s"] == 600
    assert device.progress() == ["downloading", "verifying", "staged", "validating", "validating"]
    accepted = device.accepted()
    assert accepted is not None
    assert accepted.fields["floors"]["seq"] == 1
    committed = device.paths.artifact(ids.hex_of(artifact.digest))
    assert {path.name for path in committed.iterdir()} == {path.name for path in artifact.directory.iterdir()}
    assert all(path.stat().st_mode & 0o077 == 0 for path in committed.iterdir())
    assert not list(device.paths.downloads.iterdir())


def test_what_a_killed_update_process_left_is_swept_by_the_next(device: Device) -> None:
    """AGT-TRF-2: an agent may run for years; update processes take turns, so nobody is in there."""
    left = device.paths.trust / "scratch-left"
    left.mkdir()
    (left / "timestamp.json").write_text("{}")
    said = device.update(device.trust.order(order_of(device.artifact("1.0"))))
    assert said.op == "staged", said
    assert not left.exists()


def sign_with_another_key(device: Device, order: Order) -> bytes:
    from outrider_protocol import signing

    return signing.sign_order(order, [signing.generate()])


def honest(device: Device, order: Order) -> bytes:
    return device.trust.order(order)


CASES: list[tuple[str, str, Callable[[Device, Order], bytes], dict[str, Any]]] = [
    ("SignatureError", "rejected", sign_with_another_key, {}),
    ("WrongAudienceError", "rejected", honest, {"aud": Audience("dev-2", KEY)}),
    ("WrongAudienceError", "rejected", honest, {"aud": Audience(DEVICE, "0" * 64)}),
    ("WrongAudienceError", "rejected", honest, {"fleet": "other"}),
    ("OrderTimeError", "rejected", honest, {"iat_ms": 1, "exp_ms": 2}),
    ("OrderSequenceError", "rejected", honest, {"epoch": 7}),
    ("WrongTargetError", "rejected", honest, {"counter": 9}),
    ("WrongTargetError", "rejected", honest, {"manifest": "sha256:" + "0" * 64}),
    ("NoArtifactError", "no_artifact", honest, {"release": "9.9"}),
    ("NoArtifactError", "no_artifact", honest, {"profile": "other-board"}),
    ("ParameterRangeError", "rejected", honest, {"parameters": {"shadow_disagreement_max": 2.0}}),
    ("ParameterRangeError", "rejected", honest, {"parameters": {"path": 1.0}}),
]


@pytest.mark.parametrize(("error", "state", "sign", "changes"), CASES)
def test_refusals_are_named(
    device: Device, error: str, state: str, sign: Callable[[Device, Order], bytes], changes: dict[str, Any]
) -> None:
    """AGT-UPD-2: each rule of the order has its error, its hint and its end; nothing of the artifact is committed."""
    artifact = device.artifact("1.0")
    order = order_of(artifact, **changes)
    said = device.update(sign(device, order))
    assert (said.op, said.fields["error"], said.fields["state"]) == ("failed", error, state)
    assert said.fields["hint"]
    assert said.fields["claimed"]["release"] == order.release
    assert not device.paths.artifacts.exists()
    if error != "ParameterRangeError":
        assert device.accepted() is None


def test_replays_and_conflicts(device: Device) -> None:
    """AGT-UPD-2: an older sequence is a replay, the same with another payload a conflict, the same again resumes."""
    artifact = device.artifact("1.0")
    first = device.trust.order(order_of(artifact, seq=5))
    assert device.update(first).op == "staged"
    accepted = device.accepted()
    assert accepted is not None
    device.floors = trust.Floors(**accepted.fields["floors"])
    assert device.update(device.trust.order(order_of(artifact, seq=4))).fields["error"] == "OrderSequenceError"
    other = device.trust.order(order_of(artifact, seq=5, parameters={"probation_windows": 1}))
    assert device.update(other).fields["error"] == "OrderConflictError"
    device.supply.asked.clear()
    assert device.update(first).op == "staged"
    assert not [topic for topic in device.supply.asked if topic.startswith("o1/blob/")]


def test_too_large_and_malformed_envelopes(device: Device) -> None:
    """AGT-UPD-2: the size is checked before anything is parsed; what cannot be parsed names no execution."""
    for envelope, error in ((bytes(limits.ORDER_BYTES + 1), "TooLargeError"), (b"{}", "MalformedError")):
        said = device.update(envelope)
        assert (said.fields["error"], said.fields["state"], said.fields["claimed"]) == (error, "rejected", None)
    assert not device.supply.asked


def test_below_the_floor(device: Device) -> None:
    """AGT-UPD-2: a release below the signed floor of its model is refused, also when it was fine before."""
    artifact = device.artifact("1.0")
    device.trust.min_counter = {"har": 2}
    device.publish()
    assert device.update(device.trust.order(order_of(artifact))).fields["error"] == "BelowFloorError"


def test_a_new_epoch_resets_the_sequence(device: Device) -> None:
    """AGT-UPD-2: after a new epoch the sequence starts over; orders of the old epoch are refused."""
    artifact = device.artifact("1.0")
    device.floors = trust.Floors(1, 1000, 0, "")
    device.trust.epoch = 2
    device.publish()
    assert device.update(device.trust.order(order_of(artifact, seq=1001))).fields["error"] == "OrderSequenceError"
    assert device.update(device.trust.order(order_of(artifact, seq=1, epoch=2))).op == "staged"


def test_an_artifact_that_says_it_is_another(device: Device) -> None:
    """AGT-UPD-2: one artifact that is listed under another's name is refused: its own config says what it is."""
    made = device.artifact("1.0")
    posing = Artifact(made.directory, "9.9", 1)
    device.trust.release(posing.path, posing.encoded, 1)
    device.publish()
    said = device.update(device.trust.order(order_of(posing)))
    assert (said.op, said.fields.get("error")) == ("failed", "WrongTargetError")
    assert not device.paths.artifacts.exists()


def test_nothing_is_fetched_before_the_supervisor_says_so(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    """AGT-UPD-1: an accepted order whose floors were not made durable goes no further."""
    monkeypatch.setattr("outrider_agent.update.process.PROCEED_S", 0.3)
    artifact = device.artifact("1.0")
    device.supply.proceeds = False
    with pytest.raises(ControlError, match="proceed"):
        device.update(device.trust.order(order_of(artifact)))
    assert device.accepted() is not None
    assert not [topic for topic in device.supply.asked if topic.startswith("o1/blob/")]


def test_already_installed(device: Device) -> None:
    """AGT-EXE-8: the digest that runs and has succeeded is accepted (its floors count) and not loaded again."""
    artifact = device.artifact("1.0")
    device.supply.current = artifact.digest
    said = device.update(device.trust.order(order_of(artifact)))
    assert said.fields["state"] == "already_installed"
    assert device.accepted() is not None


def test_without_metadata_the_last_trusted_set_stands(device: Device) -> None:
    """AGT-UPD-4: no bundle: transient on a new device; one that verified a bundle before judges by that."""
    artifact = device.artifact("1.0")
    device.supply.silent = {topics.TRUST_ONLINE}
    said = device.update(device.trust.order(order_of(artifact)))
    assert (said.fields["error"], said.fields["state"]) == ("CannotRefreshError", None)
    device.supply.silent = set()
    assert device.update(device.trust.order(order_of(artifact))).op == "staged"
    device.supply.silent = {topics.TRUST_ONLINE}
    assert device.update(device.trust.order(order_of(artifact))).op == "staged"


def test_missing_chunks_end_nothing(device: Device) -> None:
    """AGT-UPD-6: silence is transient; the next try resumes with what was verified."""
    artifact = device.artifact("1.0")
    model = next(topic for topic, data in artifact.chunks().items() if data[:1] == b"\x08")
    device.supply.silent = {model}
    said = device.update(device.trust.order(order_of(artifact)))
    assert (said.fields["error"], said.fields["state"]) == ("StalledError", None)
    device.supply.silent = set()
    device.supply.asked.clear()
    assert device.update(device.trust.order(order_of(artifact))).op == "staged"
    fetched = [topic for topic in device.supply.asked if topic.startswith("o1/blob/")]
    assert model in fetched
    assert topics.blob(ids.hex_of(artifact.digest), 0) not in fetched


@pytest.mark.parametrize("which", ["manifest", "config", "model"])
def test_swapped_bytes_are_refused(device: Device, which: str) -> None:
    """AGT-UPD-7: manifest, config and layers are held against what was signed, each as it arrives."""
    artifact = device.artifact("1.0")
    manifest_topic = topics.blob(ids.hex_of(artifact.digest), 0)
    first = {"manifest": b'{"annotations', "config": b'{"classes', "model": b"\x08"}[which]
    topic = next(t for t, data in artifact.chunks().items() if data.startswith(first))
    assert (topic == manifest_topic) == (which == "manifest")
    data = device.supply.messages[topic]
    device.supply.messages[topic] = data[:-1] + bytes([data[-1] ^ 1])
    said = device.update(device.trust.order(order_of(artifact)))
    assert (said.fields["error"], said.fields["state"]) == ("DigestMismatchError", "rejected")
    assert not device.paths.artifacts.exists()


@pytest.mark.parametrize("name", ["manifest.json", "config.json"])
def test_a_damaged_download_is_not_believed(device: Device, name: str) -> None:
    """AGT-UPD-7: what an earlier run left is held against the order again; a file that is not right is fetched anew."""
    artifact = device.artifact("1.0")
    kept = device.paths.downloads / ids.hex_of(artifact.digest)
    kept.mkdir(parents=True, mode=0o700)
    (kept / name).write_bytes(b"{}")
    (kept / name).chmod(0o600)
    assert device.update(device.trust.order(order_of(artifact))).op == "staged"


def test_a_damaged_layer_is_removed_and_fetched_again(device: Device) -> None:
    """AGT-UPD-7: a whole file that an earlier run left is verified before the load test: a wrong one goes, by name."""
    artifact = device.artifact("1.0")
    kept = device.paths.downloads / ids.hex_of(artifact.digest)
    kept.mkdir(parents=True, mode=0o700)
    (kept / "model.onnx").write_bytes(b"another model")
    (kept / "model.onnx").chmod(0o600)
    said = device.update(device.trust.order(order_of(artifact)))
    assert (said.op, said.fields.get("error")) == ("failed", "DigestMismatchError")
    assert device.update(device.trust.order(order_of(artifact))).op == "staged"


def test_a_failed_load_test_changes_nothing(device: Device) -> None:
    """AGT-UPD-9: the child's own error and hint are what is reported."""
    artifact = device.artifact("1.0", golden_offset=0.5)
    said = device.update(device.trust.order(order_of(artifact)))
    assert (said.fields["error"], said.fields["state"]) == ("GoldenMismatchError", "failed_unchanged")
    assert said.fields["hint"]
    assert not device.paths.artifacts.exists()


def test_an_order_signed_as_something_else_is_refused(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    """AGT-UPD-2: the envelope's type is signed too: another document by the director is no order."""
    artifact = device.artifact("1.0")
    monkeypatch.setattr(protocol_order, "TYPE", "application/other")
    envelope = device.trust.order(order_of(artifact))
    monkeypatch.undo()
    assert device.update(envelope).fields["error"] == "SignatureError"


def test_update_processes_take_turns(device: Device) -> None:
    """AGT-UPD-10: one that was told to leave and still works is waited for: two never write at the same time."""
    artifact = device.artifact("1.0")
    held, done = threading.Event(), threading.Event()

    def former() -> None:
        with in_turn(device.paths.update_lock):
            held.set()
            done.wait(10)

    thread = threading.Thread(target=former)
    thread.start()
    held.wait(10)
    answers: list[str] = []
    mine = threading.Thread(target=lambda: answers.append(device.update(device.trust.order(order_of(artifact))).op))
    mine.start()
    mine.join(0.5)
    assert mine.is_alive()
    assert not device.supply.asked
    done.set()
    thread.join(10)
    mine.join(20)
    assert answers == ["staged"]


def at_time(monkeypatch: pytest.MonkeyPatch, year: int) -> None:
    moment = dt.datetime(year, 1, 2, tzinfo=dt.timezone.utc)  # not 0, which is none at all
    monkeypatch.setattr("outrider_agent.update.process.time.time_ns", lambda: int(moment.timestamp() * 1e9))


def test_a_clock_at_1970_is_not_believed(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    """AGT-TRF-4: a device without a clock takes today's order, and metadata that expired before its floor never."""
    artifact = device.artifact("1.0")
    today = order_of(artifact)
    order = device.trust.order(today)
    device.trust.expires_s = -3600
    expired = device.trust.messages()
    device.trust.expires_s = 7 * 86_400
    device.publish()
    at_time(monkeypatch, 1970)
    assert device.update(order).op == "staged"
    accepted = device.accepted()
    assert accepted is not None
    fresh = Device(device.directory / "other")
    fresh.trust, fresh.floors = device.trust, trust.Floors(1, 0, today.iat_ms, "")
    trust_file.begin(fresh.paths.trust, fresh.trust.roots[1], fresh.disk)
    fresh.supply.messages = {**device.supply.messages, **expired}
    assert fresh.update(order).fields["error"] == "TrustExpiredError"


def test_a_clock_at_2099_is_told(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    """AGT-TRF-4: everything has expired then: the error says to compare the clocks, and ends nothing."""
    artifact = device.artifact("1.0")
    at_time(monkeypatch, 2099)
    said = device.update(device.trust.order(order_of(artifact)))
    assert (said.fields["error"], said.fields["state"]) == ("TrustExpiredError", None)
    assert "clock" in said.fields["hint"]


def test_the_server_gives_what_the_broker_does_not(device: Device) -> None:
    """AGT-SRC-6: with [server] url an update goes on by HTTP, documents and chunks."""
    artifact = device.artifact("1.0")
    messages, device.supply.messages = device.supply.messages, {}
    files = {f"/api/v1/trust/{_name(topic)}": data for topic, data in messages.items() if "/trust/" in topic}
    for topic, data in messages.items():
        if topic.startswith("o1/blob/"):
            path = f"/api/v1/blobs/sha256:{topic.split('/')[2]}"
            files[path] = files.get(path, b"") + data

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            data = files.get(self.path, b"")
            self.send_response(404 if not data else 206 if self.headers.get("Range") else 200)
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        envelope = device.trust.order(order_of(artifact))
        assert device.update(envelope, server=f"http://127.0.0.1:{server.server_address[1]}").op == "staged"
        server.shutdown()
    assert device.update(device.trust.order(order_of(artifact, seq=2))).op == "staged"


def _name(topic: str) -> str:
    kind = topic.removeprefix("o1/trust/")
    return f"{kind[6:]}.root.json" if kind.startswith("roots/") else f"{kind}.json"

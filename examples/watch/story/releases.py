"""Releases of a run: trained, compiled, signed, published; and copies that somebody has tampered with.

1. Everything goes through `outrider-compiler`; the tampered copies are made by hand, as an attacker would.
2. The attacker on the server's side re-labels a changed model file all the way up to the index, but has no key.
3. The attacker on the device's side has the server's own certificate for the broker, but has no key either.
"""

from __future__ import annotations

import shutil
import ssl
import threading
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from examples.watch.errors import StageError
from examples.watch.story.fleet import BUILD_OPTIONS, Fleet
from examples.watch.story.plan import COUNTERS, EXACT, FAST, LITERT, MODEL, Plan
from examples.watch.story.processes import command, eventually, run
from outrider_compiler import publishing
from outrider_compiler.errors import PublishError
from outrider_compiler.release import Release
from outrider_protocol import ids, manifest, topics
from outrider_protocol.limits import CHUNK_BYTES

UNSCALED = 0.02
"""What a forgotten unit conversion does to calibration data."""


@dataclass
class Releases:
    """What a release pipeline does, for one run."""

    plan: Plan
    profiles: tuple[str, ...] = (FAST, EXACT, LITERT)

    def train(self, what: str, *options: str) -> None:
        """Train into `train/<what>`."""
        arguments = ("-m", "examples.watch.train", "--out", self.plan.trained(what), "--seed", str(self.plan.seed))
        run(command("python", *arguments, *options), self.plan.logs / f"train-{what}.log")

    def break_calibration(self, what: str, factor: float = UNSCALED) -> Path:
        """Calibration data in the wrong unit."""
        good = self.plan.trained(what) / "calibration.npz"
        bad = good.with_name("unscaled.npz")
        with np.load(good) as data:
            np.savez(bad, x=(data["x"] * factor).astype(np.float32))
        return bad

    def build(
        self, what: str, version: str, out: Path, profiles: tuple[str, ...], calibration: Path | None = None
    ) -> None:
        """Compile what was trained into `out`."""
        trained = self.plan.trained(what)
        arguments: list[str | Path] = [
            *(trained / "model.pt", "--name", MODEL, "--version", version, "--counter", str(COUNTERS[version])),
            *(part for profile in profiles for part in ("--profile", profile)),
            *("--calibration", calibration or trained / "calibration.npz"),
            *("--evaluation", trained / "evaluation.npz", "--out", out, *BUILD_OPTIONS),
        ]
        run(command("outrider-compiler", "build", *arguments), self.plan.logs / f"build-{out.name}.log")

    def sign(self, version: str, fleet: Fleet) -> Path:
        """Sign a release with the pipeline's key, on top of the model's published role; the new role's file."""
        role, current = self.plan.root / "pipeline" / f"{version}.json", self.plan.root / "pipeline" / "current.json"
        found = publishing.server(fleet.url, "").role(MODEL)
        base: tuple[str | Path, ...] = ()
        if found is not None:
            current.write_bytes(found)
            base = ("--metadata", current)
        arguments = (self.plan.release(version), "--key", self.plan.key, *base, "--out", role)
        run(command("outrider-compiler", "sign", *arguments), self.plan.logs / f"sign-{version}.log")
        return role

    def publish(self, version: str, fleet: Fleet, role: Path) -> None:
        """Upload a signed release."""
        arguments = (self.plan.release(version), "--server", fleet.url, "--metadata", role)
        token = fleet.token("pipeline", "story")
        run(
            command("outrider-compiler", "publish", *arguments),
            self.plan.logs / f"publish-{version}.log",
            OUTRIDER_TOKEN=token,
        )

    def refused_by_server(self, version: str, fleet: Fleet, role: Path, profile: str) -> str:
        """Offer the server a tampered copy with the true signature; the server's words. Raises `StageError`."""
        copy = tampered_copy(self.plan.release(version), self.plan.root / "tampered", profile)
        try:
            server = publishing.server(fleet.url, fleet.token("pipeline", "attacker"))
            publishing.upload(Release.open(copy), server, role.read_text("utf-8"))
        except PublishError as error:
            return str(error)
        raise StageError("the server took a tampered release")

    def model_blob(self, version: str, profile: str) -> tuple[str, bytes]:
        """Hex digest and bytes of one artifact's model file."""
        layout = self.plan.release(version)
        index = manifest.Index.decode((layout / manifest.INDEX_FILE).read_bytes())
        artifact = manifest.Manifest.decode(_blob(layout, index.artifacts[profile].digest))
        layer = next(layer for layer in artifact.device_layers() if layer.role is manifest.Role.MODEL)
        return ids.hex_of(layer.digest), _blob(layout, layer.digest)


def tampered_copy(layout: Path, out: Path, profile: str) -> Path:
    """Copy a release with one bit of one model file changed and every digest above it made to fit."""
    shutil.copytree(layout, out)
    index = manifest.Index.decode((out / manifest.INDEX_FILE).read_bytes())
    artifact = manifest.Manifest.decode(_blob(out, index.artifacts[profile].digest))
    layers = tuple(_altered(out, layer) if layer.role is manifest.Role.MODEL else layer for layer in artifact.layers)
    raw = replace(artifact, layers=layers).encode()
    _put(out, raw)
    artifacts = {**index.artifacts, profile: manifest.artifact_descriptor(raw, profile)}
    (out / manifest.INDEX_FILE).write_bytes(replace(index, artifacts=artifacts).encode())
    return out


def flipped(data: bytes) -> bytes:
    """The same bytes with one bit changed, in the middle."""
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


def _altered(layout: Path, layer: manifest.Descriptor) -> manifest.Descriptor:
    data = flipped(_blob(layout, layer.digest))
    _put(layout, data)
    return manifest.device_layer(layer.role, layer.title, data)


def _blob(layout: Path, digest: str) -> bytes:
    return (layout / manifest.blob_path(digest)).read_bytes()


def _put(layout: Path, data: bytes) -> None:
    (layout / manifest.blob_path(ids.digest_of(data))).write_bytes(data)


def publish_chunk(fleet: Fleet, hex_digest: str, data: bytes) -> None:
    """Replace the first retained chunk of a blob at the broker, as somebody with the server's certificate could.

    The broker knows one client of a name: the server's own connection is thrown out and comes back by itself, which may
    throw this one out; so it is tried until the broker has acknowledged it.
    """
    topic, chunk = topics.blob(hex_digest, 0), data[:CHUNK_BYTES]

    def acknowledged() -> bool:
        return _publish_once(fleet, topic, chunk)

    eventually(acknowledged, "the broker takes the chunk", 20.0)


def _publish_once(fleet: Fleet, topic: str, payload: bytes) -> bool:
    address = fleet.endpoints
    done = threading.Event()
    client = mqtt.Client(CallbackAPIVersion.VERSION2, "_fleet", clean_session=True, protocol=mqtt.MQTTv311)
    client.tls_set_context(_context(fleet.plan.fleet))
    client.on_publish = lambda *_: done.set()
    try:
        client.connect(address["mqtt_host"], int(address["mqtt_port"]))
        client.publish(topic, payload, qos=1, retain=True)
        client.loop_start()
        return done.wait(1.0)
    except OSError:
        return False
    finally:
        client.disconnect()
        client.loop_stop()


def _context(home: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(home / "ca/ca.pem"))
    context.load_cert_chain(home / "broker/fleet.pem", home / "broker/fleet.key")
    return context

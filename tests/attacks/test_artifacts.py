"""Attacks on what is ordered: chunks on the way, manifests that a pipeline's thief signs, files on the device's disk.

The order is right and accepted, so floors move to it; the artifact must not come to stand under its name.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import pytest

from outrider_protocol import canonical, ids, limits, manifest, topics
from tests.agent.supervisor.house import Artifact
from tests.attacks.attacker import ONLINE, Attacker
from tests.attacks.siege import Refusal, Siege, hostile

DIGEST, MALFORMED, TOO_LARGE, TARGET = (
    Refusal(f"{name}Error") for name in ("DigestMismatch", "Malformed", "TooLarge", "WrongTarget")
)
UNSAFE, DURABLE = Refusal("UnsafeFileError", "failed_unchanged"), Refusal("DurableError", "failed_unchanged")
THIEF: Final = ONLINE | {"pipeline", "director"}
Chunks = dict[str, bytes]


@pytest.fixture(scope="module")
def wanted(siege: Siege) -> Artifact:
    """Release 1.1, which the fleet orders in vain."""
    return siege.world.artifact("1.1", seed=1)


def order_it(siege: Siege, artifact: Artifact, refusal: Refusal) -> dict[str, Any]:
    """Order what is published; the detail of the refusal."""
    order = siege.order(artifact)
    with siege.withstands(taken=order.seq):
        siege.desire(siege.world.trust.order(order))
        return siege.refused(refusal, order.seq)


# -------------------------------------------------------------------- on the way


def topic_of(artifact: Artifact, title: str) -> str:
    layers = manifest.Manifest.decode(artifact.encoded).device_layers()
    digest = next(layer.digest for layer in layers if layer.title == title)
    return topics.blob(ids.hex_of(digest), 0)


def flipped(chunks: Chunks, artifact: Artifact) -> Chunks:
    topic = topic_of(artifact, "model.onnx")
    return {topic: chunks[topic][:-1] + bytes([chunks[topic][-1] ^ 1])}


def swapped(chunks: Chunks, artifact: Artifact) -> Chunks:
    one, two = topic_of(artifact, "model.onnx"), topic_of(artifact, "golden.bin")
    return {one: chunks[two], two: chunks[one]}


def cut(chunks: Chunks, artifact: Artifact) -> Chunks:
    topic = topic_of(artifact, "golden.bin")
    return {topic: chunks[topic][:-1]}


def lengthened(chunks: Chunks, artifact: Artifact) -> Chunks:
    topic = topic_of(artifact, "model.onnx")
    return {topic: chunks[topic] + b"more"}


def huge(chunks: Chunks, artifact: Artifact) -> Chunks:
    """The largest message that the agent takes from a broker at all."""
    del chunks
    return {topic_of(artifact, "model.onnx"): bytes(limits.MESSAGE_BYTES)}


def other_manifest(chunks: Chunks, artifact: Artifact) -> Chunks:
    topic = topics.blob(ids.hex_of(artifact.digest), 0)
    return {topic: chunks[topic].replace(b'"golden.bin"', b'"golden.bim"')}


def huge_manifest(chunks: Chunks, artifact: Artifact) -> Chunks:
    del chunks
    return {topics.blob(ids.hex_of(artifact.digest), 0): b" " * limits.MESSAGE_BYTES}


def other_config(chunks: Chunks, artifact: Artifact) -> Chunks:
    topic = topics.blob(ids.hex_of(manifest.Manifest.decode(artifact.encoded).config.digest), 0)
    return {topic: chunks[topic].replace(b'"walk"', b'"fall"')}


ON_THE_WAY = [flipped, swapped, cut, lengthened, huge, other_manifest, huge_manifest, other_config]


@pytest.mark.parametrize("change", ON_THE_WAY, ids=lambda change: f"{change.__name__}-by-network")
def test_on_the_way(siege: Siege, wanted: Artifact, change: Callable[[Chunks, Artifact], Chunks]) -> None:
    """ATK-5: other bytes than the signed ones, of whatever length, are refused by name as they arrive."""
    siege.world.publish(wanted)
    siege.world.server.publish(change(wanted.chunks(), wanted))
    order_it(siege, wanted, DIGEST)


def test_chunks_that_nobody_asked_for(siege: Siege, wanted: Artifact) -> None:
    """ATK-5: more chunks than the manifest lists are not fetched, beside a wrong one that is."""
    siege.world.publish(wanted)
    topic = topic_of(wanted, "model.onnx")
    more = {f"{topic[:-1]}{number}": b"more" for number in range(1, 5)}
    siege.world.server.publish({**more, **cut(wanted.chunks(), wanted)})
    order_it(siege, wanted, DIGEST)


# -------------------------------------------------------------------- signed by a thief

Value = dict[str, Any]


def titled(title: str) -> Callable[[Value], None]:
    def change(value: Value) -> None:
        value["layers"][1]["annotations"][manifest.TITLE] = title

    return change


def sized(size: Any) -> Callable[[Value], None]:
    def change(value: Value) -> None:
        value["layers"][0]["size"] = size

    return change


def chunked(text: str) -> Callable[[Value], None]:
    def change(value: Value) -> None:
        value["layers"][0]["annotations"][manifest.CHUNKS] = text

    return change


def layers_over_the_limit(value: Value) -> None:
    value["layers"] = [*value["layers"], *[value["layers"][0]] * limits.LAYERS]


def two_of_one_name(value: Value) -> None:
    value["layers"][1]["annotations"][manifest.TITLE] = value["layers"][0]["annotations"][manifest.TITLE]


def huge_config(value: Value) -> None:
    value["config"]["size"] = limits.CONFIG_BYTES + 1


def path_as_digest(value: Value) -> None:
    value["layers"][0]["digest"] = "sha256:../../../../etc/passwd"


def annotations_that_are_no_texts(value: Value) -> None:
    value["layers"][0]["annotations"] = {manifest.TITLE: ["a"]}


def layers_that_are_no_list(value: Value) -> None:
    value["layers"] = {"0": value["layers"][0]}


TITLES = {
    "parent": "..",
    "climbs": "../../identity/device.key",
    "absolute": "/etc/cron.d/x",
    "slash": "a/b",
    "backslash": "a\\b",
    "NUL": "model\0.onnx",
    "newline": "model\n.onnx",
    "empty": "",
    "hidden": ".bashrc",
    "not-ascii": "modèl.onnx",
    "long": "m" * 65,
    "the-manifests": "manifest.json",
    "the-configs": "config.json",
    "of-a-part": "model.onnx.part",
    "of-a-sealed-file": "model.onnx.sealed",
    "of-a-temporary-file": "manifest.json.tmp",
}
MANIFESTS: list[tuple[str, Callable[[Value], None], Refusal]] = [
    *((f"title-{name}", titled(title), MALFORMED) for name, title in TITLES.items()),
    ("two-of-one-name", two_of_one_name, MALFORMED),
    ("layers-over-the-limit", layers_over_the_limit, TOO_LARGE),
    ("layer-over-the-limit", sized(limits.LAYER_BYTES + 1), MALFORMED),
    ("negative-size", sized(-1), MALFORMED),
    ("size-is-text", sized("9"), MALFORMED),
    ("more-chunks-than-bytes", chunked(",".join(["0" * 64] * 900)), MALFORMED),
    ("fewer-chunks-than-bytes", sized(limits.LAYER_BYTES), MALFORMED),
    ("chunks-that-are-none", chunked("../x"), MALFORMED),
    ("config-over-the-limit", huge_config, MALFORMED),
    ("path-as-digest", path_as_digest, MALFORMED),
    ("annotations-that-are-no-texts", annotations_that_are_no_texts, MALFORMED),
    ("layers-that-are-no-list", layers_that_are_no_list, MALFORMED),
]


@dataclass
class Thief:
    """Signs releases with a stolen pipeline key, pins and orders them with the server's."""

    siege: Siege
    attacker: Attacker
    model: Artifact
    made: int = 0

    def release(self, encoded: bytes, config: bytes, label: str = "") -> Artifact:
        """Publish an artifact of these bytes beside the layers of a right one."""
        self.made += 1
        artifact, chunks = hostile(self.siege, encoded, config, label or f"8.{self.made}")
        self.attacker.release(artifact.version, encoded, 9)
        self.siege.world.server.publish({**self.model.chunks(), **chunks})
        return artifact

    def described(self, config: bytes) -> bytes:
        """The right manifest over another config."""
        right = manifest.Manifest.decode(self.model.encoded)
        described = replace(right.config, digest=ids.digest_of(config), size=len(config))
        return replace(right, config=described).encode()

    def run(self, artifact: Artifact, refusal: Refusal) -> None:
        """Order it with the stolen key."""
        order = self.siege.order(artifact, counter=9)
        with self.siege.withstands(taken=order.seq):
            self.siege.desire(self.attacker.order(order, "director"))
            self.siege.refused(refusal, order.seq)


@pytest.fixture(scope="module")
def thief(siege: Siege, wanted: Artifact) -> Thief:
    return Thief(siege, siege.attacker(THIEF), wanted)


@pytest.mark.parametrize(("name", "change", "refusal"), MANIFESTS, ids=[f"{m[0]}-by-thief" for m in MANIFESTS])
def test_signed_manifests(thief: Thief, name: str, change: Callable[[Value], None], refusal: Refusal) -> None:
    """ATK-6 and ATK-9: whoever signs a manifest reaches no file outside its directory, nor one that is the agent's."""
    value = json.loads(thief.model.encoded)
    change(value)
    thief.run(thief.release(canonical.encode(value), b"{}"), refusal)


CONFIGS: list[tuple[str, Value, Refusal]] = [
    ("another-model", {"model": "anomaly"}, TARGET),
    ("another-release", {"version": "1.0"}, TARGET),
    ("another-counter", {"counter": 1000}, TARGET),
    ("another-board", {"profile": "other-board"}, TARGET),
    ("endless-range", {"parameters": {"probation_s": {"min": 0, "max": "inf", "default": 0}}}, MALFORMED),
    ("crit-is-no-list", {"crit": {"model": 1}}, MALFORMED),
    ("threads-over-the-limit", {"load": {"mode": "default", "prepack": True, "threads": 100_000}}, MALFORMED),
]


@pytest.mark.parametrize(("name", "changes", "refusal"), CONFIGS, ids=[f"{c[0]}-by-thief" for c in CONFIGS])
def test_signed_configs(thief: Thief, name: str, changes: Value, refusal: Refusal) -> None:
    """ATK-6: TRU-8 and TRU-9 again, by what the artifact says of itself."""
    label = f"7.{thief.made}"
    right = json.loads((thief.model.directory / "config.json").read_bytes())
    config = canonical.encode({**right, "version": label, "counter": 9, **changes})
    thief.run(thief.release(thief.described(config), config, label), refusal)


def test_a_signed_model_that_is_none(siege: Siege, thief: Thief) -> None:
    """ATK-6: a layer of garbage with right digests ends in the child that loads it."""
    garbage = os.urandom(4096)
    value = manifest.Manifest.decode(thief.model.encoded)
    config = json.loads((thief.model.directory / "config.json").read_bytes())
    encoded_config = canonical.encode({**config, "version": "7.99", "counter": 9})
    layers = [
        manifest.device_layer(manifest.Role.MODEL, layer.title, garbage) if layer.role is manifest.Role.MODEL else layer
        for layer in value.layers
    ]
    described = replace(value.config, digest=ids.digest_of(encoded_config), size=len(encoded_config))
    encoded = replace(value, config=described, layers=tuple(layers)).encode()
    artifact = thief.release(encoded, encoded_config, "7.99")
    siege.world.server.publish({topics.blob(ids.hex_of(ids.digest_of(garbage)), 0): garbage})
    thief.run(artifact, Refusal("EngineError", "failed_unchanged"))


def test_a_signed_model_that_answers_wrongly(siege: Siege, thief: Thief) -> None:
    """ATK-6: another model under the golden answers of this one fails them, and never serves."""
    artifact = siege.world.artifact("1.2", golden_offset=0.5)
    siege.world.publish(artifact)
    order_it(siege, artifact, Refusal("GoldenMismatchError", "failed_unchanged"))


# -------------------------------------------------------------------- on the device's disk


def linked_layer(directory: Path, right: Path) -> None:
    (directory / "model.onnx").symlink_to(right / "model.onnx")


def linked_part(directory: Path, right: Path) -> None:
    (directory / "model.onnx.part").symlink_to(right / "model.onnx")


def second_name(directory: Path, right: Path) -> None:
    """The right bytes, for as long as whoever holds the other name likes."""
    (directory / "model.onnx").hardlink_to(right / "model.onnx")


def pipe_as_layer(directory: Path, _: Path) -> None:
    os.mkfifo(directory / "model.onnx", 0o600)


def pipe_as_manifest(directory: Path, _: Path) -> None:
    os.mkfifo(directory / "manifest.json", 0o600)


def linked_manifest(directory: Path, right: Path) -> None:
    (directory / "manifest.json").symlink_to(right / "manifest.json")


def others_may_write(directory: Path, right: Path) -> None:
    planted = directory / "model.onnx"
    planted.write_bytes((right / "model.onnx").read_bytes())
    planted.chmod(0o666)


def directory_as_layer(directory: Path, _: Path) -> None:
    (directory / "model.onnx").mkdir()


def linked_directory(directory: Path, right: Path) -> None:
    directory.rmdir()
    directory.symlink_to(right, target_is_directory=True)


def copied(artifact: Artifact, directory: Path) -> Path:
    """All of its right files, as the agent itself would have written them."""
    directory.mkdir(mode=0o700)
    for path in artifact.directory.iterdir():
        (directory / path.name).write_bytes(path.read_bytes())
        (directory / path.name).chmod(0o600)
    return directory


ON_THE_DISK: list[tuple[Callable[[Path, Path], None], Refusal]] = [
    (linked_layer, UNSAFE),
    (linked_part, DURABLE),
    (second_name, UNSAFE),
    (pipe_as_layer, UNSAFE),
    (pipe_as_manifest, UNSAFE),
    (linked_manifest, UNSAFE),
    (others_may_write, UNSAFE),
    (directory_as_layer, UNSAFE),
    (linked_directory, UNSAFE),
]


@pytest.mark.parametrize(
    ("plant", "refusal"), ON_THE_DISK, ids=[f"{plant.__name__}-by-disk" for plant, _ in ON_THE_DISK]
)
def test_in_the_downloads(
    siege: Siege, wanted: Artifact, plant: Callable[[Path, Path], None], refusal: Refusal, tmp_path: Path
) -> None:
    """ATK-7: a link, a pipe or a file that others may change, in the way of a download: refused, not followed."""
    right = copied(wanted, tmp_path / "right")
    before = {path.name: path.read_bytes() for path in right.iterdir()}
    directory = siege.paths.downloads / ids.hex_of(wanted.digest)
    directory.mkdir(mode=0o700)
    plant(directory, right)
    siege.world.publish(wanted)
    order_it(siege, wanted, refusal)
    assert {path.name: path.read_bytes() for path in right.iterdir()} == before  # nothing was written through a link
    assert not directory.exists()


def test_under_the_artifacts_name(siege: Siege, wanted: Artifact) -> None:
    """ATK-7: a planted directory with the right manifest and another model is found out before anything loads it."""
    planted = siege.paths.artifact(ids.hex_of(wanted.digest))
    siege.world.publish(wanted)
    order = siege.order(wanted)
    with siege.withstands(taken=order.seq):
        copied(wanted, planted)
        (planted / "model.onnx").write_bytes((siege.first.directory / "model.onnx").read_bytes())
        siege.desire(siege.world.trust.order(order))
        siege.refused(DIGEST, order.seq)
    assert not planted.exists()


def test_a_link_under_the_artifacts_name(siege: Siege, wanted: Artifact, tmp_path: Path) -> None:
    """ATK-7: a link to a directory with all the right bytes is refused: whoever owns them changes them later."""
    planted = siege.paths.artifact(ids.hex_of(wanted.digest))
    siege.world.publish(wanted)
    order = siege.order(wanted)
    with siege.withstands(taken=order.seq):
        right = copied(wanted, tmp_path / "right")
        planted.symlink_to(right, target_is_directory=True)
        siege.desire(siege.world.trust.order(order))
        siege.refused(UNSAFE, order.seq)
    assert not planted.exists()
    assert {path.name for path in right.iterdir()} == {path.name for path in wanted.directory.iterdir()}


def test_without_the_tricks_it_runs(siege: Siege, wanted: Artifact) -> None:
    """ATK-5, ATK-6 and ATK-7: the same release, once nobody is in its way, is fetched, loaded and serves."""
    siege.world.publish(wanted)
    seq = siege.world.desired(wanted)
    siege.world.ended(seq, "probation")
    siege.world.infer(3)
    siege.world.ended(seq, "succeeded")
    assert siege.world.serving() == wanted.digest

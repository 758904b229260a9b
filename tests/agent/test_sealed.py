"""Sealed files: what opens, what does not, and whose key it is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outrider_agent import sealed
from outrider_agent.durable import Durable
from outrider_agent.paths import Paths
from outrider_agent.sealed import HEADER_BYTES, TAG_BYTES, Header, Seal, SealedFileError, SealKeyError
from outrider_agent.update import download, stage
from outrider_protocol import ids, topics
from outrider_protocol.limits import CHUNK_BYTES
from outrider_protocol.manifest import Role, device_layer
from tests.agent.update.kit import Device, Given
from tests.agent.update.test_process import order_of

KEY = bytes(range(32))
SMALL = 16  # bytes of a chunk in these tests


def sealed_bytes(content: bytes, key: bytes = KEY, salt: bytes = bytes(32)) -> bytes:
    """A sealed file with small chunks."""
    seal = Seal(key, Header(len(content), salt, SMALL))
    parts = [content[n * SMALL : (n + 1) * SMALL] for n in range(seal.header.chunks)]
    return seal.header.encode() + b"".join(seal.seal(n, part) for n, part in enumerate(parts))


def open_bytes(data: bytes, tmp: Path, key: bytes = KEY) -> bytes:
    (tmp / "file").write_bytes(data)
    with (tmp / "file").open("rb") as file:
        return b"".join(sealed.opened(file, key))


@pytest.fixture(scope="module")
def tmp(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sealed")


@settings(max_examples=60, deadline=None)
@given(content=st.binary(max_size=200))
def test_what_was_sealed_opens(tmp: Path, content: bytes) -> None:
    """AGT-SEA-1: any content comes back, empty and odd lengths too, and does not stand in the file in plain."""
    data = sealed_bytes(content, salt=os.urandom(32))
    assert open_bytes(data, tmp) == content
    assert len(data) == Header(len(content), bytes(32), SMALL).file_bytes
    assert len(content) < 8 or content not in data[HEADER_BYTES:]


@settings(max_examples=150, deadline=None)
@given(content=st.binary(min_size=1, max_size=120), at=st.integers(0, 10_000), bit=st.integers(0, 7))
def test_one_changed_bit_does_not_open(tmp: Path, content: bytes, at: int, bit: int) -> None:
    """AGT-SEA-2: header, length, salt, ciphertext, tag: a bit anywhere is a named error."""
    data = bytearray(sealed_bytes(content))
    data[at % len(data)] ^= 1 << bit
    with pytest.raises(SealedFileError) as caught:
        open_bytes(bytes(data), tmp)
    assert caught.value.hint


@settings(max_examples=80, deadline=None)
@given(content=st.binary(min_size=40, max_size=150), order=st.randoms(use_true_random=False))
def test_moved_chunks_do_not_open(tmp: Path, content: bytes, order: object) -> None:
    """AGT-SEA-2: each chunk opens in its own place alone."""
    data = sealed_bytes(content)
    step = SMALL + TAG_BYTES
    whole = len(content) // SMALL
    chunks = [data[HEADER_BYTES + n * step : HEADER_BYTES + (n + 1) * step] for n in range(whole)]
    moved = list(chunks)
    order.shuffle(moved)  # type: ignore[attr-defined]  # hypothesis' Random
    if moved == chunks:
        moved.reverse()
    changed = data[:HEADER_BYTES] + b"".join(moved) + data[HEADER_BYTES + whole * step :]
    with pytest.raises(SealedFileError):
        open_bytes(changed, tmp)


@settings(max_examples=80, deadline=None)
@given(content=st.binary(min_size=1, max_size=120), cut=st.integers(1, 10_000))
def test_a_cut_or_lengthened_file_does_not_open(tmp: Path, content: bytes, cut: int) -> None:
    """AGT-SEA-2: neither shorter (whole chunks too) nor longer."""
    data = sealed_bytes(content)
    for changed in (data[: -(cut % len(data)) or len(data) - 1], data + b"x", data + data[-(SMALL + TAG_BYTES) :]):
        with pytest.raises(SealedFileError):
            open_bytes(changed, tmp)


def test_chunks_of_another_file_do_not_open(tmp: Path) -> None:
    """AGT-SEA-2: under the same device key too: another salt is another key, and a header belongs to its chunks."""
    one, two = sealed_bytes(b"a" * 64, salt=b"1" * 32), sealed_bytes(b"b" * 64, salt=b"2" * 32)
    for changed in (one[:HEADER_BYTES] + two[HEADER_BYTES:], one[:-32] + two[-32:]):
        with pytest.raises(SealedFileError):
            open_bytes(changed, tmp)
    with pytest.raises(SealedFileError):
        open_bytes(one, tmp, key=b"x" * 32)


def test_the_same_content_is_never_sealed_alike(tmp: Path) -> None:
    """AGT-SEA-3: every file has its own salt; within one the nonce is the chunk's number."""
    seals = [Seal.new(KEY, 3) for _ in range(50)]
    assert len({seal.header.salt for seal in seals}) == 50
    assert len({seal.seal(0, b"abc") for seal in seals}) == 50
    streams = {Seal.new(KEY, 32).seal(0, bytes(32))[:32] for _ in range(50)}
    assert len(streams) == 50, "two files under one key stream: the tags differ, the content is open"
    with pytest.raises(SealedFileError):
        seals[0].seal(1, b"abc")
    with pytest.raises(SealedFileError):
        seals[0].seal(0, b"abcd")


@pytest.mark.parametrize("data", [b"", b"x" * HEADER_BYTES, bytes(HEADER_BYTES), b"ORSEAL1\n" + b"\xff" * 44])
def test_a_header_that_is_none(data: bytes, tmp: Path) -> None:
    """AGT-SEA-2: before anything is allocated for it."""
    with pytest.raises(SealedFileError):
        open_bytes(data, tmp)
    with pytest.raises(SealedFileError):
        Header.decode(data)


# -------------------------------------------------------------------- the key


def test_the_key_is_made_once_and_for_its_owner(tmp_path: Path) -> None:
    """AGT-SEA-4: 0600 from the start; one that others may read, a link, a short or a missing one is a named error."""
    paths = Paths.under(tmp_path)
    paths.var.mkdir()
    with pytest.raises(SealKeyError):
        sealed.load_key(paths, {})
    key = sealed.make_key(paths, Durable(), {})
    assert (len(key), sealed.make_key(paths, Durable(), {}), sealed.load_key(paths, {})) == (32, key, key)
    assert paths.seal_key.stat().st_mode & 0o777 == 0o600
    broken: list[Callable[[], object]] = [
        lambda: paths.seal_key.chmod(0o640),
        lambda: (paths.seal_key.chmod(0o600), paths.seal_key.write_bytes(key[:31])),
        lambda: (paths.seal_key.rename(tmp_path / "k"), paths.seal_key.symlink_to(tmp_path / "k")),
    ]
    for do in broken:
        do()
        with pytest.raises(SealKeyError) as caught:
            sealed.load_key(paths, {})
        assert caught.value.hint


def test_a_linked_key_is_refused(tmp_path: Path) -> None:
    """AGT-SEA-4: a good key that lies elsewhere is not followed to: whoever made the link may change it."""
    paths = Paths.under(tmp_path)
    paths.var.mkdir()
    sealed.make_key(paths, Durable(), {})
    paths.seal_key.rename(tmp_path / "elsewhere")
    paths.seal_key.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SealKeyError):
        sealed.load_key(paths, {})


def test_a_credential_comes_first(tmp_path: Path) -> None:
    """AGT-SEA-4: what systemd hands over is the key; a directory without it changes nothing."""
    paths, folder = Paths.under(tmp_path), tmp_path / "credentials"
    paths.var.mkdir()
    folder.mkdir()
    environ = {"CREDENTIALS_DIRECTORY": str(folder)}
    own = sealed.make_key(paths, Durable(), environ)
    (folder / sealed.CREDENTIAL).write_bytes(b"c" * 40)
    (folder / sealed.CREDENTIAL).chmod(0o400)
    assert sealed.load_key(paths, environ) == b"c" * 40 != own


# -------------------------------------------------------------------- downloads and workers

DATA = os.urandom(2 * CHUNK_BYTES + 99)
LAYER = device_layer(Role.MODEL, "model.onnx", DATA)


def source() -> Given:
    hex_digest = ids.hex_of(LAYER.digest)
    return Given({topics.blob(hex_digest, n): DATA[n * CHUNK_BYTES : (n + 1) * CHUNK_BYTES] for n in range(3)})


class Counting(Given):
    """Counts the chunks that are asked for."""

    def __init__(self) -> None:
        super().__init__(source().messages)
        self.numbers: list[int] = []

    def chunks(self, hex_digest: str, numbers):  # type: ignore[no-untyped-def]  # as in `Given`
        self.numbers += numbers
        return super().chunks(hex_digest, numbers)


def test_a_layer_is_sealed_as_it_arrives(tmp_path: Path) -> None:
    """AGT-SEA-5: no plain byte reaches the disk; what lies there opens to the signed bytes."""
    written: list[bytes] = []
    disk = Durable(lambda operation: written.append(operation.data))
    download.layer(source(), LAYER, tmp_path, disk, KEY)
    path = tmp_path / "model.onnx.sealed"
    assert [item.name for item in tmp_path.iterdir()] == [path.name]
    assert not [data for data in written if DATA[:64] in data]
    stage.verify_file(path, LAYER, KEY)
    assert path.stat().st_mode & 0o777 == 0o600
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(SealedFileError):
        stage.verify_file(path, LAYER, KEY)


@pytest.mark.parametrize(
    ("damage", "asked"),
    [
        (lambda data: data[: HEADER_BYTES + CHUNK_BYTES + TAG_BYTES + 500], [1, 2]),
        (lambda data: data[:HEADER_BYTES], [0, 1, 2]),
        (lambda data: data[:20], [0, 1, 2]),
        (lambda data: bytes(len(data)), [0, 1, 2]),
        (lambda data: data[:HEADER_BYTES] + bytes(CHUNK_BYTES) + data[HEADER_BYTES + CHUNK_BYTES :], [0, 1, 2]),
    ],
)
def test_a_sealed_part_resumes(tmp_path: Path, damage: Callable[[bytes], bytes], asked: list[int]) -> None:
    """AGT-SEA-5: sealed chunks that are right stay, under their own salt; the rest is fetched again."""
    download.layer(source(), LAYER, tmp_path, Durable(), KEY)
    path = tmp_path / "model.onnx.sealed"
    part = path.with_name(path.name + ".part")
    part.write_bytes(damage(path.read_bytes()))
    path.unlink()
    counting = Counting()
    download.layer(counting, LAYER, tmp_path, Durable(), KEY)
    assert counting.numbers == asked
    stage.verify_file(path, LAYER, KEY)


@pytest.fixture
def device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Device:
    made = Device(tmp_path)
    monkeypatch.setenv("OUTRIDER_HOME", str(tmp_path / "home"))
    return made


def test_an_encrypted_artifact_loads(device: Device) -> None:
    """AGT-SEA-6: from the broker to the load test: layers are sealed, the worker opens them in memory."""
    artifact = device.artifact("1.0")
    said = device.update(device.trust.order(order_of(artifact)), encrypt=True)
    assert said.op == "staged", said
    committed = device.paths.artifact(ids.hex_of(artifact.digest))
    names = {path.name for path in committed.iterdir()}
    assert {"model.onnx.sealed", "manifest.json", "config.json"} <= names
    assert "model.onnx" not in names
    assert all(path.stat().st_mode & 0o077 == 0 for path in committed.iterdir())
    assert device.update(device.trust.order(order_of(artifact, seq=2)), encrypt=False).op == "staged"
    assert {path.name for path in committed.iterdir()} == names


def test_without_its_key_it_does_not_load(device: Device) -> None:
    """AGT-SEA-6: another key is a named error of the load test, which changes nothing."""
    artifact = device.artifact("1.0")
    device.update(device.trust.order(order_of(artifact)), encrypt=True)
    device.paths.seal_key.write_bytes(b"x" * 32)
    said = device.update(device.trust.order(order_of(artifact)), encrypt=True)
    assert said.fields["error"] == "SealedFileError"
    assert said.fields["hint"]


SCRIPT = """
import json, sys
from pathlib import Path
from outrider_agent.worker import artifact, engine
engine.load(artifact.read_artifact(Path(sys.argv[1])))
print(json.dumps("cryptography" in {name.partition(".")[0] for name in sys.modules}))
"""


@pytest.mark.parametrize("encrypt", [False, True])
def test_a_worker_loads_cryptography_for_sealed_files_alone(device: Device, encrypt: bool) -> None:
    """AGT-SEA-6: eight megabytes that a plain artifact does not cost."""
    artifact = device.artifact("1.0")
    device.update(device.trust.order(order_of(artifact)), encrypt=encrypt)
    place = str(device.paths.artifact(ids.hex_of(artifact.digest)))
    done = subprocess.run([sys.executable, "-c", SCRIPT, place], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) is encrypt


def test_plain_files_are_for_their_owner_alone(device: Device) -> None:
    """AGT-SEA-7: artifacts, downloads, trust and state: nobody else may read or enter."""
    artifact = device.artifact("1.0")
    device.update(device.trust.order(order_of(artifact)))
    for top in (device.paths.artifacts, device.paths.downloads, device.paths.trust):
        for path in (top, *top.rglob("*")):
            assert path.stat().st_mode & 0o077 == 0, path

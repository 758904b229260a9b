"""Releases: what is refused, by which error, and that nothing of it stays. Rules: docs/spec/ingest.md."""

from __future__ import annotations

import datetime as dt
import itertools
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy.exc import SQLAlchemyError

from outrider_fleet.app import blobs, publish_release
from outrider_fleet.app.publish_release import Upload
from outrider_fleet.errors import (
    ConflictError,
    FleetError,
    MetadataRefusedError,
    ReleaseRefusedError,
    TamperedError,
    UnknownError,
)
from outrider_fleet.signing import ceremony
from outrider_fleet.signing.errors import SignatureThresholdError
from outrider_protocol import canonical, ids, limits, manifest, signing, topics
from outrider_protocol.manifest import Index
from tests.fleet.app.house import House, Release


def publish(house: House, made: Release, provenance: dict[str, Any] | None = None) -> None:
    upload = Upload(made.metadata.decode(), made.index.decode(), provenance or {})
    publish_release.publish(house.fleet, upload, "pipeline:test")


def test_published(house: House) -> None:
    """REL-2: an artifact's row says what the manifest says; trust and chunks are on the broker."""
    artifact = house.publish("1.0", 1)
    row = house.rows("SELECT digest, model, version, profile, precision, reference_accuracy FROM artifacts")[0]
    assert row == {
        "digest": artifact,
        "model": "har",
        "version": "1.0",
        "profile": "x86-64",
        "precision": "fp32",
        "reference_accuracy": 0.85,
    }
    assert topics.trust_model("har") in house.broker.retained()
    assert topics.TRUST_ONLINE in house.broker.retained()
    assert topics.trust_root(1) in house.broker.retained()
    assert ids.hex_of(artifact) in house.broker.blobs
    assert len(house.broker.blobs) == len(set(house.broker.blobs)) == 4


def test_same_again(house: House) -> None:
    """REL-7: once published it stays as it is."""
    made = house.make("1.0", 1)
    house.upload(made)
    publish(house, made)
    publish(house, made)
    assert house.value("SELECT count(*) FROM releases") == 1
    assert house.value("SELECT count(*) FROM audit WHERE action = 'release.publish'") == 1


def at_once(work: Callable[[], object], times: int = 2) -> list[Exception]:
    """Do the same in several threads, which begin together; returns their errors."""
    errors: list[Exception] = []
    begin = threading.Barrier(times)

    def run() -> None:
        begin.wait()
        try:
            work()
        except (FleetError, SQLAlchemyError, OSError) as error:
            errors.append(error)

    threads = [threading.Thread(target=run) for _ in range(times)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return errors


def test_the_same_sent_twice_at_once(house: House) -> None:
    """REL-7: a pipeline that did not wait for its answer and asks again is answered twice, and it counts once."""
    made = house.make("1.0", 1)
    house.upload(made)
    assert at_once(lambda: publish(house, made)) == []
    assert house.value("SELECT count(*) FROM releases") == 1
    assert house.value("SELECT count(*) FROM audit WHERE action = 'release.publish'") == 1


def test_the_same_blob_uploaded_at_once(house: House) -> None:
    """REL-2: pipelines that upload the same layer at the same time all get it there, whole."""
    numbers = itertools.count()
    for data in (bytes([n]) * 100_000 for n in range(10)):
        digest = ids.digest_of(data)

        def upload(data: bytes = data, digest: str = digest) -> None:
            file = house.home.blobs / f".upload-{next(numbers)}"
            file.write_bytes(data)
            try:
                blobs.adopt(house.fleet, digest, blobs.Received(str(file), digest, len(data)), "pipeline:test")
            finally:
                file.unlink()

        assert at_once(upload, 4) == []
        assert blobs.read(house.fleet, digest, len(data), "layer") == data
    assert house.value("SELECT count(*) FROM blobs") == 10
    assert not list(house.home.blobs.glob(".*"))


def test_half_uploads_of_a_killed_server_are_swept(house: House) -> None:
    """SRV-5: what it had half received, or half written of a snapshot, goes; blobs and snapshots stay."""
    house.publish("1.0", 1)
    house.home.snapshots.mkdir(exist_ok=True)
    kept = house.home.snapshots / f"{'ab' * 32}.db"
    kept.write_bytes(b"a snapshot")
    before = set(house.home.blobs.iterdir())
    for left in (house.home.blobs / ".upload-x1", house.home.snapshots / ".00ff.new"):
        left.write_bytes(b"half")
    assert blobs.sweep(house.home) == 2
    assert set(house.home.blobs.iterdir()) == before
    assert list(house.home.snapshots.iterdir()) == [kept]
    assert blobs.sweep(house.home) == 0


def test_other_content_under_the_name(house: House) -> None:
    """REL-7: a version keeps its bytes."""
    house.publish("1.0", 1)
    other = house.make("1.0", 2)
    house.upload(other)
    with pytest.raises((ConflictError, MetadataRefusedError)):
        publish(house, other)


def test_another_index_of_a_published_release(house: House) -> None:
    """REL-7: the very bytes of the index stay, though the signed metadata are the same."""
    made = house.make("1.0", 1)
    house.upload(made)
    publish(house, made)
    with pytest.raises(ConflictError, match="other content"):
        publish(house, replace(made, index=made.index.replace(b"{", b"{ ", 1)))


def test_an_index_that_leaves_out_a_signed_artifact(house: House) -> None:
    """REL-1: what the pipeline signed for this version is what the index lists, no more and no less."""
    made = house.make("1.0", 1)
    house.upload(made)
    empty = canonical.decode(made.index, limits.INDEX_BYTES) | {"manifests": []}
    with pytest.raises(TamperedError, match="the index has"):
        publish(house, replace(made, index=canonical.encode(empty)))


def test_chunk_digests_are_those_of_the_bytes(house: House) -> None:
    """REL-2: a device checks each chunk as it arrives: a list for other bytes is refused before it is published."""
    made = house.make("1.0", 1)
    weights = next(data for data in made.blobs.values() if b"weights" in data)
    (chunk,) = manifest.chunk_digests(weights)
    packed = made.blobs[made.artifact].replace(
        f'"outrider.chunks":"{chunk}"'.encode(), b'"outrider.chunks":"%064d"' % 0
    )
    assert packed != made.blobs[made.artifact]
    target = signing.artifact_target("har/1.0/x86-64", packed, 1)
    expires = dt.datetime.now(dt.UTC).replace(microsecond=0) + dt.timedelta(days=1)
    metadata = signing.add_targets(None, [target], expires, [signing.load_private(house.pipeline)])
    index = Index("har", "1.0", 1, {"x86-64": manifest.artifact_descriptor(packed, "x86-64")}).encode()
    house.upload(replace(made, blobs={**made.blobs, ids.digest_of(packed): packed}))
    with pytest.raises(TamperedError, match="chunk digests"):
        publish(house, replace(made, index=index, metadata=metadata))


def test_wrong_digest_is_not_stored(house: House) -> None:
    """REL-2: a blob whose bytes are others is refused."""
    with pytest.raises(TamperedError):
        blobs.put(house.fleet, "sha256:" + "0" * 64, b"something")
    assert list(house.home.blobs.iterdir()) == []


def flip_metadata(house: House, made: Release) -> Release:
    return replace(made, metadata=made.metadata.replace(b'"counter":1', b'"counter":9'))


def foreign_key(house: House, made: Release) -> Release:
    other = house.home.path.parent / "other.pem"
    ceremony.make_pipeline_key(other)
    packed = next(data for data in made.blobs.values() if ids.digest_of(data) == made.artifact)
    target = signing.artifact_target("har/1.0/x86-64", packed, 1)
    expires = dt.datetime.now(dt.UTC).replace(microsecond=0) + dt.timedelta(days=1)
    return replace(made, metadata=signing.add_targets(None, [target], expires, [signing.load_private(other)]))


def other_manifest(house: House, made: Release) -> Release:
    return replace(made, index=made.index.replace(made.artifact.encode(), b"sha256:" + b"1" * 64))


def no_artifact(house: House, made: Release) -> Release:
    return replace(made, index=made.index.replace(b"x86-64", b"x86-65"))


def other_counter(house: House, made: Release) -> Release:
    return replace(made, index=made.index.replace(b'"outrider.counter":"1"', b'"outrider.counter":"2"'))


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (flip_metadata, SignatureThresholdError),
        (foreign_key, SignatureThresholdError),
        (other_manifest, TamperedError),
        (no_artifact, TamperedError),
        (other_counter, TamperedError),
        (lambda _house, made: replace(made, metadata=b"{}"), MetadataRefusedError),
        (lambda _house, made: replace(made, index=b"[]"), ReleaseRefusedError),
    ],
)
def test_tampered(house: House, change: Callable[[House, Release], Release], error: type[Exception]) -> None:
    """REL-1, REL-2 and REL-6: each kind of tampering has its error, an audit row, and leaves nothing else."""
    made = house.make("1.0", 1)
    house.upload(made)
    with pytest.raises(error):
        publish(house, change(house, made))
    assert house.value("SELECT count(*) FROM releases") == 0
    assert house.value("SELECT count(*) FROM artifacts") == 0
    row = house.rows("SELECT object, detail FROM audit WHERE action = 'release.refused'")[0]
    assert row["object"].startswith(("har/1.0", "sha256:"))
    assert error.__name__ in row["detail"]
    assert house.broker.blobs == []


@pytest.mark.parametrize("what", ["weights", "manifest"])
def test_changed_on_the_servers_disk(house: House, what: str) -> None:
    """REL-2: bytes are checked when the release is published, not only when they came."""
    made = house.make("1.0", 1)
    house.upload(made)
    digest = made.artifact if what == "manifest" else next(d for d, data in made.blobs.items() if b"weights" in data)
    path = house.home.blob(ids.hex_of(digest))
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    with pytest.raises(TamperedError):
        publish(house, made)


def test_missing_blob(house: House) -> None:
    """REL-2: a release exists when everything is there."""
    made = house.make("1.0", 1)
    with pytest.raises(UnknownError):
        publish(house, made)


@pytest.mark.parametrize("title", ["../model.onnx", "/etc/passwd", ".hidden", "a b"])
def test_unsafe_title(house: House, title: str) -> None:
    """REL-4: a title is a plain file name."""
    made = house.make("1.0", 1, title=title)
    house.upload(made)
    with pytest.raises(ReleaseRefusedError, match="title"):
        publish(house, made)


def test_config_says_another_release(house: House) -> None:
    """REL-2: config and index name the same model, version, counter and profile."""
    made = house.make("1.0", 1, change=lambda config: replace(config, counter=7))
    house.upload(made)
    with pytest.raises(ReleaseRefusedError, match="config"):
        publish(house, made)


def test_counter_goes_up(house: House) -> None:
    """REL-3: a release that is not above the newest is refused."""
    house.publish("1.0", 5)
    with pytest.raises(ReleaseRefusedError, match="counter 5"):
        house.publish("1.1", 5)


@pytest.mark.parametrize("provenance", [{"run": "run-000001"}, {"run": "run-000001", "snapshot": "sha256:" + "0" * 64}])
def test_unknown_run(house: House, provenance: dict[str, Any]) -> None:
    """REL-5: nobody is at work on that run."""
    with pytest.raises(ReleaseRefusedError, match="not at work"):
        house.publish("1.0", 1, provenance)

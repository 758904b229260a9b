"""The layout on disk: verified byte by byte, with its documents."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from outrider_compiler.errors import LayoutError
from outrider_compiler.release import Release
from outrider_protocol import ids
from outrider_protocol.manifest import BLOBS, TITLE, Manifest


@pytest.fixture
def copy(release: Release, tmp_path: Path) -> Release:
    """A release that may be damaged."""
    shutil.copytree(release.directory, tmp_path / "copy")
    return Release.open(tmp_path / "copy")


def flip(path: Path) -> None:
    """Change one bit in the middle of a file."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def test_every_changed_blob_is_found(copy: Release) -> None:
    """CMP-LAY-1: one bit in any blob is found by `verify`, which names the blob."""
    copy.verify()
    for path in sorted((copy.directory / BLOBS).iterdir()):
        whole = path.read_bytes()
        flip(path)
        with pytest.raises(LayoutError, match=path.name[:12]):
            copy.verify()
        path.write_bytes(whole)
    copy.verify()


def test_a_missing_or_added_blob_is_found(copy: Release) -> None:
    """CMP-LAY-2: nothing is missing and nothing lies there unnamed."""
    extra = copy.directory / BLOBS / ids.hex_of(ids.digest_of(b"extra"))
    extra.write_bytes(b"extra")
    with pytest.raises(LayoutError, match="no manifest names"):
        copy.verify()
    extra.unlink()
    model = Manifest.decode(copy.manifest_bytes("x86-64")).layers[0]
    (copy.directory / BLOBS / ids.hex_of(model.digest)).unlink()
    with pytest.raises(LayoutError, match="missing"):
        copy.verify()


def test_what_is_no_release_is_said(tmp_path: Path) -> None:
    """CMP-LAY-3: an empty folder or a damaged index is a `LayoutError`."""
    with pytest.raises(LayoutError):
        Release.open(tmp_path)
    (tmp_path / "index.json").write_text("{}", encoding="utf-8")
    with pytest.raises(LayoutError):
        Release.open(tmp_path)


def documents(release: Release, profile: str) -> dict[str, bytes]:
    """Referrers of one artifact, by title."""
    found = {}
    for descriptor in release.index.referrers:
        content = Manifest.decode(release.blob(descriptor.digest))
        if content.subject is not None and content.subject.digest == release.index.artifacts[profile].digest:
            found[descriptor.annotations[TITLE]] = release.layer_of(descriptor)
    return found


def test_each_artifact_has_its_documents(release: Release) -> None:
    """CMP-DOC-1: report, evidence, provenance and BOM refer to the manifest, and the report is the one beside it."""
    for profile in release.profiles:
        found = documents(release, profile)
        assert set(found) == {"report.html", "report.json", "evidence.json", "provenance.json", "bom.json"}
        assert found["report.html"] == (release.directory / "report.html").read_bytes()


def test_provenance_names_its_subject_and_inputs(release: Release) -> None:
    """CMP-DOC-2: an in-toto statement about the manifest's digest, from the digests that the lock lists."""
    statement = json.loads(documents(release, "x86-64")["provenance.json"])
    assert statement["subject"] == [
        {"name": "waves/1.0/x86-64", "digest": {"sha256": ids.hex_of(release.index.artifacts["x86-64"].digest)}}
    ]
    named = {
        item["name"]: item["digest"]["sha256"]
        for item in statement["predicate"]["buildDefinition"]["resolvedDependencies"]
    }
    locked = json.loads((release.directory / "outrider.lock").read_bytes())["inputs"]
    assert named == {name: ids.hex_of(digest) for name, digest in locked.items()}


def test_the_bom_is_cyclonedx(release: Release) -> None:
    """CMP-DOC-3: an ML-BOM with the model, both data sets and the tools."""
    bom = json.loads(documents(release, "x86-64-vnni")["bom.json"])
    assert (bom["bomFormat"], bom["metadata"]["component"]["type"]) == ("CycloneDX", "machine-learning-model")
    assert {item["name"] for item in bom["components"]} == {"calibration", "evaluation"}
    assert "onnxruntime" in {item["name"] for item in bom["metadata"]["tools"]["components"]}


def test_the_page_stands_alone(release: Release) -> None:
    """CMP-DOC-4: report.html loads nothing from anywhere, runs no script, and shows every candidate and refusal."""
    html = (release.directory / "report.html").read_text(encoding="utf-8")
    for foreign in ("<script", "<link", "http://", "https://", "@import", "url("):
        assert foreign not in html
    report = release.report()
    for profile in report["profiles"].values():
        for item in profile["candidates"]:
            assert item["name"] in html
            assert all(refusal.split(":")[0].split(" (")[0] in html for refusal in item["refusals"])

"""The OCI image layout of a release: blobs by digest, one manifest a profile, referrers, index.

1. The same content gives the same files; nothing here reads a clock.
2. A layout is written into a folder beside its place and renamed when it is complete.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from outrider_compiler.candidate import Candidate
from outrider_protocol import canonical, ids, manifest
from outrider_protocol.manifest import Config, Descriptor, Manifest, Role

REPORT_HTML: Final = "application/vnd.outrider.report.v1+html"
REPORT_JSON: Final = "application/vnd.outrider.report.v1+json"
EVIDENCE: Final = "application/vnd.outrider.evidence.v1+json"
PROVENANCE: Final = "application/vnd.in-toto+json"
BOM: Final = "application/vnd.cyclonedx+json"
CANDIDATES: Final = "application/vnd.outrider.candidates.v1"
CANDIDATE: Final = "outrider.candidate"


@dataclass
class Blobs:
    """Blobs of one layout by digest."""

    data: dict[str, bytes] = field(default_factory=dict)

    def add(self, content: bytes) -> str:
        """Keep a blob; returns its digest."""
        digest = ids.digest_of(content)
        self.data[digest] = content
        return digest


@dataclass(frozen=True)
class DeviceFile:
    """A file that goes to the device."""

    role: Role
    title: str
    data: bytes


@dataclass(frozen=True)
class Artifact:
    """One profile's manifest in the layout."""

    profile: str
    config: Config
    manifest: bytes

    @property
    def descriptor(self) -> Descriptor:
        """Its index entry."""
        return manifest.artifact_descriptor(self.manifest, self.profile)


def add_artifact(blobs: Blobs, config: Config, files: list[DeviceFile]) -> Artifact:
    """Add an artifact's blobs and manifest."""
    encoded = config.encode()
    layers = []
    for file in files:
        blobs.add(file.data)
        layers.append(manifest.device_layer(file.role, file.title, file.data))
    described = Descriptor(manifest.CONFIG_TYPE, blobs.add(encoded), len(encoded))
    annotations = {
        manifest.MODEL: config.model,
        manifest.RELEASE: config.version,
        manifest.COUNTER: str(config.counter),
        manifest.PROFILE: config.profile,
    }
    data = Manifest(described, tuple(layers), annotations).encode()
    blobs.add(data)
    return Artifact(config.profile, config, data)


def add_referrer(blobs: Blobs, subject: Descriptor, media_type: str, title: str, data: bytes) -> Descriptor:
    """Add a document about an artifact; returns its index entry."""
    empty = Descriptor(manifest.EMPTY_TYPE, blobs.add(manifest.EMPTY_BYTES), len(manifest.EMPTY_BYTES))
    layer = Descriptor(media_type, blobs.add(data), len(data), {manifest.TITLE: title})
    bare = Descriptor(subject.media_type, subject.digest, subject.size)
    encoded = Manifest(empty, (layer,), {manifest.TITLE: title}, media_type, bare).encode()
    return Descriptor(manifest.MANIFEST_TYPE, blobs.add(encoded), len(encoded), {manifest.TITLE: title}, media_type)


def add_candidates(blobs: Blobs, subject: Descriptor, candidates: list[Candidate]) -> Descriptor:
    """Add every candidate of an artifact, to be measured on the board; returns the index entry."""
    empty = Descriptor(manifest.EMPTY_TYPE, blobs.add(manifest.EMPTY_BYTES), len(manifest.EMPTY_BYTES))
    layers = tuple(
        Descriptor(
            CANDIDATES, blobs.add(item.data), len(item.data), {CANDIDATE: canonical.encode(item.words()).decode()}
        )
        for item in candidates
    )
    bare = Descriptor(subject.media_type, subject.digest, subject.size)
    named = {manifest.TITLE: "candidates"}
    encoded = Manifest(empty, layers, named, CANDIDATES, bare).encode()
    return Descriptor(manifest.MANIFEST_TYPE, blobs.add(encoded), len(encoded), named, CANDIDATES)


def write(folder: Path, index: manifest.Index, blobs: Blobs, beside: dict[str, bytes]) -> None:
    """Write a layout into an existing empty folder; `beside` are files for people, next to the layout's own."""
    (folder / manifest.BLOBS).mkdir(parents=True)
    for digest, data in sorted(blobs.data.items()):
        (folder / manifest.blob_path(digest)).write_bytes(data)
    files = {manifest.LAYOUT_FILE: manifest.LAYOUT_BYTES, manifest.INDEX_FILE: index.encode(), **beside}
    for name, data in files.items():
        (folder / name).write_bytes(data)

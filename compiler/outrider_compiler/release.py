"""A release directory, read back and verified.

release = Release.open(Path("release"))
release.verify()                      # raises LayoutError where a byte was changed
release.manifests                     # profile → manifest bytes
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from outrider_compiler.digests import digest_of_file
from outrider_compiler.errors import LayoutError
from outrider_protocol import canonical, ids, limits
from outrider_protocol.errors import ProtocolError
from outrider_protocol.manifest import BLOBS, INDEX_FILE, Config, Descriptor, Index, Manifest, blob_path

REPORT_JSON = "report.json"
REPORT_HTML = "report.html"
REPORT_BYTES: Final = 64 * limits.MIB  # a thousand classes on a dozen boards


@dataclass(frozen=True)
class Release:
    """An OCI image layout on disk."""

    directory: Path
    index: Index

    @classmethod
    def open(cls, directory: Path) -> Release:
        """Read the index; raises `LayoutError`."""
        try:
            return cls(directory, Index.decode((directory / INDEX_FILE).read_bytes()))
        except (OSError, ProtocolError) as error:
            raise LayoutError(
                f"{directory}: {error}", "Give a directory that `outrider-compiler build --out` made."
            ) from error

    @property
    def profiles(self) -> tuple[str, ...]:
        """Profiles that have an artifact."""
        return tuple(sorted(self.index.artifacts))

    def manifest_bytes(self, profile: str) -> bytes:
        """The verified bytes of one profile's manifest."""
        return self.blob(self.index.artifacts[profile].digest)

    def config(self, profile: str) -> Config:
        """The verified config of one profile."""
        return Config.decode(self.blob(Manifest.decode(self.manifest_bytes(profile)).config.digest))

    def blob(self, digest: str) -> bytes:
        """A blob whose digest was compared; raises `LayoutError`."""
        try:
            data = (self.directory / blob_path(digest)).read_bytes()
        except OSError as error:
            raise LayoutError(f"blob {digest}: {error.strerror}") from error
        if ids.digest_of(data) != digest:
            raise LayoutError(f"blob {digest} was changed: its bytes have the digest {ids.digest_of(data)}")
        return data

    def digests(self) -> tuple[str, ...]:
        """Every blob that the index reaches, manifests last."""
        named: list[str] = []
        manifests = [*self.index.artifacts.values(), *self.index.referrers]
        try:
            for descriptor in manifests:
                content = Manifest.decode(self.blob(descriptor.digest))
                named += [content.config.digest, *(layer.digest for layer in content.layers)]
        except ProtocolError as error:
            raise LayoutError(f"{self.directory}: {error}") from error
        return tuple(dict.fromkeys([*named, *(descriptor.digest for descriptor in manifests)]))

    def digests_listed(self) -> tuple[str, ...]:
        """`digests` without comparing: names of files that exist under `blobs/`, manifests of the index last."""
        last = [descriptor.digest for descriptor in (*self.index.artifacts.values(), *self.index.referrers)]
        found = [f"sha256:{path.name}" for path in sorted((self.directory / BLOBS).iterdir())]
        return tuple([digest for digest in found if digest not in last] + list(dict.fromkeys(last)))

    def layer_of(self, referrer: Descriptor) -> bytes:
        """The document of a referrer."""
        return self.blob(Manifest.decode(self.blob(referrer.digest)).layers[0].digest)

    def verify(self) -> None:
        """Compare every blob with its digest, and find blobs that nothing reaches; raises `LayoutError`."""
        reached = {self.directory / blob_path(digest) for digest in self.digests()}
        for path in sorted(reached):
            if not path.is_file():
                raise LayoutError(f"{path.name}: the blob is missing")
            if digest_of_file(path) != f"sha256:{path.name}":
                raise LayoutError(
                    f"blob sha256:{path.name} was changed: its bytes have the digest {digest_of_file(path)}"
                )
        for path in sorted((self.directory / BLOBS).iterdir()):
            if path not in reached:
                raise LayoutError(f"{path.name}: a blob that no manifest names")

    def report(self) -> dict[str, Any]:
        """report.json; raises `LayoutError`."""
        try:
            return canonical.decode((self.directory / REPORT_JSON).read_bytes(), REPORT_BYTES, REPORT_JSON)
        except (OSError, ProtocolError) as error:
            raise LayoutError(f"{self.directory}: {error}") from error

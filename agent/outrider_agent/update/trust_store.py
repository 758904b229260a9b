"""The device's trusted metadata: python-tuf decides, our durable store keeps.

1. python-tuf's updater runs in a scratch directory over bytes that were fetched before; it opens no connection.
2. What it verified is committed as one file, after success and after failure (a newer root or timestamp that was seen
   must not be forgotten).
3. `fleet/director.json` and `fleet/floors.json` are believed only when the top-level targets hash them.
4. When the offered metadata cannot be used, the last trusted set stands, if it has not expired.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from tuf.api.exceptions import (
    DownloadError,
    DownloadHTTPError,
    ExpiredMetadataError,
    LengthOrHashMismatchError,
    RepositoryError,
)
from tuf.api.metadata import Metadata, TargetFile, Timestamp
from tuf.ngclient import FetcherInterface, Updater, UpdaterConfig

from outrider_agent.durable import Durable
from outrider_agent.errors import StateError
from outrider_agent.update.errors import CannotRefreshError, TrustExpiredError, UntrustedMetadataError
from outrider_protocol import canonical, limits
from outrider_protocol.director import DIRECTOR_TARGET, FLOORS_TARGET, Director, Floors
from outrider_protocol.errors import MalformedError
from outrider_protocol.messages import TrustOnline
from outrider_protocol.trust import Target

FILE: Final = "trusted.json"
STORE_BYTES: Final = 16 * limits.MIB
_BASE: Final = "outrider:///"
_ROOTS: Final = "root_history"
_CONFIG: Final = UpdaterConfig(
    max_root_rotations=limits.ROOT_ROTATIONS,
    root_max_length=limits.ROOT_BYTES,
    timestamp_max_length=limits.TRUST_ONLINE_BYTES,
    snapshot_max_length=limits.TRUST_ONLINE_BYTES,
    targets_max_length=limits.ROLE_BYTES,
)


@dataclass(frozen=True)
class Bundle:
    """What the fleet server offers; nothing in it is trusted."""

    roots: dict[int, bytes]
    online: TrustOnline
    model: str
    role: bytes | None

    def files(self) -> dict[str, bytes]:
        """By the names under which the updater asks, and the two fleet files by their target paths."""
        named = {f"{number}.root.json": data for number, data in self.roots.items()}
        for name in ("timestamp", "snapshot", "targets"):
            named[f"{name}.json"] = getattr(self.online, name).encode()
        if self.role is not None:
            named[f"{self.model}.json"] = self.role
        return named | {name: text.encode() for name, text in self.online.files.items()}


@dataclass(frozen=True)
class Trusted:
    """What verified metadata says: who may order, the floors, the artifact (None where it is not listed)."""

    director: Director
    floors: Floors
    target: Target | None
    timestamp_expires_ms: int


class _Fetcher(FetcherInterface):
    def __init__(self, files: dict[str, bytes]) -> None:
        self._files = files

    def _fetch(self, url: str) -> Iterator[bytes]:
        data = self._files.get(url.removeprefix(_BASE))
        if data is None:
            raise DownloadHTTPError(f"{url} was not offered", 404)
        return iter((data,))


class TrustStore:
    """`var/trust/trusted.json` and the root of trust from enrolment."""

    def __init__(self, directory: Path, root: bytes, disk: Durable) -> None:
        self._path, self._root, self._disk = directory / FILE, root, disk

    def root_version(self) -> int:
        """The newest root that is trusted here."""
        numbers = [int(name.split("/")[1].split(".")[0]) for name in self._stored() if name.startswith(_ROOTS)]
        return max([*numbers, int(json.loads(self._root)["signed"]["version"])])

    def refresh(self, bundle: Bundle | None, target_path: str) -> Trusted:
        """Verify what was offered and look up one artifact; see rule 4 for `None` and for failures.

        Raises `CannotRefreshError`, `TrustExpiredError` or `UntrustedMetadataError`.
        """
        if bundle is None:
            return self._verify(self._offline(), target_path)
        try:
            return self._verify(bundle.files(), target_path)
        except (UntrustedMetadataError, CannotRefreshError) as error:
            try:
                return self._verify(self._offline(), target_path)
            except (UntrustedMetadataError, CannotRefreshError, TrustExpiredError):
                raise error from None

    def _offline(self) -> dict[str, bytes]:
        return {name: text.encode() for name, text in self._stored().items() if not name.startswith(_ROOTS)}

    def _verify(self, files: dict[str, bytes], target_path: str) -> Trusted:
        self._disk.make_directory(self._path.parent)
        with tempfile.TemporaryDirectory(dir=self._path.parent, prefix="scratch-") as name:
            scratch = Path(name)
            self._unpack(scratch)
            fleet: dict[str, str] = {}
            try:
                return self._run(scratch, files, target_path, fleet)
            except ExpiredMetadataError as error:
                raise TrustExpiredError(str(error)) from error
            except DownloadError as error:
                raise CannotRefreshError(str(error)) from error
            except (RepositoryError, MalformedError) as error:
                raise UntrustedMetadataError(str(error)) from error
            finally:
                self._commit(scratch, fleet)

    def _run(self, scratch: Path, files: dict[str, bytes], target_path: str, fleet: dict[str, str]) -> Trusted:
        updater = Updater(str(scratch), _BASE, fetcher=_Fetcher(files), config=_CONFIG, bootstrap=self._root)
        updater.refresh()
        for name in (DIRECTOR_TARGET, FLOORS_TARGET):
            fleet[name] = _checked(updater.get_targetinfo(name), files.get(name), name).decode()
        found = updater.get_targetinfo(target_path)
        expires = Metadata[Timestamp].from_bytes((scratch / "timestamp.json").read_bytes()).signed.expires
        return Trusted(
            Director.decode(fleet[DIRECTOR_TARGET].encode()),
            Floors.decode(fleet[FLOORS_TARGET].encode()),
            _target(found) if found else None,
            _ms(expires),
        )

    def _stored(self) -> dict[str, str]:
        try:
            value = canonical.decode(self._path.read_bytes(), STORE_BYTES, FILE)
        except FileNotFoundError:
            return {}
        except MalformedError as error:
            raise StateError(f"{self._path}: {error}") from error
        return {name: str(text) for name, text in value.items()}

    def _unpack(self, scratch: Path) -> None:
        (scratch / _ROOTS).mkdir()
        for name, text in self._stored().items():
            if "/" not in name or name.startswith(_ROOTS):
                (scratch / name).write_text(text, encoding="utf-8")

    def _commit(self, scratch: Path, fleet: dict[str, str]) -> None:
        stored = self._stored()
        merged = {**stored, **fleet}
        for path in [*scratch.glob("*.json"), *(scratch / _ROOTS).glob("*.json")]:
            if path.name != "root.json":
                merged[str(path.relative_to(scratch))] = path.read_text(encoding="utf-8")
        if merged != stored:
            self._disk.write(self._path, canonical.encode(merged))


def _checked(info: TargetFile | None, data: bytes | None, name: str) -> bytes:
    """[AGT-UPD-3] The fleet's own files: listed, of that length, with that hash."""
    if info is None:
        raise RepositoryError(f"the trusted targets do not list {name}")
    if data is None:
        raise DownloadHTTPError(f"{name} was not offered", 404)
    try:
        info.verify_length_and_hashes(data)
    except LengthOrHashMismatchError as error:
        raise RepositoryError(f"{name}: {error}") from error
    return data


def _target(info: TargetFile) -> Target:
    custom: Any = info.unrecognized_fields.get("custom")
    counter = custom.get("counter") if isinstance(custom, dict) else None
    sha256 = info.hashes.get("sha256")
    if not isinstance(counter, int) or isinstance(counter, bool) or sha256 is None:
        raise RepositoryError(f"{info.path}: no counter or no sha256")
    return Target(info.path, sha256, info.length, counter)


def _ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)

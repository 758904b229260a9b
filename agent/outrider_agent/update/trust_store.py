"""The device's trusted metadata: TUF's rules decide (`workflow`), our durable store keeps.

1. What was verified is committed as one file, after success and after failure.
2. `fleet/director.json` and `fleet/floors.json` are believed only when the top-level targets hash them.
3. When the offered metadata cannot be used, the last trusted set stands, if it has not expired; `Trusted.refused` says
   why.
4. Enrolment writes the first file. One that is missing, empty, cut, zeroed or changed later is never guessed at:
   `TrustDamagedError` stops updates, and nothing else.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from tuf.api.exceptions import LengthOrHashMismatchError
from tuf.api.metadata import TargetFile

from outrider_agent.durable import Durable
from outrider_agent.update import trust_file
from outrider_agent.update.bundle import Bundle
from outrider_agent.update.errors import (
    CannotRefreshError,
    TrustDamagedError,
    TrustExpiredError,
    UntrustedMetadataError,
)
from outrider_agent.update.trust_file import ROOT, Kept
from outrider_agent.update.workflow import Workflow, config
from outrider_protocol import documents, limits
from outrider_protocol.director import DIRECTOR_TARGET, FLOORS_TARGET, Director, Floors
from outrider_protocol.errors import ProtocolError
from outrider_protocol.trust import Target

_FLEET: Final = (DIRECTOR_TARGET, FLOORS_TARGET)
_CONFIG: Final = config(limits.TRUST_ONLINE_BYTES)


@dataclass(frozen=True)
class Trusted:
    """What verified metadata says: who may order, the floors, the artifact (None where it is not listed).

    `refused` is why what was offered was not taken, where the last trusted set stands instead.
    """

    director: Director
    floors: Floors
    target: Target | None
    trusted_until_ms: int
    refused: ProtocolError | CannotRefreshError | None = None


class _Kept:
    """What is trusted already, offered again: when nothing newer can be had."""

    def __init__(self, kept: Kept) -> None:
        self._kept = kept

    def stream(self, name: str) -> Iterator[bytes] | None:
        """See `workflow.Repository`; of roots there is none above the kept one."""
        is_root = documents.root_number(name) is not None
        return None if is_root or name not in self._kept else iter((self._kept[name],))

    def fleet_file(self, name: str) -> bytes | None:
        """See `Bundle`."""
        return self._kept.get(name)


class TrustStore:
    """`var/trust/trusted.json`."""

    def __init__(self, directory: Path, disk: Durable) -> None:
        self._directory, self._disk = directory, disk
        self._path = directory / trust_file.FILE

    def root_version(self) -> int:
        """The newest root that is trusted here; raises `TrustDamagedError`."""
        return int(json.loads(self._load()[ROOT])["signed"]["version"])

    def refresh(self, bundle: Bundle | None, target_path: str, now: datetime) -> Trusted:
        """Verify what is offered and look up one artifact; see rule 3 for None and for failures.

        Raises `CannotRefreshError`, `TrustExpiredError`, `UntrustedMetadataError`, `TrustDamagedError`, or the source's
        own error.
        """
        kept = self._load()
        if bundle is None:
            return self._verify(kept, _Kept(kept), target_path, now)
        try:
            return self._verify(kept, bundle, target_path, now)
        except (ProtocolError, CannotRefreshError) as error:
            return self._last(target_path, now, error)

    def _last(self, target_path: str, now: datetime, error: ProtocolError | CannotRefreshError) -> Trusted:
        kept = self._load()
        try:
            return replace(self._verify(kept, _Kept(kept), target_path, now), refused=error)
        except (ProtocolError, CannotRefreshError, TrustExpiredError):
            raise error from None

    def _load(self) -> Kept:
        self._disk.settle(self._path)
        return trust_file.load(self._path)

    def _verify(self, kept: Kept, offered: Bundle | _Kept, target_path: str, now: datetime) -> Trusted:
        fleet: Kept = {}
        with tempfile.TemporaryDirectory(dir=self._directory, prefix=trust_file.SCRATCH) as name:
            metadata = {name: data for name, data in kept.items() if name not in _FLEET}
            try:
                workflow = Workflow(Path(name), metadata, offered, now, _CONFIG)
            except UntrustedMetadataError as error:
                raise TrustDamagedError(f"{self._path}: {error}") from error
            try:
                with workflow:
                    return _trusted(workflow, offered, target_path, fleet)
            finally:
                self._commit(kept, {**kept, **workflow.kept, **fleet})

    def _commit(self, kept: Kept, now: Kept) -> None:
        if now != kept:
            self._disk.write(self._path, trust_file.encode(now))


def _trusted(workflow: Workflow, offered: Bundle | _Kept, target_path: str, fleet: Kept) -> Trusted:
    workflow.refresh()
    for name in _FLEET:
        fleet[name] = _checked(workflow.target(name), offered.fleet_file(name), name)
    found = workflow.target(target_path)
    return Trusted(
        Director.decode(fleet[DIRECTOR_TARGET]),
        Floors.decode(fleet[FLOORS_TARGET]),
        _target(found) if found else None,
        int(workflow.trusted_until.timestamp() * 1000),
    )


def _checked(info: TargetFile | None, data: bytes | None, name: str) -> bytes:
    """[AGT-UPD-3] The fleet's own files: listed, of that length, with that hash."""
    if info is None:
        raise UntrustedMetadataError(f"the trusted targets do not list {name}")
    if data is None:
        raise CannotRefreshError(f"{name} was not offered")
    try:
        info.verify_length_and_hashes(data)
    except LengthOrHashMismatchError as error:
        raise UntrustedMetadataError(f"{name}: {error}") from error
    return data


def _target(info: TargetFile) -> Target:
    custom: Any = info.unrecognized_fields.get("custom")
    counter = custom.get("counter") if isinstance(custom, dict) else None
    sha256 = info.hashes.get("sha256")
    if not isinstance(counter, int) or isinstance(counter, bool) or sha256 is None:
        raise UntrustedMetadataError(f"{info.path}: no counter or no sha256")
    return Target(info.path, sha256, info.length, counter)

"""`outrider-agent tuf-client`: the daemon's TUF code against any repository by HTTP, so that third parties can test it.

1. The rules, their limits and the fetching are those of the update process (`workflow`, `http_source`); only where
   verified metadata are kept differs: a file a role, unversioned (`timestamp.json`), so that a test suite can look.
2. Each file is replaced durably, roots first: whatever a power cut leaves is a state that TUF's rules start from.
3. A target is stored only when its length and hashes are those that were signed; one that is there already is not
   fetched again.

    tuf-client --metadata-dir D init ROOT_FILE
    tuf-client --metadata-dir D --metadata-url URL refresh
    tuf-client --metadata-dir D --metadata-url URL --target-name T --target-base-url B --target-dir X download
"""

from __future__ import annotations

import tempfile
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Final
from urllib.parse import quote

from tuf.api.exceptions import LengthOrHashMismatchError
from tuf.api.metadata import TargetFile

from outrider_agent.durable import Durable
from outrider_agent.errors import InputError
from outrider_agent.update.errors import CannotRefreshError, NoArtifactError, UntrustedMetadataError
from outrider_agent.update.http_source import HttpFiles, quoted
from outrider_agent.update.trust_file import ROOT, Kept
from outrider_agent.update.workflow import Workflow, config
from outrider_protocol import limits

ROLE_BYTES: Final = 5 * limits.MIB
ROOT_BYTES: Final = 512 * limits.KIB
_CONFIG: Final = config(ROLE_BYTES, ROOT_BYTES)
_HELP: Final = "See `outrider-agent tuf-client --help`."
_FIRST: Final = (ROOT, "timestamp.json", "snapshot.json", "targets.json")


def run(options: Namespace) -> None:
    """One step, as the command line gives it; raises an `AgentError` or `ProtocolError`."""
    directory = MetadataDirectory(options.metadata_dir, Durable())
    if options.step == "init":
        directory.begin(_root_of(options.root))
        return
    client = TufClient(directory, _given(options, "metadata_url"))
    if options.step == "refresh":
        client.refresh()
        return
    place = Path(_given(options, "target_dir"))
    names: list[str] = options.target_name or []
    if not names:
        raise InputError("download needs --target-name", _HELP)
    client.download(names, _given(options, "target_base_url"), place)


def utc_now() -> datetime:
    """This machine's time."""
    return datetime.now(timezone.utc)


def _root_of(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}", "Give the file of the root that you trust.") from error


def _given(options: Namespace, name: str) -> str:
    value = getattr(options, name)
    if not value:
        raise InputError(f"{options.step} needs --{name.replace('_', '-')}", _HELP)
    return str(value)


@dataclass(frozen=True)
class MetadataDirectory:
    """Verified metadata, a file a role."""

    path: Path
    disk: Durable

    def begin(self, root: bytes) -> None:
        """Trust this root; nothing is checked and nobody is asked."""
        self.disk.make_directory(self.path)
        self.disk.write(self.path / ROOT, root)

    def load(self) -> Kept:
        """What is kept; raises `InputError` before `init`."""
        kept = {path.name: path.read_bytes() for path in self.path.glob("*.json")}
        if ROOT not in kept:
            raise InputError(f"{self.path} holds no {ROOT}", "Begin with `tuf-client --metadata-dir D init ROOT_FILE`.")
        return kept

    def save(self, before: Kept, now: Kept) -> None:
        """Replace what changed, in the order in which trust was built."""
        for name in dict.fromkeys([*_FIRST, *sorted(now)]):
            if name in now and now[name] != before.get(name):
                self.disk.write(self.path / name, now[name])


class TufClient:
    """A client of the repository whose metadata lie below `url`."""

    def __init__(self, directory: MetadataDirectory, url: str) -> None:
        self._directory, self._files = directory, HttpFiles(url)

    def refresh(self) -> None:
        """Bring the top-level roles up to date; raises an `AgentError` or `ProtocolError`."""
        with self._workflow() as workflow:
            workflow.refresh()

    def download(self, names: Sequence[str], base_url: str, directory: Path) -> list[Path]:
        """Refresh, find targets, fetch and verify each; returns their files.

        Several names are looked up in one run. Raises an `AgentError` or `ProtocolError`.
        """
        with closing(HttpFiles(base_url)) as files, self._workflow() as workflow:
            workflow.refresh()
            return [self._one(workflow, name, files, directory) for name in names]

    def _one(self, workflow: Workflow, name: str, files: HttpFiles, directory: Path) -> Path:
        found = workflow.target(name)
        if found is None:
            raise NoArtifactError(f"no trusted role lists {name!r}")
        place = directory / quote(name, safe="")
        if not _is_there(place, found):
            data = _verified(found, files, _remote_path(found, consistent=workflow.root_is_consistent))
            self._directory.disk.make_directory(directory)
            self._directory.disk.write(place, data)
        return place

    @contextmanager
    def _workflow(self) -> Iterator[Workflow]:
        kept = self._directory.load()
        with tempfile.TemporaryDirectory(prefix="outrider-tuf-") as name:
            workflow = Workflow(Path(name), kept, self._files, utc_now(), _CONFIG)
            try:
                with workflow:
                    yield workflow
            finally:
                self._files.close()
                self._directory.save(kept, workflow.kept)


def _remote_path(info: TargetFile, *, consistent: bool) -> str:
    """Where the repository keeps a target: with its hash before the file's name where snapshots are consistent."""
    folder, slash, name = info.path.rpartition("/")
    return f"{folder}{slash}{next(iter(info.hashes.values()))}.{name}" if consistent else info.path


def _verified(info: TargetFile, files: HttpFiles, path: str) -> bytes:
    data = files.read(quoted(path), info.length)
    if data is None:
        raise CannotRefreshError(f"the repository has no {path}")
    try:
        info.verify_length_and_hashes(data)
    except LengthOrHashMismatchError as error:
        raise UntrustedMetadataError(f"{path}: {error}") from error
    return data


def _is_there(place: Path, info: TargetFile) -> bool:
    try:
        info.verify_length_and_hashes(place.read_bytes())
    except (OSError, LengthOrHashMismatchError):
        return False
    return True

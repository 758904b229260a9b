"""The client under test by its command line: in this process, and (soak) as a process of its own."""

from __future__ import annotations

import datetime as dt
import itertools
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tuf.api.metadata import Metadata

from outrider_agent import cli
from tests.conformance.tuf.repository import Repository, Server

_NUMBERS = itertools.count()


@dataclass
class Client:
    """`outrider-agent tuf-client` with its own directories; `now` is the time that it believes."""

    directory: Path
    url: str
    monkeypatch: pytest.MonkeyPatch
    as_process: bool = False
    now: dt.datetime | None = None

    @property
    def metadata(self) -> Path:
        return self.directory / "metadata"

    def init(self, root: bytes) -> int:
        (self.directory / "root.json").write_bytes(root)
        return self._run("init", str(self.directory / "root.json"))

    def refresh(self) -> int:
        return self._run("--metadata-url", f"{self.url}/metadata/", "refresh")

    def download(self, *names: str) -> int:
        chosen = [option for name in names for option in ("--target-name", name)]
        places = ("--target-base-url", f"{self.url}/targets/", "--target-dir", str(self.directory / "targets"))
        return self._run("--metadata-url", f"{self.url}/metadata/", *chosen, *places, "download")

    def trusted(self) -> dict[str, int]:
        """Role → version, by the unversioned files in the metadata directory."""
        files = sorted(self.metadata.glob("*.json"))
        return {path.stem: Metadata.from_bytes(path.read_bytes()).signed.version for path in files}

    def stored(self, role: str) -> bytes:
        return (self.metadata / f"{role}.json").read_bytes()

    def downloaded(self) -> set[bytes]:
        folder = self.directory / "targets"
        return {path.read_bytes() for path in folder.iterdir()} if folder.exists() else set()

    def _run(self, *arguments: str) -> int:
        given = ["tuf-client", "--metadata-dir", str(self.metadata), *arguments]
        if self.as_process:
            return self._process(given)
        with self.monkeypatch.context() as patch:
            if self.now is not None:
                patch.setattr("outrider_agent.update.tuf_client.utc_now", lambda: self.now)
            return cli.main(given)

    def _process(self, given: list[str]) -> int:
        command = [str(Path(sys.executable).with_name("outrider-agent")), *given]
        if self.now is not None:
            faketime = shutil.which("faketime")
            if faketime is None:
                pytest.skip("faketime is not installed")
            moment = self.now.astimezone().strftime("%Y-%m-%d %H:%M:%S")
            command = [faketime, moment, *command]
        return subprocess.run(command, check=False, timeout=60).returncode


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.close()


@pytest.fixture
def repository() -> Repository:
    return Repository()


@pytest.fixture(params=["inside", pytest.param("process", marks=pytest.mark.soak)])
def client(
    request: pytest.FixtureRequest,
    server: Server,
    repository: Repository,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Client:
    """A client that trusts version 1 of the repository's root."""
    name = f"r{next(_NUMBERS)}"
    server.repositories[name] = repository
    made = Client(tmp_path, f"{server.url}/{name}", monkeypatch, request.param == "process")
    assert made.init(repository.published["root"]) == 0
    assert repository.requests == []
    return made

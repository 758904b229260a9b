"""A recorded run of the demo, unpacked once; each test alters a copy of its own."""

from __future__ import annotations

import shutil
import tarfile
from pathlib import Path

import pytest

RECORDED = Path(__file__).parent / "recorded.tar.xz"


@pytest.fixture(scope="session")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The recording as it was made (`python -m examples.watch.record RUN tests/examples/recorded.tar.xz`)."""
    directory = tmp_path_factory.mktemp("recorded")
    with tarfile.open(RECORDED) as archive:
        archive.extraction_filter = getattr(tarfile, "data_filter", None)  # Debian 12's Python has none yet
        archive.extractall(directory)
    return directory


@pytest.fixture
def run(unpacked: Path, tmp_path: Path) -> Path:
    """A copy that a test may falsify."""
    return shutil.copytree(unpacked, tmp_path / "run")

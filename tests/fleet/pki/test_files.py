"""Files that hold keys."""

import os
from pathlib import Path

import pytest

from outrider_fleet.pki import files
from outrider_fleet.signing.ceremony import make_pipeline_key
from outrider_fleet.signing.offline import Offline


def test_private_from_the_first_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """PKI-9: a private file is 0600 before it has content, whatever the umask and the old file's mode."""
    path = tmp_path / "key"
    path.write_bytes(b"old")
    path.chmod(0o666)
    seen: list[int] = []
    real = os.fsync

    def watch(fd: int) -> None:
        seen.append(os.fstat(fd).st_mode & 0o777)
        real(fd)

    monkeypatch.setattr(os, "fsync", watch)
    mask = os.umask(0)
    try:
        files.write_private(path, b"secret")
    finally:
        os.umask(mask)
    assert seen[0] == 0o600
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.read_bytes() == b"secret"
    assert sorted(tmp_path.iterdir()) == [path]


def test_leftover_of_a_crash_is_no_obstacle(tmp_path: Path) -> None:
    """PKI-9: a half-written file of an earlier crash is replaced, never followed."""
    target = tmp_path / "precious"
    target.write_bytes(b"untouched")
    (tmp_path / f".key.{os.getpid()}.new").symlink_to(target)
    files.write_private(tmp_path / "key", b"secret")
    assert target.read_bytes() == b"untouched"
    assert (tmp_path / "key").read_bytes() == b"secret"


def test_a_directory_that_a_person_named_keeps_its_mode(tmp_path: Path) -> None:
    """PKI-9: keys may go into the working directory or onto a stick, which others use too; a new one is ours."""
    shared, new = tmp_path / "shared", tmp_path / "new"
    shared.mkdir(mode=0o755)
    shared.chmod(0o755)
    for place in (shared, new):
        make_pipeline_key(place / "pipeline.pem")
        Offline(place / "offline", encrypted=False).make(str(place / "root-1.pem"))
    assert shared.stat().st_mode & 0o777 == 0o755
    assert new.stat().st_mode & 0o777 == 0o700
    for key in (*shared.glob("*.pem"), *new.glob("*.pem")):
        assert key.stat().st_mode & 0o777 == 0o600

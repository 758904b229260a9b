"""Key files and TUF roles."""

import stat
from datetime import datetime, timezone
from pathlib import Path

import pytest
from tuf.api.metadata import Metadata, Targets

from outrider_protocol import signing

EXPIRES = datetime(2030, 1, 1, tzinfo=timezone.utc)


def test_key_file(tmp_path: Path) -> None:
    """PRO-SIG-1: a key file is private, encrypted on request, and never overwritten."""
    path, key = tmp_path / "k.pem", signing.generate()
    signing.save_private(key, path, b"secret")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert signing.public_bytes(signing.load_private(path, b"secret")) == signing.public_bytes(key)
    for wrong in (None, b"other"):
        with pytest.raises(signing.KeyFileError):
            signing.load_private(path, wrong)
    with pytest.raises(signing.KeyFileError):
        signing.save_private(key, path)


def test_a_key_that_cannot_be_read() -> None:
    """PRO-SIG-1: a file that is there and gives nothing is named like one that is not there."""
    for path in ("/proc/self/mem", "/nowhere/k.pem"):
        with pytest.raises(signing.KeyFileError, match=path):
            signing.open_signer(path, signing.Secrets())


def test_targets_grow(tmp_path: Path) -> None:
    """PRO-SIG-2: signing a role anew keeps what it listed and raises its version; `alone` drops what was listed."""
    key = signing.generate()
    first = signing.add_targets(None, [signing.artifact_target("har/1.0/x86-64", b"m1", 1)], EXPIRES, [key])
    second = signing.add_targets(first, [signing.artifact_target("har/1.1/x86-64", b"m2", 2)], EXPIRES, [key])
    role = Metadata[Targets].from_bytes(second).signed
    assert (role.version, sorted(role.targets)) == (2, ["har/1.0/x86-64", "har/1.1/x86-64"])
    assert role.targets["har/1.1/x86-64"].custom == {"counter": 2}
    third = signing.add_targets(
        second, [signing.artifact_target("har/1.2/x86-64", b"m3", 3)], EXPIRES, [key], alone=True
    )
    role = Metadata[Targets].from_bytes(third).signed
    assert (role.version, list(role.targets)) == (3, ["har/1.2/x86-64"])

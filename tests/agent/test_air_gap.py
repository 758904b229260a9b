"""Folders for devices without a network: the real update process, and whoever changes what is in the folder."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from outrider_agent.air_gap import NotImportedError
from outrider_agent.errors import AgentError, InputError
from outrider_agent.update.errors import NotInFolderError
from outrider_protocol import documents, ids, limits
from outrider_protocol.errors import TooLargeError
from tests.agent.carrier import Carrier


def test_a_folder_brings_a_release_to_the_disk(carrier: Carrier) -> None:
    """AIR-5: without a supervisor every step is taken up to the committed artifact; floors and reports are kept."""
    artifact = carrier.artifact("1.0")
    said, steps = carrier.bring(carrier.export("stick", artifact))
    assert said == "staged"
    assert steps == ["accepted", "downloading", "verifying", "staged", "validating", "validating", "staged"]
    state = carrier.state()
    assert state.execution is not None
    assert (state.execution.stage.value, state.floors.seq) == ("activating", 1)
    assert state.candidate is not None
    assert carrier.committed() == [ids.hex_of(artifact.digest)]
    assert not (carrier.paths.downloads / ids.hex_of(artifact.digest)).exists()


def test_the_next_folder_supersedes_the_last(carrier: Carrier) -> None:
    """AIR-5: an order that waits for the supervisor's start gives way to a newer one, as it would with a broker."""
    carrier.bring(carrier.export("one", carrier.artifact("1.0")))
    second = carrier.artifact("2.0", seed=1)
    assert carrier.bring(carrier.export("two", second))[0] == "staged"
    state = carrier.state()
    assert state.execution is not None
    assert state.execution.target.digest == second.digest
    assert state.floors.seq == 2


def test_an_older_folder_is_a_replay(carrier: Carrier) -> None:
    """AIR-6: floors count whatever the way that an order came on."""
    artifact = carrier.artifact("1.0")
    first = carrier.agent.order(artifact, 1)
    dates = {"iat_ms": first.iat_ms, "exp_ms": first.exp_ms}
    old, new = carrier.export("old", artifact, **dates), carrier.export("new", artifact, **dates)
    carrier.bring(new)
    with pytest.raises(NotImportedError, match="OrderSequenceError") as caught:
        carrier.bring(old)
    assert (caught.value.exit_status, bool(caught.value.hint)) == (3, True)


def flip(path: Path, at: int = -20) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def largest_blob(stick: Path) -> Path:
    return max((stick / "blobs/sha256").iterdir(), key=lambda path: path.stat().st_size)


def link_out(path: Path) -> None:
    target = path.with_name("elsewhere")
    path.rename(target)
    path.symlink_to(target)


def lengthen(path: Path, size: int) -> None:
    with path.open("ab") as file:
        file.truncate(size)


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


ROLE, ONLINE, ORDER = "trust/har.json", "trust/online.json", "orders/dev-1.json"
TAMPERED: dict[str, tuple[Callable[[Path], None], str, int]] = {
    "another role": (lambda s: flip(s / ROLE), "UntrustedMetadataError", 3),
    "another online document": (lambda s: flip(s / ONLINE, 400), "MalformedError|UntrustedMetadataError", 3),
    "an endless document": (lambda s: lengthen(s / ONLINE, limits.TRUST_ONLINE_BYTES * 2), "TooLargeError", 3),
    "an endless role": (lambda s: lengthen(s / ROLE, limits.ROLE_BYTES * 2), "TooLargeError", 3),
    "no role": (lambda s: (s / ROLE).unlink(), "CannotRefreshError", 4),
    "no online document": (lambda s: (s / ONLINE).unlink(), "CannotRefreshError", 4),
    "a pipe": (lambda s: pipe(s / ONLINE), "CannotRefreshError", 4),
    "a linked document": (lambda s: link_out(s / ONLINE), "CannotRefreshError", 4),
    "another signature": (lambda s: flip(s / ORDER), "SignatureError|MalformedError", 3),
    "a changed order": (lambda s: flip(s / ORDER, 60), "SignatureError|MalformedError", 3),
    "a changed blob": (lambda s: flip(largest_blob(s)), "DigestMismatchError", 3),
    "a short blob": (lambda s: lengthen(largest_blob(s), 10), "DigestMismatchError", 3),
    "no blob": (lambda s: largest_blob(s).unlink(), "StalledError", 4),
    "a linked blob": (lambda s: link_out(largest_blob(s)), "StalledError", 4),
}


@pytest.mark.parametrize("name", TAMPERED)
def test_a_tampered_folder_is_refused_by_name(carrier: Carrier, name: str) -> None:
    """AIR-6: each change has its named error and its exit status, and nothing is committed."""
    tamper, error, status = TAMPERED[name]
    stick = carrier.export("stick", carrier.artifact("1.0"))
    tamper(stick)
    with pytest.raises(NotImportedError) as caught:
        carrier.bring(stick)
    assert caught.value.error in error.split("|")
    assert (caught.value.exit_status, bool(caught.value.hint)) == (status, True)
    assert carrier.committed() == []


def test_a_changed_blob_ends_the_order_a_missing_one_does_not(carrier: Carrier) -> None:
    """AIR-6: wrong bytes reject an accepted order for good; missing ones wait for the whole folder."""
    artifact = carrier.artifact("1.0")
    stick = carrier.export("stick", artifact)
    shutil.copytree(stick, carrier.directory / "whole")
    largest_blob(stick).unlink()
    with pytest.raises(NotImportedError, match="StalledError"):
        carrier.bring(stick)
    assert carrier.bring(carrier.directory / "whole")[0] == "staged"

    second = carrier.export("second", carrier.artifact("2.0", seed=2))
    flip(largest_blob(second))
    for error in ("DigestMismatchError", "OrderEndedError"):
        with pytest.raises(NotImportedError, match=error):
            carrier.bring(second)
    assert carrier.committed() == [ids.hex_of(artifact.digest)]


def test_orders_for_others(carrier: Carrier) -> None:
    """AIR-6: a folder without an order for this device says for whom it is; another's order is refused."""
    stick = carrier.export("stick", carrier.artifact("1.0"))
    (stick / ORDER).rename(stick / "orders/dev-2.json")
    with pytest.raises(NotInFolderError, match="of fleet test, for dev-1") as caught:
        carrier.bring(stick)
    assert caught.value.exit_status == 2
    (stick / documents.FOLDER_FILE).unlink()
    with pytest.raises(NotInFolderError, match=r"no outrider-air-gap\.json"):
        carrier.bring(stick)
    (stick / ORDER).write_bytes(bytes(limits.ORDER_BYTES + 1))
    with pytest.raises(TooLargeError):
        carrier.bring(stick)
    with pytest.raises(InputError) as missing:
        carrier.bring(carrier.directory / "nothing")
    assert missing.value.hint


def test_a_device_that_lost_its_state_takes_nothing_in(carrier: Carrier) -> None:
    """AIR-6: neither without update.json nor without the trust file; each says which."""
    stick = carrier.export("stick", carrier.artifact("1.0"))
    trusted, update = carrier.paths.trust / "trusted.json", carrier.paths.update
    for path, error in ((trusted, "TrustDamagedError"), (update, "StateError")):
        kept = path.read_bytes()
        path.write_bytes(b"")
        with pytest.raises(AgentError, match=error):
            carrier.bring(stick)
        path.write_bytes(kept)
    assert carrier.bring(stick)[0] == "staged"


def test_what_was_revoked_in_the_meantime(carrier: Carrier) -> None:
    """AIR-6: a folder made before a floor was raised is refused once a newer folder brought the floor."""
    artifact = carrier.artifact("1.0")
    old = carrier.export("old", artifact)
    carrier.trust.min_counter = {"har": 2}
    with pytest.raises(NotImportedError, match="BelowFloorError"):
        carrier.bring(carrier.export("new", artifact))
    with pytest.raises(NotImportedError, match="BelowFloorError"):
        carrier.bring(old)

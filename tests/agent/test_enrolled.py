"""What enrolment leaves on the disk, and what enrolling again keeps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from outrider_agent import enrolled
from outrider_agent.durable import Durable
from outrider_agent.paths import Paths
from outrider_agent.supervisor.state import StateFile
from outrider_agent.update import identity, trust_file
from outrider_protocol.trust import Floors, Identity

ROOT, OTHER_ROOT = b'{"signed":{"version":1}}', b'{"signed":{"version":5}}'
FLOORS = Floors(2, 8, 5, "aa")


def files(key: str = "k1", fleet: str = "ours", root: bytes = ROOT) -> dict[str, bytes]:
    return {
        "device.key": key.encode(),
        "device.pem": b"certificate of " + key.encode(),
        "ca.pem": b"ca",
        identity.ROOT: root,
        identity.FILE: identity.encode(Identity("dev-1", "0" * 64, fleet, "x86-64")),
        enrolled.CONFIG: b"# written by enrolment",
    }


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    """A device that is enrolled and has accepted orders."""
    found = Paths.under(tmp_path)
    enrolled.commit(found, Durable(), files())
    state = StateFile(found.update, Durable())
    state.save(replace(state.load(), floors=FLOORS))
    kept = trust_file.load(found.trust / trust_file.FILE)
    Durable().write(found.trust / trust_file.FILE, trust_file.encode({**kept, "timestamp.json": b"{}"}))
    return found


def remembered(paths: Paths) -> tuple[Floors, bool]:
    """The order's floors, and whether metadata below the root are kept."""
    kept = trust_file.load(paths.trust / trust_file.FILE)
    return StateFile(paths.update, Durable()).load().floors, "timestamp.json" in kept


def test_enrolment_begins_trust_and_state(tmp_path: Path) -> None:
    """AGT-CUT-7: with the identity come a trust file that holds the root, and an empty state."""
    paths = Paths.under(tmp_path)
    enrolled.commit(paths, Durable(), files())
    assert trust_file.load(paths.trust / trust_file.FILE) == {trust_file.ROOT: ROOT}
    assert StateFile(paths.update, Durable()).load().floors == Floors()
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in paths.identity.iterdir())
    assert paths.identity.stat().st_mode & 0o777 == 0o700
    assert paths.config.read_bytes() == b"# written by enrolment"


def test_enrolling_again_in_the_same_fleet_keeps_what_was_trusted(paths: Paths) -> None:
    """AGT-CUT-7: another key, the same floors; agent.toml as a person left it."""
    paths.config.write_text("# changed by a person")
    enrolled.commit(paths, Durable(), files(key="k2"))
    assert (paths.identity / "device.key").read_bytes() == b"k2"
    assert remembered(paths) == (FLOORS, True)
    assert paths.config.read_text() == "# changed by a person"


@pytest.mark.parametrize("changed", [{"fleet": "theirs"}, {"root": OTHER_ROOT}])
def test_another_fleet_begins_anew(paths: Paths, changed: dict[str, str]) -> None:
    """AGT-CUT-7: the floors of one fleet mean nothing in another."""
    enrolled.commit(paths, Durable(), files(**changed))  # type: ignore[arg-type]  # fields of a test
    assert remembered(paths) == (Floors(), False)


LOST: dict[str, Callable[[Paths], object]] = {
    "the trust file is empty": lambda paths: (paths.trust / trust_file.FILE).write_bytes(b""),
    "the trust file is gone": lambda paths: (paths.trust / trust_file.FILE).unlink(),
    "update.json is zeroed": lambda paths: paths.update.write_bytes(bytes(100)),
    "the identity is damaged": lambda paths: (paths.identity / identity.FILE).write_bytes(b"{"),
}


@pytest.mark.parametrize("name", LOST)
def test_enrolling_again_is_the_cure_of_lost_state(paths: Paths, name: str) -> None:
    """AGT-CUT-7: what the hints of the errors promise: with the root given anew, trust and state begin again."""
    LOST[name](paths)
    enrolled.commit(paths, Durable(), files())
    assert remembered(paths) == (Floors(), False)


def test_finishing_nothing_changes_nothing(paths: Paths) -> None:
    """AGT-CUT-7: every start does it."""
    before = {path: path.read_bytes() for path in paths.var.rglob("*") if path.is_file()}
    enrolled.finish(paths, Durable())
    assert {path: path.read_bytes() for path in paths.var.rglob("*") if path.is_file()} == before

"""A device that was off for a year or two while the fleet's roots went on: it catches up, or says why it cannot.

Its state is made with a clock of that time; then the real update process runs with today's.
"""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import pytest
from tuf.api.metadata import Root

from outrider_agent.air_gap import NotImportedError
from outrider_agent.durable import Durable
from outrider_agent.update import trust_file
from outrider_agent.update.bundle import Bundle
from outrider_agent.update.trust_store import TrustStore
from outrider_protocol import documents, signing
from tests.agent.carrier import Carrier
from tests.agent.supervisor.house import Trust
from tests.agent.supervisor.world import World
from tests.agent.update.kit import Given

DAY_S = 86_400.0
ROTATIONS = 50


def rotate(trust: Trust) -> None:
    """All top-level keys anew; the new root is signed by the former root key and by its own."""
    former = trust.keys["root"]
    trust.keys |= {name: signing.generate() for name in ("root", "targets", "snapshot", "timestamp")}
    root = Root(version=len(trust.roots) + 1, expires=trust.expires, consistent_snapshot=False)
    for name in ("root", "targets", "snapshot", "timestamp"):
        root.add_key(signing.tuf_key(trust.keys[name]), name)
    trust.roots[root.version] = signing.sign_role(root, [former, trust.keys["root"]])


def fall_asleep(trust: Trust, directory: Path, months: int) -> None:
    """What the device last saw, so many months ago: everything below its root has expired long since."""
    then = dt.datetime.now(dt.timezone.utc) - dt.timedelta(days=30 * months)
    trust.expires_s = -30.0 * months * DAY_S + 7 * DAY_S
    trust.release("har/0.1/x86-64", b"manifest", 1)
    store = TrustStore(directory, Durable())
    assert store.refresh(Bundle(Given(trust.messages()), "har"), "har/0.1/x86-64", then).target is not None


def move_on(trust: Trust) -> None:
    """Fifty rotations: all roots but the last have expired by now."""
    trust.expires_s = -DAY_S
    for _ in range(ROTATIONS - 1):
        rotate(trust)
    trust.expires_s = 7 * DAY_S
    rotate(trust)


def root_version(directory: Path) -> int:
    return TrustStore(directory, Durable()).root_version()


def test_two_years_and_fifty_roots_by_the_broker(world: World) -> None:
    """AGT-TRF-5: with nobody at the device, an order of today succeeds after twenty-four months."""
    trusted = world.agent.home / "var" / "trust"
    fall_asleep(world.trust, trusted, months=24)
    assert root_version(trusted) == 1
    move_on(world.trust)
    world.agent.start()
    artifact = world.install("1.0")
    assert world.serving() == artifact.digest
    assert root_version(trusted) == ROTATIONS + 1
    kept = trust_file.load(trusted / trust_file.FILE)
    assert len([name for name in kept if name.endswith("root.json")]) == 1, "former roots do not pile up"


@pytest.mark.parametrize("months", [12, 24])
def test_and_by_a_folder(carrier: Carrier, months: int) -> None:
    """AGT-TRF-5: the same from a USB stick, without any network."""
    fall_asleep(carrier.trust, carrier.paths.trust, months)
    move_on(carrier.trust)
    said, _ = carrier.bring(carrier.export("stick", carrier.artifact("1.0")))
    assert said == "staged"
    assert root_version(carrier.paths.trust) == ROTATIONS + 1


BROKEN: dict[str, tuple[Any, str]] = {
    "a root is missing": (lambda stick: (stick / documents.trust_path("20.root.json")).unlink(), "RootMissingError"),
    "a root is another": (
        lambda stick: (stick / documents.trust_path("20.root.json")).write_bytes(Trust().roots[1]),
        "UntrustedMetadataError",
    ),
    "the fleet slept too": (None, "TrustExpiredError"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_why_it_cannot(carrier: Carrier, name: str) -> None:
    """AGT-TRF-5: one named error, with a hint; what was verified on the way is kept, and the whole chain then works."""
    fall_asleep(carrier.trust, carrier.paths.trust, months=24)
    move_on(carrier.trust)
    damage, error = BROKEN[name]
    if damage is None:
        carrier.trust.expires_s = -1
    artifact = carrier.artifact("1.0")
    stick = carrier.export("stick", artifact)
    if damage is not None:
        damage(stick)
    with pytest.raises(NotImportedError, match=error) as caught:
        carrier.bring(stick)
    assert caught.value.hint
    carrier.trust.expires_s = 7 * DAY_S
    assert carrier.bring(carrier.export("whole", artifact))[0] == "staged"

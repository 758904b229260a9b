"""A fleet after its first ceremonies, and its signer."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from outrider_fleet.signing import ceremony
from outrider_fleet.signing.offline import Offline
from outrider_fleet.signing.server import Signer
from tests.fleet.signing.fleet import Fleet


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    offline, home, key = Offline(tmp_path / "offline"), tmp_path / "home", tmp_path / "pipeline" / "har.pem"
    ceremony.init_trust(home, offline, fleet="test")
    ceremony.delegate(home, offline, "har", ceremony.make_pipeline_key(key))
    return Fleet(home, offline, key)


@pytest.fixture
def signer(fleet: Fleet) -> Iterator[Signer]:
    signer = Signer(fleet.home)
    yield signer
    signer.journal.close()

"""One besieged agent a module: attacks leave it as they found it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.agent.supervisor.house import Authority
from tests.attacks.siege import Siege, besieged


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca") / "ca")


@pytest.fixture(scope="module")
def siege(authority: Authority) -> Iterator[Siege]:
    with besieged(authority) as made:
        yield made

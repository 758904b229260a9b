"""One agent for all tests of a module that leave it as they found it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.agent.supervisor.house import Authority
from tests.agent.supervisor.world import World, new_world


@pytest.fixture(scope="module")
def settled(authority: Authority) -> Iterator[World]:
    """One for all tests that leave it as they found it: some release has succeeded and serves."""
    with new_world(authority) as made:
        made.agent.start()
        made.install("1.0")
        yield made

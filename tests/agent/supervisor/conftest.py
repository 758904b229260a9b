"""A broker a module, a trust and an agent a test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.agent.supervisor.house import Authority
from tests.agent.supervisor.world import World, new_world


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca") / "ca")


@pytest.fixture
def world(authority: Authority) -> Iterator[World]:
    """One for this test alone: it kills things."""
    with new_world(authority) as made:
        yield made


@pytest.fixture(scope="module")
def settled(authority: Authority) -> Iterator[World]:
    """One for all tests that leave it as they found it: some release has succeeded and serves."""
    with new_world(authority) as made:
        made.agent.start()
        made.install("1.0")
        yield made

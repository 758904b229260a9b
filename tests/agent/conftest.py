"""An authority a module; a broker, a trust and an agent, or a folder's carrier, a test."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.agent.carrier import Carrier
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


@pytest.fixture
def carrier(authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Carrier]:
    made = Carrier(tmp_path, authority)
    monkeypatch.setenv("OUTRIDER_HOME", str(made.agent.home))
    mask = os.umask(0o077)
    yield made
    os.umask(mask)

"""A device without a supervisor, and short waits."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.agent.update.kit import Device


@pytest.fixture
def device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Device:
    for name in ("broker_source.WAIT_S", "broker_source.ROOT_WAIT_S", "process.AGAIN_S"):
        monkeypatch.setattr(f"outrider_agent.update.{name}", 0.5)
    monkeypatch.setattr("outrider_agent.update.courier.Courier.fetch.__defaults__", (0.5, 32, 0.05))
    return Device(tmp_path)

"""What all tests share: quiet libraries, repeatable examples, no environment of the person who runs them."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings

from tests.protocol import softhsm as tokens

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # ONNX Runtime reads it when it is imported
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

# A deadline for one example would measure a slow, shared machine. In CI the examples are the same each time.
settings.register_profile("outrider", deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("outrider"), derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "outrider")


LONG = {"attacks", "e2e", "examples", "guards"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that take long come first: whoever runs several at a time is not left alone with one at the end."""
    items.sort(key=lambda item: LONG.isdisjoint(item.path.parts) and item.get_closest_marker("e2e") is None)


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever runs the tests may have an agent or a fleet of their own: its variables are taken away."""
    for name in [name for name in os.environ if name.startswith("OUTRIDER_")]:
        monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def softhsm(tmp_path_factory: pytest.TempPathFactory) -> tokens.SoftHsm:
    """Tokens with a P-256 key each; skips where SoftHSM or its Python binding is missing."""
    return tokens.make(tmp_path_factory.mktemp("softhsm"))

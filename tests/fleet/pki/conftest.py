"""An authority, and requests of devices."""

from pathlib import Path

import pytest

from outrider_fleet.pki.ca import CertificateAuthority


@pytest.fixture
def ca(tmp_path: Path) -> CertificateAuthority:
    return CertificateAuthority.create(tmp_path / "ca", fleet="test")

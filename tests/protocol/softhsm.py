"""SoftHSM tokens for tests, one a name, each with one P-256 key of the same name.

1. The library is set up once a process: every token exists before the first is used.
2. Where SoftHSM or python-pkcs11 is missing, tests skip with one line that says which.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from outrider_protocol import signing

MODULES = ("/usr/lib/softhsm/libsofthsm2.so", "/usr/lib64/softhsm/libsofthsm2.so", "/usr/lib64/pkcs11/libsofthsm2.so")
TOKENS = ("root-1", "root-2", "root-3", "targets", "pipeline")
PIN = "4711"


@dataclass(frozen=True)
class SoftHsm:
    """Where the tokens are and how to reach them."""

    module: str
    directory: Path

    def uri(self, token: str, *, pin: bool = True) -> str:
        """The address of a token's key; with `pin`, its PIN is in a file."""
        source = f"&pin-source=file:{self.directory / 'pin'}" if pin else ""
        return f"pkcs11:token={token};object={token}?module-path={self.module}{source}"


def missing() -> str | None:
    """Why there are no tokens here, or None."""
    if not any(Path(module).exists() for module in MODULES) or shutil.which("softhsm2-util") is None:
        return "PKCS#11 is not tested: SoftHSM is not installed (Debian: softhsm2)"
    if importlib.util.find_spec("pkcs11") is None:
        return "PKCS#11 is not tested: python-pkcs11 is not installed (extra pkcs11)"
    return None


def make(directory: Path) -> SoftHsm:
    """Make the tokens; from now on this process and its children use them."""
    why = missing()
    if why is not None:
        pytest.skip(why)
    (directory / "tokens").mkdir()
    (directory / "pin").write_text(PIN)
    (directory / "softhsm2.conf").write_text(f"directories.tokendir = {directory / 'tokens'}\nlog.level = ERROR\n")
    os.environ["SOFTHSM2_CONF"] = str(directory / "softhsm2.conf")
    for token in TOKENS:
        path = directory / f"{token}.pem"
        signing.save_private(ec.generate_private_key(ec.SECP256R1()), path)
        tool("--init-token", "--free", "--label", token, "--so-pin", "00000000", "--pin", PIN)
        tool("--import", str(path), "--token", token, "--label", token, "--id", "01", "--pin", PIN)
        path.unlink()
    return SoftHsm(next(module for module in MODULES if Path(module).exists()), directory)


def tool(*arguments: str) -> None:
    done = subprocess.run(["softhsm2-util", *arguments], capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 0, done.stderr

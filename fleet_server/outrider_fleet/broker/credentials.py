"""The broker's secrets, made once and kept owner-only.

1. Random; written 0600; a broker that restarts finds the same ones.
"""

import json
import secrets
from dataclasses import asdict
from pathlib import Path

import nkeys

from outrider_fleet.broker.settings import Credentials
from outrider_fleet.pki.files import write_private


def load_or_create(path: Path) -> Credentials:
    """Read the secrets at `path`, or make them."""
    if path.exists():
        return Credentials(**json.loads(path.read_text()))
    seed = nkeys.encode_seed(secrets.token_bytes(32), nkeys.PREFIX_BYTE_ACCOUNT)
    made = Credentials(
        sys_password=secrets.token_urlsafe(32),
        auth_password=secrets.token_urlsafe(32),
        issuer_seed=seed.decode(),
        issuer_public=nkeys.from_seed(bytearray(seed)).public_key.decode(),
    )
    write_private(path, json.dumps(asdict(made)).encode())
    return made

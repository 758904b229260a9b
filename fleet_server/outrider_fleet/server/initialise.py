"""Making a home: authority, trust, database, configuration, the first tokens.

1. Only an empty or absent directory becomes a home; nothing half-made is left behind as one (fleet.toml comes last).
2. Offline keys go to the directory that the operator names, and nowhere else.
"""

import json
import os
import pwd
import secrets
import time
from itertools import count
from pathlib import Path
from typing import Any

from outrider_fleet.app import tokens
from outrider_fleet.app.fleet import Fleet
from outrider_fleet.config import FleetConfig, Home, SigningConfig
from outrider_fleet.errors import ConfigError
from outrider_fleet.pki.ca import CertificateAuthority
from outrider_fleet.pki.files import private_directory, write_private, write_public
from outrider_fleet.signing.ceremony import init_trust
from outrider_fleet.signing.client import SignerClient
from outrider_fleet.signing.offline import Offline
from outrider_fleet.signing.repository import TrustRepository
from outrider_fleet.signing.server import socket_path
from outrider_fleet.store import counters
from outrider_fleet.store.database import Database, open_database

CONFIG = """# Outrider fleet server; docs/guides/operator.md explains every key.
name = {name}

[api]
host = "127.0.0.1"
port = 8080

[broker]
host = "127.0.0.1"
port = 0
"""
SIGNING = """
[signing]
home = {home}
"""
SEQUENCES_A_START = 1_000_000


def initialise(directory: Path, fleet: str, offline: Offline, signer_home: Path | None = None) -> dict[str, Any]:
    """Make a home; returns where everything is. Raises `ConfigError` where something is in the way.

    With `signer_home` its trust is that home's, where `trust init` made it.
    """
    home, secret = Home(directory, signer_home), offline.secret_for(Path("root.key"))
    if signer_home is not None:
        fleet = TrustRepository(home.trust).director().fleet
    if directory.exists() and any(directory.iterdir()):
        unfinished = home.ca.exists() and not home.config.exists()
        said = ": an `init` that did not end left it. Remove it and the keys that it made" if unfinished else ""
        raise ConfigError(f"{directory} is not empty{said}")
    private_directory(directory)
    for part in (home.blobs, home.snapshots, home.run, home.logs, directory / "keys"):
        private_directory(part)
    authority = CertificateAuthority.create(home.ca, fleet=fleet, root_directory=offline.directory, passphrase=secret)
    if signer_home is None:
        init_trust(directory, offline, fleet=fleet)
    config = FleetConfig(name=fleet, signing=SigningConfig(str(signer_home) if signer_home else ""))
    database = open_database(home.url(config))
    with database.write() as connection:
        counters.set_setting(connection, "fleet", fleet)
    _make_tokens(compose(home, config, database, authority))
    database.close()
    signing = SIGNING.format(home=json.dumps(str(signer_home))) if signer_home else ""
    write_public(home.config, (CONFIG.format(name=json.dumps(fleet)) + signing).encode())
    return {
        "home": str(directory),
        "fleet": fleet,
        "root_of_trust": str(home.trust / "root.json"),
        "offline_keys": str(offline.directory),
        "operator_token": str(home.operator_token),
        "authority": authority.fingerprint,
    }


def _make_tokens(fleet: Fleet) -> None:
    for kind, path in (("operator", fleet.home.operator_token), ("runner", fleet.home.runner_token)):
        write_private(path, tokens.create(fleet, kind, "local", actor=cli_user()).encode())


def cli_user() -> str:
    """How the audit log names whoever runs a command on the server's machine."""
    uid = os.getuid()
    try:
        return f"cli:{pwd.getpwuid(uid).pw_name}"
    except KeyError:
        return f"cli:{uid}"


def compose(home: Home, config: FleetConfig, database: Database, authority: CertificateAuthority) -> Fleet:
    """The fleet of a home, its order sequences above those of every earlier start."""
    with database.write() as connection:
        starts = counters.draw(connection, "server_starts")
    return Fleet(
        home=home,
        config=config,
        database=database,
        signer=SignerClient(socket_path(home.signer)),
        authority=authority,
        clock_ms=lambda: time.time_ns() // 1_000_000,
        random_hex=secrets.token_hex,
        sequences=count(starts * SEQUENCES_A_START + 1),
        broker_address=lambda: (config.broker.advertise_host, config.broker.port),
    )

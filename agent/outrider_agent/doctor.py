"""`outrider-agent doctor`: checks what an agent needs, and says what to do about each thing that is missing.

1. It changes nothing and sends nothing but a TLS greeting to the broker.
2. Each check is a name and a function that returns what it found or raises an `AgentError`.
"""

from __future__ import annotations

import shutil
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from outrider_agent.config import Config, load
from outrider_agent.errors import AgentError, NotEnrolledError, UnreachableError
from outrider_agent.paths import Paths
from outrider_agent.supervisor.broker_link import Credentials
from outrider_agent.tls import CertificateTimeError
from outrider_agent.update import identity, trust_file

CONNECT_S: Final = 5.0
SPARE_BYTES: Final = 256 * 1024 * 1024


@dataclass(frozen=True)
class Finding:
    """One check: its name, whether it passed, what was found, what to do."""

    name: str
    ok: bool
    found: str
    hint: str = ""


def examine(paths: Paths) -> list[Finding]:
    """Run every check; those that need the configuration are left out without it."""
    findings = [_run("configuration", lambda: _config_found(paths)), _run("identity", lambda: _identity(paths))]
    findings += [_run("disk", lambda: _disk(paths)), _run("update.json", lambda: _update(paths))]
    findings.append(_run("trust", lambda: _trust(paths)))
    if findings[0].ok:
        config = load(paths.config)
        findings.append(_run("broker", lambda: _broker(paths, config)))
    return findings


def _run(name: str, check: Callable[[], str]) -> Finding:
    try:
        return Finding(name, True, check())
    except AgentError as error:
        return Finding(name, False, str(error), error.hint)


def _config_found(paths: Paths) -> str:
    config = load(paths.config)
    return f"{paths.config} ({config.device.id}, {config.device.profile})"


def _identity(paths: Paths) -> str:
    found = identity.load(paths.identity)
    for name in ("device.key", "device.pem", "ca.pem", identity.ROOT):
        if not (paths.identity / name).exists():
            raise NotEnrolledError(f"{paths.identity / name}: no such file")
    if (paths.identity / "device.key").stat().st_mode & 0o077:
        raise NotEnrolledError("device.key: others may read it", "chmod 600 it; if it was read, enrol again.")
    return f"{found.device} of fleet {found.fleet}"


def _disk(paths: Paths) -> str:
    there = next(path for path in (paths.var, *paths.var.parents) if path.exists())
    free = shutil.disk_usage(there).free
    if free < SPARE_BYTES:
        raise AgentError(f"{free // 2**20} MiB are free under {paths.var}", "Free space: artifacts are kept twice.")
    return f"{free // 2**20} MiB free under {paths.var}"


def _update(paths: Paths) -> str:
    from outrider_agent.durable import Durable
    from outrider_agent.supervisor.state import StateFile

    state = StateFile(paths.update, Durable()).load()
    return f"runs {state.current.model} {state.current.release}" if state.current else "no release has succeeded yet"


def _trust(paths: Paths) -> str:
    kept = trust_file.load(paths.trust / trust_file.FILE)
    return f"trusts a root and {len(kept) - 1} files below it"


def _broker(paths: Paths, config: Config) -> str:
    address = (config.broker.host, config.broker.port)
    try:
        context = Credentials.under(paths.identity).context()
        plain = socket.create_connection(address, CONNECT_S)
        with plain, context.wrap_socket(plain, server_hostname=config.broker.host) as secured:
            return f"{config.broker.host}:{config.broker.port} answers with {secured.version()}"
    except CertificateTimeError as error:
        raise UnreachableError(f"{address[0]}:{address[1]}: {error}", error.hint) from error
    except ssl.SSLError as error:
        raise UnreachableError(
            f"{address[0]}:{address[1]}: {error}", "Enrol again: the certificates differ."
        ) from error
    except OSError as error:
        raise UnreachableError(f"{address[0]}:{address[1]}: {error}") from error

"""`outrider-agent status`: asks the running supervisor and prints what it says."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any, Final

from outrider_agent.errors import UnreachableError

TIMEOUT_S: Final = 5.0
ANSWER_BYTES: Final = 1024 * 1024


def ask(path: Path, timeout_s: float = TIMEOUT_S) -> dict[str, Any]:
    """The supervisor's status; raises `UnreachableError` when no agent runs here."""
    data = bytearray()
    try:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(timeout_s)
            sock.connect(str(path))
            while len(data) < ANSWER_BYTES and (part := sock.recv(65536)):
                data += part
        value = json.loads(data)
    except (OSError, ValueError) as error:
        hint = "Start it with `outrider-agent run`, or point OUTRIDER_HOME at its directory."
        raise UnreachableError(f"{path}: no agent answers ({error})", hint) from error
    return dict(value)


def text(status: dict[str, Any]) -> str:
    """The same for a person, one fact a line."""
    rows = {
        "device": f"{status['device']} ({status['profile']})",
        "broker": "connected" if status["connected"] else "no connection",
        "runs": _runs(status),
        "attested": _attested(status["attest"]),
        "drift": status["phase"],
        "execution": _execution(status["update"]["execution"]),
        "waiting": ", ".join(f"{n} {stream}" for stream, n in status["outbox"].items()),
    }
    return "\n".join(f"{name:<10} {value}" for name, value in rows.items())


def _runs(status: dict[str, Any]) -> str:
    return f"{status['model']} {status['version']} ({status['digest'][:19]}…)" if status["model"] else "nothing"


def _attested(attest: dict[str, Any] | None) -> str:
    return f"process {attest['pid']}, {attest['answered']} inferences" if attest else "nothing"


def _execution(execution: dict[str, Any] | None) -> str:
    if execution is None:
        return "none"
    target, error = execution["target"], execution["detail"].get("error", "")
    ended = (
        f"{target['model']} {target['release']}: {execution['stage']} (order {execution['epoch']}/{execution['seq']})"
    )
    return f"{ended}, {error}" if error else ended

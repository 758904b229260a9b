"""`outrider-agent import DIR`: brings an order and its release from a folder, through the supervisor or without one.

1. The folder is trusted with nothing: the order in it passes every check that one from the broker passes.
2. Where an agent runs, it is handed the order and works on it; else this process does what the agent would do.
3. When the command says `staged`, every byte is on this device: the folder may be taken away.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from outrider_agent import config
from outrider_agent.errors import AgentError, InputError, UnreachableError
from outrider_agent.paths import Paths
from outrider_agent.supervisor import importer
from outrider_agent.update import identity
from outrider_agent.update.folder_source import FolderSource
from outrider_protocol.execution import State

NEWS_S: Final = 900.0
_STATUS: Final = {State.REJECTED.value: 3, State.NO_ARTIFACT.value: 3, None: 4}
_ENDED_BADLY: Final = frozenset(
    state.value
    for state in (
        State.REJECTED,
        State.NO_ARTIFACT,
        State.FAILED_UNCHANGED,
        State.ROLLED_BACK,
        State.ROLLBACK_FAILED,
        State.SUPERSEDED,
    )
)
_AGAIN: Final = {
    "state": State.REJECTED.value,
    "hint": "Roll the release out to this device again, and export that order.",
}
Told = Callable[[dict[str, Any]], None]


class NotImportedError(AgentError):
    """The order in the folder was not taken: the message names the rule that failed."""

    def __init__(self, news: dict[str, Any]) -> None:
        super().__init__(f"{news['error']}: {news['message']}", str(news.get("hint") or ""))
        self.error = str(news["error"])
        self.exit_status = _STATUS.get(news.get("state"), AgentError.exit_status)


def bring(paths: Paths, folder: Path, told: Told) -> str:
    """Take in the order for this device; returns what became of it. Raises `NotImportedError` or an `AgentError`."""
    device = identity.load(paths.identity).device
    if not folder.is_dir():
        raise InputError(f"{folder} is no directory", "Give the folder that `outrider-fleet export --air-gap` wrote.")
    place = str(folder.absolute())
    envelope = FolderSource(folder).order(device)
    try:
        last = _through_supervisor(paths.import_socket, envelope, place, told)
    except FileNotFoundError:
        last = importer.take_in(paths, config.load(paths.config), envelope, place, told)
    said = State.ALREADY_INSTALLED.value if last.get("state") == State.ALREADY_INSTALLED.value else str(last["said"])
    if said == "failed":
        raise NotImportedError(last)
    if said in _ENDED_BADLY:
        raise NotImportedError(
            {"error": "OrderEndedError", "message": f"this order ended here before: {said}", **_AGAIN}
        )
    return said


def _through_supervisor(path: Path, envelope: bytes, folder: str, told: Told) -> dict[str, Any]:
    """Hand it over and listen; raises `FileNotFoundError` where no supervisor listens."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(NEWS_S)
        try:
            sock.connect(str(path))
        except ConnectionRefusedError as error:
            raise FileNotFoundError(path) from error
        try:
            sock.sendall(json.dumps({"folder": folder, "envelope": envelope.decode()}).encode() + b"\n")
            for news in _lines(sock):
                told(news)
                if news.get("ended"):
                    return news
        except OSError as error:
            raise UnreachableError(f"{path}: {error}") from error
    hint = "The agent ended or dropped the request: see its log, and import again. What was verified stays."
    raise UnreachableError(f"{path}: no answer", hint)


def _lines(sock: socket.socket) -> Iterator[dict[str, Any]]:
    with sock.makefile("rb") as file:
        for line in file:
            yield dict(json.loads(line))

"""Cases on disk, so that a run that was cut short can go on (`--resume`): one JSON file a net and seed."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from examples.bench.digits.case import Case
from examples.bench.digits.compare import Found


def path_of(folder: Path, net: str, seed: int) -> Path:
    """Where a case lies."""
    return folder / f"{net}-{seed}.json"


def keep(folder: Path, found: Case) -> None:
    """Write a case."""
    folder.mkdir(parents=True, exist_ok=True)
    path_of(folder, found.net, found.seed).write_text(json.dumps(asdict(found), indent=1) + "\n", "utf-8")


def kept(folder: Path, net: str, seed: int) -> Case | None:
    """A case that was written, or None."""
    path = path_of(folder, net, seed)
    if not path.is_file():
        return None
    value: dict[str, Any] = json.loads(path.read_text("utf-8"))
    figures = {
        board: {tool: Found(**{**found, "speed_up": tuple(found["speed_up"])}) for tool, found in tools.items()}
        for board, tools in value["figures"].items()
    }
    return Case(**{**value, "figures": figures, "failed": tuple(value["failed"])})

"""The tools that the compiler is compared with: each a script, run in its environment on the same files."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

SCRIPTS: Final = Path(__file__).parent
FAILED_WORDS: Final = 300


class PeerFailedError(Exception):
    """The tool ended with something else than 0; the message holds its last words."""


@dataclass(frozen=True)
class Peer:
    """One row of the tables: which script, whose environment, which options."""

    title: str
    script: str
    suffix: str = ".onnx"
    options: tuple[str, ...] = ()


ONNX: Final = (
    Peer("ONNX Runtime `quantize_static`, defaults", "onnxruntime_static.py"),
    Peer("ONNX Runtime `quantize_static`, u8s8 per channel", "onnxruntime_static.py", options=("tuned",)),
    Peer("NNCF `quantize`", "nncf_quantize.py"),
)
LITERT: Final = (Peer("ai-edge-quantizer `static_wi8_ai8`", "edge_quantizer.py", ".tflite"),)


def run(peer: Peer, environment: Path, task: dict[str, Any]) -> str:
    """Run a tool on `task` ("model", "samples", "out", …); what it printed. Raises `PeerFailedError`."""
    python = Path(sys.executable) if peer.suffix == ".tflite" else environment / "bin" / "python"
    asked = {**task, **dict.fromkeys(peer.options, True)}
    command = [str(python), str(SCRIPTS / peer.script), json.dumps(asked)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0 or not Path(task["out"]).is_file():
        words = " ".join(done.stderr.split())[-FAILED_WORDS:]
        raise PeerFailedError(f"{peer.title}: exit status {done.returncode}: {words}")
    return done.stdout

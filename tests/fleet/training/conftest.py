"""A simulated fleet server, a training command and a stand-in for the compiler, both real processes."""

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from outrider_fleet.training import config
from outrider_fleet.training.api import Api
from outrider_fleet.training.runner import Runner
from tests.fleet.training.server import TOKEN, Run, Server, State

TRAIN = """
import json, os, sys
from pathlib import Path
arguments = dict(zip(sys.argv[1::2], sys.argv[2::2]))
out = Path(arguments["--out"])
print("epoch 1", flush=True)
(out / "seen.json").write_text(json.dumps({"argv": arguments, "env": sorted(os.environ), "cwd": os.getcwd(),
    "snapshot": Path(arguments["--snapshot"]).read_bytes().hex()}))
for name in ("model.onnx", "calibration.npz", "evaluation.npz"):
    (out / name).write_bytes(b"data")
(out / "training.json").write_text(json.dumps({"inputs": ["p1/r1", "p2/r1"], "figures": {"accuracy": 0.9}}))
"""

COMPILER = """
import json, os, sys
from pathlib import Path
command, rest = sys.argv[1], sys.argv[2:]
log = Path(__file__).with_name("compiler.jsonl")
with log.open("a") as file:
    seen = {name: os.environ.get(f"OUTRIDER_{name.upper()}") for name in ("token", "passphrase")}
    json.dump({"command": command, "argv": rest, **seen}, file)
    file.write("\\n")
options = dict(zip(rest[1::2], rest[2::2]))
if command == "build":
    Path(options["--out"]).mkdir()
if command == "sign":
    Path(options["--out"]).write_text("{}")
"""


@dataclass
class Place:
    """Where a runner works, and the server it works for."""

    directory: Path
    server: Server
    state: State

    def write_config(self, **changes: Any) -> None:
        """Write training.toml; values are TOML text."""
        lines = {
            "train": '["{python}", "train.py", "--snapshot", "{snapshot}", "--out", "{out}", "--seed", "{seed}",'
            ' "--base", "{base_version}"]',
            "key": '"har.pem"',
            "profiles": '["x86-64", "raspberry-pi-5"]',
            "seed": "7",
            **changes,
        }
        body = "\n".join(f"{name} = {value}" for name, value in lines.items())
        compiler = f'compiler = ["{{python}}", "{self.directory}/compiler.py"]'
        (self.directory / "training.toml").write_text(
            f"beat_s = 0.05\npoll_s = 0.05\n{compiler}\n[models.har]\n{body}\n"
        )

    def runner(self) -> Runner:
        api = Api(self.server.url, TOKEN)
        return Runner(api, config.read(self.directory / "training.toml"), self.directory / "home")

    def commands(self) -> list[dict[str, Any]]:
        """What the compiler was asked."""
        log = self.directory / "compiler.jsonl"
        return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    state = State(runs=[Run()])
    server = Server(state)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    (tmp_path / "train.py").write_text(TRAIN)
    (tmp_path / "compiler.py").write_text(COMPILER)
    place = Place(tmp_path, server, state)
    place.write_config()
    yield place
    server.shutdown()
    thread.join()
    server.server_close()

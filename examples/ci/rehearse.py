"""Two releases through `release.sh`, to a fleet server on this machine: `python -m examples.ci.rehearse FOLDER`.

1. The server is started on a free port of the loopback interface, and stopped whatever happens.
2. The first release has nothing to be compared with; the second is compared with it and signed into the same role.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from examples.ci import make_model

HERE = Path(__file__).parent
BIN = Path(sys.executable).parent
MODEL = "waves"
PROFILES = "x86-64 x86-64-vnni"
STARTING_S = 60


def program(name: str, *arguments: object) -> str:
    """Run one of Outrider's programs; returns what it says, raises `CalledProcessError`."""
    command = [str(BIN / name), *map(str, arguments)]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


@contextmanager
def fleet(folder: Path) -> Iterator[str]:
    """A running fleet server that takes releases of the model; yields its address."""
    home, key = folder / "fleet", folder / "pipeline.pem"
    program("outrider-fleet", "init", home, "--offline", folder / "offline", "--without-passphrase")
    program("outrider-fleet", "trust", "pipeline-key", key)
    offline = ("--offline", folder / "offline")
    program("outrider-fleet", "--home", home, "trust", "delegate", MODEL, "--key", f"{key}.pub", *offline)
    with (folder / "fleet.log").open("wb") as log:
        up = [str(BIN / "outrider-fleet"), "--home", str(home), "up", "--http-port", "0"]
        server = subprocess.Popen(up, stdout=log, stderr=log)
    try:
        yield address(home / "run/endpoints.json", server)
    finally:
        server.terminate()
        server.wait(STARTING_S)


def address(endpoints: Path, server: subprocess.Popen[bytes]) -> str:
    """Where a server listens, once it does; raises `TimeoutError`."""
    deadline = time.monotonic() + STARTING_S
    while not endpoints.exists():
        if server.poll() is not None or time.monotonic() > deadline:
            raise TimeoutError("the fleet server did not start: fleet.log says why")
        time.sleep(0.1)
    return str(json.loads(endpoints.read_text("utf-8"))["api"])


def release(folder: Path, counter: int, url: str, last: Path | None) -> Path:
    """Run the pipeline's step once; returns the release's folder, raises `CalledProcessError`."""
    data, out = folder / f"data-{counter}", folder / f"out-{counter}"
    make_model.write(data, seed=counter)
    token = program("outrider-fleet", "--home", folder / "fleet", "token", "create", "--kind", "pipeline")
    asked = {
        "NAME": MODEL, "VERSION": f"1.{counter}", "COUNTER": str(counter), "DATA": str(data), "PROFILES": PROFILES,
        "OUT": str(out), "PIPELINE_KEY": str(folder / "pipeline.pem"), "FLEET": url, "OUTRIDER_TOKEN": token,
        "LAST": str(last or ""),
    }  # fmt: skip
    environment = {**os.environ, **asked, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
    subprocess.run([str(HERE / "release.sh")], env=environment, check=True)
    return out / "release"


def rehearse(folder: Path) -> list[str]:
    """Both releases; returns the versions that the server lists afterwards."""
    with fleet(folder) as url:
        first = release(folder, 1, url, None)
        release(folder, 2, url, first)
        listed = json.loads(program("outrider-fleet", "--home", folder / "fleet", "release", "list", "--json"))
    return sorted(item["version"] for item in listed)


def main() -> None:
    """Rehearse in a new folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder.absolute()
    folder.mkdir(parents=True)
    print("the server lists", *rehearse(folder))


if __name__ == "__main__":
    main()

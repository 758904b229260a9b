"""Memory of one device's supervisor with its mutual-TLS connection: `python -m examples.bench.supervisor_rss`.

A fleet server is made and started with its embedded broker, one device is enrolled and its agent started, each by its
own command. When the agent says that it is connected, its supervisor's memory is read from
`/proc/<pid>/smaps_rollup`, at the start and again after it has been idle for `--idle` seconds. Beside it stand a bare
interpreter and one that has imported what the supervisor imports: what is left is the connection and our own state.
Bytecode is written before the first figure, as on any installed device: compiling at start leaves 1–2 MiB behind.
Everything is ended by its process id and removed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from outrider_agent import status
from outrider_agent.errors import UnreachableError

BIN = Path(sys.executable).parent
MIB = 1024.0
IMPORTS = "import ssl, sqlite3, paho.mqtt.client, outrider_agent.supervisor.process"
READY_S = 40.0
AIM = "≤ 30 MiB | ≤ 15 MiB"


def memory_mib(pid: int) -> tuple[float, float]:
    """Resident and private memory of a process, in MiB."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text("ascii")
    kib = {name: int(value) for name, value in re.findall(r"^(\w+): +(\d+) kB", text, re.MULTILINE)}
    return kib["Rss"] / MIB, (kib["Private_Clean"] + kib["Private_Dirty"]) / MIB


def bare_mib(code: str) -> tuple[float, float]:
    """The same of a fresh interpreter that ran `code` and waits."""
    program = f"{code}\nimport sys; print('ready', flush=True); sys.stdin.read()"
    arguments = [sys.executable, "-c", program]
    pipe = subprocess.PIPE
    with subprocess.Popen(arguments, stdin=pipe, stdout=pipe, env=environment(None)) as process:
        assert process.stdout is not None
        process.stdout.readline()
        return memory_mib(process.pid)


def run(program: str, *arguments: str, home: Path | None = None) -> str:
    """Run one of the project's commands to its end; its output."""
    command = [str(BIN / program), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, env=environment(home)).stdout.strip()


def environment(home: Path | None) -> dict[str, str]:
    """This process's environment, with the device's directory; bytecode may be written."""
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return inherited | ({"OUTRIDER_HOME": str(home)} if home else {})


@contextmanager
def started(program: str, *arguments: str, log: Path, home: Path | None = None) -> Iterator[int]:
    """A long-running command; its process id. It is ended on the way out."""
    with log.open("wb") as file:
        process = subprocess.Popen([str(BIN / program), *arguments], stdout=file, stderr=file, env=environment(home))
    try:
        yield process.pid
    finally:
        process.terminate()
        process.wait(30)


def wait_for(path: Path, log: Path) -> None:
    """Return when a file is there; raises `TimeoutError` with the end of the log."""
    deadline = time.monotonic() + READY_S
    while not path.exists():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{path.name} did not appear: {log.read_text('utf-8', 'replace')[-500:]}")
        time.sleep(0.05)


def wait_connected(home: Path, log: Path) -> None:
    """Return when the agent is connected to its broker; raises `TimeoutError` with the end of its log."""
    deadline = time.monotonic() + READY_S
    while not is_connected(home):
        if time.monotonic() > deadline:
            raise TimeoutError(f"no connection: {log.read_text('utf-8', 'replace')[-500:]}")
        time.sleep(0.05)


def is_connected(home: Path) -> bool:
    """Whether an agent runs there and has its connection."""
    try:
        return bool(status.ask(home / "run/supervisor.sock")["connected"])
    except UnreachableError:
        return False


def measured(directory: Path, idle_s: float) -> dict[str, tuple[float, float]]:
    """Resident and private MiB by row of the table."""
    bare_mib(f"import outrider_agent.cli\n{IMPORTS}")
    fleet, device, log = directory / "fleet", directory / "device", directory / "agent.log"
    run("outrider-fleet", "init", str(fleet), "--offline", str(directory / "offline"), "--without-passphrase")
    ports = ("--http-port", "0", "--mqtt-port", "0", "--no-runner")
    with started("outrider-fleet", "--home", str(fleet), "up", *ports, log=directory / "fleet.log"):
        wait_for(fleet / "run/endpoints.json", directory / "fleet.log")
        enrol(fleet, device)
        with started("outrider-agent", "run", log=log, home=device) as pid:
            wait_connected(device, log)
            first = memory_mib(pid)
            time.sleep(idle_s)
            later = memory_mib(pid)
    imports = bare_mib(IMPORTS)
    idle = f"supervisor, {idle_s:.0f} s later"
    return {"bare interpreter": bare_mib(""), "its imports": imports, "supervisor, connected": first, idle: later}


def enrol(fleet: Path, device: Path) -> None:
    """Enrol one device with the running server."""
    api = json.loads((fleet / "run/endpoints.json").read_text("utf-8"))["api"]
    token = run("outrider-fleet", "--home", str(fleet), "token", "create", "--kind", "device")
    root = str(fleet / "trust/root.json")
    join = ("enrol", "--server", api, "--token", token, "--device", "bench", "--profile", "x86-64")
    run("outrider-agent", *join, "--trust-root", root, home=device)


def main() -> None:
    """Measure, print the table as Markdown."""
    parser = argparse.ArgumentParser(description="Memory of the supervisor with its mutual-TLS connection.")
    parser.add_argument("--idle", type=float, default=10.0, metavar="SECONDS")
    idle_s: float = parser.parse_args().idle
    with tempfile.TemporaryDirectory(prefix="outrider-rss-") as directory:
        rows = measured(Path(directory), idle_s)
    lines = ["| process | resident | private |", "|---|---|---|"]
    lines += [f"| {name} | {rss:.1f} MiB | {private:.1f} MiB |" for name, (rss, private) in rows.items()]
    lines.append(f"| aim | {AIM} |")
    machine = f"Python {platform.python_version()}, {platform.system()} {platform.machine()}, {os.cpu_count()} CPUs."
    sys.stdout.write("\n".join([*lines, "", machine]) + "\n")


if __name__ == "__main__":
    main()

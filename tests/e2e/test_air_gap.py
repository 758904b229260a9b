"""A release and its order carried in a folder: exported by the server's command, taken in by the agent's."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import httpx
import pytest

from outrider_protocol import documents
from tests.e2e.harness import ONE_THREAD, Device, Fleet, command, eventually, run

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]


def bring(device: Device, folder: Path) -> subprocess.CompletedProcess[str]:
    """`outrider-agent import`."""
    return subprocess.run(
        command("outrider-agent", "import", str(folder)),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, **ONE_THREAD, **device.env},
    )


@pytest.fixture
def folder(tmp_path: Path, fleet: Fleet) -> tuple[Path, Device]:
    """An export for a device that is enrolled and was never started."""
    made = Device(tmp_path, fleet, "dev-1")
    fleet.rollout("1.0")
    eventually(lambda: fleet.ask("device", "show", "dev-1").get("executions"), "the rollout has ordered")
    run("outrider-fleet", "--home", str(fleet.home), "export", "--air-gap", str(tmp_path / "stick"))
    return tmp_path / "stick", made


def test_a_release_without_a_network(tmp_path: Path, fleet: Fleet, folder: tuple[Path, Device]) -> None:
    """AIR-3, AIR-4 and AIR-5: the same bytes by HTTP and in the folder; without and with a supervisor, to the end."""
    stick, device = folder
    api = fleet.endpoints["api"]
    for path in (stick / documents.TRUST).iterdir():
        assert httpx.get(f"{api}/api/v1/trust/{path.name}", trust_env=False).content == path.read_bytes()
    fleet.process.stop()  # from here on there is neither server nor broker

    done = bring(device, stick)
    assert done.returncode == 0, done.stderr
    assert "the folder may be removed" in done.stdout
    assert device.stage() == "activating"
    device.start()
    try:
        eventually(lambda: device.stage() == "probation", "on trial")
        device.feed(5)
        eventually(lambda: device.stage() == "succeeded", "succeeded without a network")
        again = bring(device, stick)  # now through the supervisor: it is done already
        assert (again.returncode, again.stdout.split()[0]) == (0, "succeeded"), again.stderr
    finally:
        device.process.stop()


def test_importing_while_the_agent_runs(fleet: Fleet, folder: tuple[Path, Device]) -> None:
    """AIR-5: the running supervisor takes the order; the command tells each step until the bytes are on the device."""
    stick, device = folder
    fleet.process.stop()
    device.start()
    try:
        eventually((device.home / "run/supervisor.import").exists, "the agent runs")
        done = bring(device, stick)
        assert done.returncode == 0, done.stderr
        assert done.stdout.split()[:2] == ["accepted", "downloading"]
        eventually(lambda: device.stage() == "probation", "on trial")
    finally:
        device.process.stop()


def test_an_import_that_is_killed_goes_on(fleet: Fleet, folder: tuple[Path, Device]) -> None:
    """AIR-7: kill -9 on the way; the next import, or the next start, ends it right."""
    stick, device = folder
    fleet.process.stop()
    process = subprocess.Popen(
        command("outrider-agent", "import", str(stick)),
        stdout=subprocess.PIPE,
        env={**os.environ, **ONE_THREAD, **device.env},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"accepted\n"
    process.kill()
    process.wait()
    process.stdout.close()
    assert device.update_state()["floors"]["seq"] > 0
    device.start()  # the supervisor finds the kept order and its folder
    try:
        eventually(lambda: device.stage() == "probation", f"on trial\n{device.process.tail()}")
    finally:
        device.process.stop()

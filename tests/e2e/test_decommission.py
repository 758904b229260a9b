"""The end of a device, with real processes. Rules: docs/spec/enrolment.md."""

from __future__ import annotations

import pytest

from outrider_fleet.broker.link import BrokerLink, ClientTls
from tests.database import rows
from tests.e2e.harness import Device, Fleet, eventually

pytestmark = pytest.mark.e2e


def test_a_device_is_decommissioned(fleet: Fleet, device: Device) -> None:
    """ERA-1, ERA-2 and ERA-6: one command; the agent ends with nothing left, the server forgets, the broker refuses."""
    fleet.rollout("1.0")
    eventually(lambda: device.stage() == "probation", "probation")
    device.feed(30)
    eventually(lambda: (device.update_state().get("current") or {}).get("release") == "1.0", "1.0 runs")
    identity = device.home / "var" / "identity"
    kept = {name: (identity / name).read_bytes() for name in ("device.pem", "device.key", "ca.pem")}
    assert fleet.ask("device", "decommission", device.name)["state"] == "decommissioning"
    popen = device.process.popen
    assert popen is not None
    eventually(lambda: popen.poll() is not None, "the agent ends")
    assert popen.returncode == 0
    assert [path.name for path in (device.home / "var").iterdir()] == ["agent.lock"]
    eventually(lambda: fleet.ask("device", "show", device.name)["state"] == "decommissioned", "the server is done")
    for table in ("predictions", "samples", "windows", "batches"):
        assert rows(fleet.home / "fleet.db", f"SELECT count(*) FROM {table}") == [(0,)]
    identity.mkdir(parents=True)
    for name, data in kept.items():  # a thief has a copy
        (identity / name).write_bytes(data)
    tls = ClientTls(*(identity / name for name in ("ca.pem", "device.pem", "device.key")))
    address = (fleet.endpoints["mqtt_host"], fleet.endpoints["mqtt_port"])
    thief = BrokerLink(address, tls, lambda *_: None, client_id=device.name)
    with pytest.raises(Exception, match="not connected"):
        thief.start(timeout_s=1)
    thief.stop()

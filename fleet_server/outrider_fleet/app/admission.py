"""Who may connect to the broker: asked at each connect, and when a device is revoked."""

from outrider_fleet.app.fleet import Fleet
from outrider_fleet.errors import ConflictError, UnknownError
from outrider_fleet.pki.revocation import Revoked, serial_of
from outrider_fleet.store import devices


def admit(fleet: Fleet, device: str) -> bool:
    """Whether a device may connect."""
    with fleet.look() as connection:
        return devices.connects(connection, device)


def key_of(fleet: Fleet, device: str) -> str | None:
    """The hash of the key that a device enrolled with last."""
    with fleet.look() as connection:
        return devices.current_key(connection, device)


def revoked(fleet: Fleet) -> list[Revoked]:
    """Certificates that have not ended and are no longer good: for brokers that ask nobody."""
    with fleet.look() as connection:
        found = devices.revoked_keys(connection, fleet.clock_ms())
    return [Revoked(serial_of(row["certificate_pem"]), row["revoked_ms"]) for row in found]


def revoke(fleet: Fleet, device: str, actor: str) -> None:
    """Refuse a device from now on; the caller ends its live session. Raises `UnknownError` or `ConflictError`."""
    with fleet.change() as change:
        row = devices.get(change.connection, device)
        if row is None:
            raise UnknownError(f"device {device}")
        if row["state"] in ("erasing", "decommissioned"):  # [ERA-5]
            raise ConflictError(f"{device} is {row['state']}: nobody is let in under this name")
        devices.update(change.connection, device, {"state": "revoked", "online": 0})
        devices.revoke_keys(change.connection, device, change.now_ms)
        change.audit(actor, "device.revoke", device)
        change.touch("devices")

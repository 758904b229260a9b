"""What a folder carries to devices without a network: trust documents, orders, and the names of the blobs they need.

1. It is what the broker would have given: the same documents, the same envelopes, the same blobs.
2. Only a device that is enrolled and has a live order is exported; an order that has expired while its execution waits
   is signed anew.
3. No key is in it, but the models are, in plain: who finds the folder may read them, and can change nothing unnoticed.
4. It is good until the first of its orders, or its timestamp, expires.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from outrider_fleet.app import orders
from outrider_fleet.app.fleet import Change, Fleet
from outrider_fleet.errors import ConflictError
from outrider_fleet.signing.repository import TrustRepository
from outrider_fleet.store import releases, rollouts
from outrider_fleet.store.sql import Row
from outrider_protocol import documents


@dataclass
class Export:
    """Documents by name, envelopes by device, sizes of blobs by digest."""

    fleet: str
    made_ms: int
    good_until_ms: int = 0
    documents: dict[str, str] = field(default_factory=dict)
    orders: dict[str, str] = field(default_factory=dict)
    blobs: dict[str, int] = field(default_factory=dict)
    releases: list[dict[str, Any]] = field(default_factory=list)


def export(fleet: Fleet, wanted: Sequence[str], actor: str) -> Export:
    """The content for these devices, or for every device with a live order; raises `ConflictError`."""
    found = Export(fleet.config.name, fleet.clock_ms())
    with fleet.change() as change:
        for device in wanted or rollouts.devices_with_orders(change.connection):
            last = orders.live(fleet, change, device)
            if last is None and wanted:
                raise ConflictError(f"{device} has no order that it could take now: roll a release out to it first")
            if last is not None:
                _add_order(change, found, last)
        if not found.orders:
            raise ConflictError("no device has an order that it could take now: roll a release out first")
        change.audit(actor, "air_gap.export", ",".join(found.orders)[:1000], {"blobs": len(found.blobs)})
    _add_documents(fleet, found)
    return found


def _add_order(change: Change, found: Export, last: Row) -> None:
    artifact = releases.artifact(change.connection, last["digest"])
    if artifact is None:
        raise ConflictError(f"{last['device']}: its artifact {last['digest']} is not known here any more")
    found.orders[last["device"]] = last["envelope"].decode()
    found.good_until_ms = min(found.good_until_ms or last["exp_ms"], last["exp_ms"])
    found.blobs |= releases.device_blobs(artifact)
    release = {"model": last["model"], "version": last["version"], "profile": artifact["profile"]}
    if release not in found.releases:
        found.releases.append(release)


def _add_documents(fleet: Fleet, found: Export) -> None:
    repository = TrustRepository(fleet.home.trust)
    found.documents[documents.ONLINE] = fleet.signer.refresh().encode().decode()
    timestamp = repository.timestamp()
    if timestamp is not None:
        found.good_until_ms = min(found.good_until_ms, int(timestamp.expires.timestamp() * 1000))
    for number, root in repository.roots().items():
        found.documents[documents.root(number)] = root.decode()
    for model in sorted({release["model"] for release in found.releases}):
        metadata = repository.model_metadata(model)
        if metadata is not None:
            found.documents[documents.role(model)] = metadata.decode()

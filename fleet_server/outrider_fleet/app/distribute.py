"""What every device reads alike: trust metadata and artifact chunks, published retained.

1. Publishing again is harmless: topics are exact and contents the same.
2. A blob counts as published only after the broker has every chunk.
3. After a start everything is published again that the broker may have lost, and trust whenever it was signed anew.
4. A broker that forgets (one without a durable store) is asked, at each connection, for the last chunk of every blob;
   what it has not got is published again, and so is every desired state.
"""

import logging
from typing import Final

from outrider_fleet.app import blobs, orders
from outrider_fleet.app.announce import publish_trust
from outrider_fleet.app.fleet import Fleet
from outrider_fleet.errors import FleetError
from outrider_fleet.store import releases
from outrider_protocol import ids

_log: Final = logging.getLogger(__name__)


def publish_blobs(fleet: Fleet) -> int:
    """Publish what devices need and the broker has not got; returns how many blobs."""
    with fleet.look() as connection:
        waiting = releases.unpublished(connection)
    for row in waiting:
        hex_digest = ids.hex_of(row["digest"])
        fleet.publisher.publish_blob(hex_digest, blobs.path_of(fleet, row["digest"], "distribution"))
        with fleet.change() as change:
            releases.mark_published(change.connection, row["digest"], change.now_ms)
    return len(waiting)


def republish_lost(fleet: Fleet) -> int:
    """Publish every desired state again, and mark blobs that the broker has not got; returns how many those are."""
    with fleet.look() as connection:
        held = {ids.hex_of(row["digest"]): row for row in releases.published(connection)}
    lost = fleet.publisher.lost_blobs({hex_digest: row["size"] for hex_digest, row in held.items()})
    with fleet.change() as change:
        for hex_digest in lost:
            releases.mark_published(change.connection, held[hex_digest]["digest"], None)
    orders.republish(fleet)
    return len(lost)


class Distribution:
    """Keeps the broker's copies up to date; `step` is called now and then, in one thread."""

    def __init__(self, fleet: Fleet, *, forgetful: bool = False) -> None:
        self._fleet, self._forgetful = fleet, forgetful
        self._sent, self._doubted, self._epoch = b"", forgetful, 0

    def step(self) -> None:
        """Publish what is new; what fails is tried again at the next step."""
        try:
            online = self._fleet.signer.refresh().encode()
            if online != self._sent:
                publish_trust(self._fleet)
                self._follow_director()
                self._sent = online
            if self._doubted:
                republish_lost(self._fleet)
                self._doubted = False
            publish_blobs(self._fleet)
        except FleetError as error:
            _log.warning("distribution: %s: %s", type(error).__name__, error)

    def _follow_director(self) -> None:
        """What still waits needs an order by the director that devices know now."""
        former, self._epoch = self._epoch, self._fleet.epoch_published
        if former not in (0, self._epoch):
            orders.republish(self._fleet)

    def again(self) -> None:
        """The broker is new: publish trust at the next step, and what a forgetful one has lost."""
        self._sent, self._doubted = b"", self._forgetful

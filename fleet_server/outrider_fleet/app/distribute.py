"""What every device reads alike: trust metadata and artifact chunks, published retained.

1. Publishing again is harmless: topics are exact and contents the same.
2. A blob counts as published only after the broker has every chunk.
3. After a start everything is published again that the broker may have lost, and trust whenever it was signed anew.
"""

import logging
from collections.abc import Callable
from typing import Final

from outrider_fleet.app import blobs, trust_log
from outrider_fleet.app.fleet import Change, Fleet
from outrider_fleet.errors import FleetError
from outrider_fleet.signing.repository import TrustRepository
from outrider_fleet.store import releases
from outrider_protocol import ids, topics

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


def refresh_trust(fleet: Fleet, actor: str) -> None:
    """Publish trust because somebody asked for it."""
    with fleet.change() as change:
        change.audit(actor, "trust.refresh", fleet.config.name)
        publish_trust(fleet, change)


def publish_trust(fleet: Fleet, change: Change | None = None) -> None:
    """Publish every root, every delegated role and what was signed last, within `change` where there is one."""
    repository = TrustRepository(fleet.home.trust)
    online = fleet.signer.refresh().encode()
    if change is not None:
        trust_log.record(fleet, change)
    else:
        with fleet.change() as own:
            trust_log.record(fleet, own)
    for number, root in repository.roots().items():
        fleet.publisher.publish(topics.trust_root(number), root, retain=True)
    with fleet.look() as connection:
        models = sorted({row["model"] for row in releases.listed(connection)})
    for model in models:
        publish_model(fleet, model)
    fleet.publisher.publish(topics.TRUST_ONLINE, online, retain=True)
    fleet.epoch_published = repository.director().epoch


def publish_model(fleet: Fleet, model: str) -> None:
    """Publish one delegated role."""
    metadata = TrustRepository(fleet.home.trust).model_metadata(model)
    if metadata is not None:
        fleet.publisher.publish(topics.trust_model(model), metadata, retain=True)


class Distribution:
    """Keeps the broker's copies up to date; `step` is called now and then, in one thread.

    `renew` is called when devices have been told of a new director: what still waits needs its orders.
    """

    def __init__(self, fleet: Fleet, renew: Callable[[], object] = lambda: None) -> None:
        self._fleet, self._renew = fleet, renew
        self._sent, self._epoch = b"", 0

    def step(self) -> None:
        """Publish what is new; what fails is tried again at the next step."""
        try:
            online = self._fleet.signer.refresh().encode()
            if online != self._sent:
                publish_trust(self._fleet)
                self._follow_director()
                self._sent = online
            publish_blobs(self._fleet)
        except FleetError as error:
            _log.warning("distribution: %s: %s", type(error).__name__, error)

    def _follow_director(self) -> None:
        former, self._epoch = self._epoch, self._fleet.epoch_published
        if former not in (0, self._epoch):
            self._renew()

    def again(self) -> None:
        """The broker is new: publish trust at the next step."""
        self._sent = b""

"""Trust metadata on its way to devices: every root, every delegated role, and what was signed last.

1. Publishing again is harmless: topics are exact and contents the same.
2. What a ceremony changed is in the audit log before devices hear of it.
3. The epoch that devices were told of is remembered: an order of another one waits for its announcement.
"""

from outrider_fleet.app import trust_log
from outrider_fleet.app.fleet import Change, Fleet
from outrider_fleet.signing.repository import TrustRepository
from outrider_fleet.store import releases
from outrider_protocol import topics


def refresh_trust(fleet: Fleet, actor: str) -> None:
    """Publish trust because somebody asked for it."""
    with fleet.change() as change:
        change.audit(actor, "trust.refresh", fleet.config.name)
        publish_trust(fleet, change)


def publish_trust(fleet: Fleet, change: Change | None = None) -> None:
    """Publish everything, within `change` where there is one."""
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

"""What ceremonies changed, in the audit log: seen by the server, whoever held them and wherever.

1. Each new root or targets is one entry: versions, digests, the keys that signed, who may order and sign, the floors.
"""

from typing import Any

from tuf.api.metadata import Metadata, Root, Targets

from outrider_fleet.app.fleet import Change, Fleet
from outrider_fleet.signing import roles
from outrider_fleet.signing.repository import TrustRepository
from outrider_fleet.store import counters
from outrider_protocol import ids

_SEEN = "trust_seen"


def record(fleet: Fleet, change: Change) -> None:
    """Write an entry where trust is another than the log knows."""
    repository = TrustRepository(fleet.home.trust)
    root, targets = repository.read("root.json"), repository.read("targets.json")
    seen = f"{ids.digest_of(root)} {ids.digest_of(targets)}"
    if counters.setting(change.connection, _SEEN) == seen:
        return
    counters.set_setting(change.connection, _SEEN, seen)
    detail = _described(repository, root, targets)
    change.audit("ceremony", "trust.changed", f"root v{detail['root']}, targets v{detail['targets']}", detail)


def _described(repository: TrustRepository, root: bytes, targets: bytes) -> dict[str, Any]:
    top, listed = Metadata[Root].from_bytes(root), Metadata[Targets].from_bytes(targets)
    models = roles.delegated_models(listed.signed)
    director = repository.director()
    return {
        "root": top.signed.version,
        "root_digest": ids.digest_of(root),
        "root_signed_by": sorted(top.signatures),
        "targets": listed.signed.version,
        "targets_digest": ids.digest_of(targets),
        "targets_signed_by": sorted(listed.signatures),
        "director_epoch": director.epoch,
        "director_keys": sorted(director.public_keys()),
        "models": {model: roles.delegated_keys(listed.signed, model) for model in models},
        "floors": repository.floors().min_counter,
    }

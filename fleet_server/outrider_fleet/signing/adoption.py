"""Trust that was signed elsewhere comes home: the folder `trust` of a machine that holds the offline keys.

1. Root follows version by version, each signed by enough keys of the one before.
2. Nothing goes back: no version, no epoch, no floor; what is the same stays as it is.
3. Snapshot, timestamp and the pipelines' roles are this server's own: they are not taken over.
"""

from pathlib import Path

from outrider_fleet.signing.errors import RolledBackMetadataError
from outrider_fleet.signing.repository import FLEET_FILES, TrustRepository
from outrider_protocol.audit import AUDIT_TARGET


def adopt(home: Path, folder: Path) -> dict[str, int]:
    """Take root, targets and fleet files over from `folder`; returns the versions of root and targets.

    Raises `TrustBrokenError` or `RolledBackMetadataError`; then nothing was changed.
    """
    ours, theirs = TrustRepository(home / "trust"), TrustRepository(folder)
    with ours.locked():
        roots = _new_roots(ours, theirs)
        targets, data = theirs.targets()
        _check_not_older(ours, theirs)
        names: list[str] = [name for name in (*FLEET_FILES, AUDIT_TARGET) if name in targets.targets]
        files = {name: theirs.read(name) for name in names}
        ours.commit({**roots, **files, "targets.json": data})
    return {"root": ours.root().version, "targets": targets.version}


def _new_roots(ours: TrustRepository, theirs: TrustRepository) -> dict[str, bytes]:
    newest = theirs.follow_from(ours.read("root.json"))
    numbers = range(ours.root().version + 1, newest.version + 1)
    found = {f"{number}.root.json": theirs.read(f"{number}.root.json") for number in numbers}
    return {**found, "root.json": theirs.read("root.json")}


def _check_not_older(ours: TrustRepository, theirs: TrustRepository) -> None:
    (present, data), (offered, other) = ours.targets(), theirs.targets()
    if offered.version < present.version or (offered.version == present.version and data != other):
        raise RolledBackMetadataError(f"targets v{offered.version} is offered, v{present.version} is here")
    if theirs.director().epoch < ours.director().epoch:
        raise RolledBackMetadataError(f"epoch {theirs.director().epoch} is offered, {ours.director().epoch} is here")
    offered_floors = theirs.floors().min_counter
    lowered = [model for model, floor in ours.floors().min_counter.items() if offered_floors.get(model, 0) < floor]
    if lowered:
        raise RolledBackMetadataError(f"the floor of {lowered[0]} would fall")

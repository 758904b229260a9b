"""A pipeline publishes a release: checked, signed into snapshot and timestamp, stored, distributed.

1. The same release again is answered with what is stored; another content under its name is a conflict.
2. The counter is above every published one, or the one that the server reserved for the run that made it.
3. A release that names a run is believed only from the runner that claimed it, for its reserved version and snapshot.
4. A refusal is audited by its error's name; nothing of the release is stored.
"""

from dataclasses import dataclass
from typing import Any

from outrider_fleet.app import distribute, release_check
from outrider_fleet.app.fleet import Change, Fleet
from outrider_fleet.app.lineage_edges import edge
from outrider_fleet.app.release_check import CheckedRelease
from outrider_fleet.errors import ConflictError, FleetError, ReleaseRefusedError
from outrider_fleet.store import releases, sql, training
from outrider_fleet.store.sql import Row
from outrider_fleet.store.tables import artifacts
from outrider_fleet.store.tables import releases as releases_table
from outrider_protocol import canonical, ids, limits
from outrider_protocol.errors import ProtocolError
from outrider_protocol.manifest import Descriptor, Index, Manifest


@dataclass(frozen=True)
class Upload:
    """What a pipeline sends: signed metadata, the index, and where it comes from (`run`, `snapshot`, `inputs`)."""

    metadata: str
    index: str
    provenance: dict[str, Any]


def publish(fleet: Fleet, upload: Upload, actor: str) -> Row:
    """Publish; returns the release's row. Raises a `RefusedError`, `ConflictError` or `UnknownError`."""
    try:
        checked = release_check.check(fleet, upload.metadata.encode(), upload.index.encode())
        known = _known(fleet, checked, upload)
        if known is not None:
            return known
        _check_origin(fleet, checked, upload.provenance, actor)
    except FleetError as error:
        with fleet.change() as change:
            detail = {"error": type(error).__name__, "message": str(error)[:1000]}
            change.audit(actor, "release.refused", _named(upload), detail)
        raise
    fleet.signer.publish_release(checked.index.model, upload.metadata.encode())
    row = _store(fleet, checked, upload, actor)
    distribute.Distribution(fleet).step()
    return row


def _named(upload: Upload) -> str:
    """`model/version` where the index says so, else the index's digest."""
    try:
        index = Index.decode(upload.index.encode())
    except ProtocolError:
        return ids.digest_of(upload.index.encode())
    return f"{index.model}/{index.release}"


def _known(fleet: Fleet, checked: CheckedRelease, upload: Upload) -> Row | None:
    index = checked.index
    with fleet.look() as connection:
        row = releases.get(connection, index.model, index.release)
    if row is not None and row["index_json"] != upload.index:
        raise ConflictError(f"{index.model} {index.release} is published with other content")
    return row


def _check_origin(fleet: Fleet, checked: CheckedRelease, provenance: dict[str, Any], actor: str) -> None:
    index = checked.index
    with fleet.look() as connection:
        newest = releases.newest_counter(connection, index.model)
        reserved = training.reserved_counter(connection, index.model, index.counter)
        run = training.get(connection, str(provenance["run"])) if provenance.get("run") else None
    if provenance.get("run"):
        _check_run(run, checked, provenance, actor)
    elif index.counter <= newest:
        raise ReleaseRefusedError(f"counter {index.counter}: {index.model} is at {newest} already")
    elif reserved is not None:
        raise ReleaseRefusedError(f"counter {index.counter} is reserved for {reserved}: take a higher one")


def _check_run(run: Row | None, checked: CheckedRelease, provenance: dict[str, Any], actor: str) -> None:
    if run is None or run["state"] != "claimed":
        raise ReleaseRefusedError(f"run {str(provenance['run'])[:64]!r} is not at work on this server")
    if run["claimed_by"] != actor:  # [RUN-6]
        raise ReleaseRefusedError(f"run {run['id']} was claimed by {run['claimed_by']}, not by {actor}")
    claimed = (checked.index.model, checked.index.release, checked.index.counter, provenance.get("snapshot"))
    reserved = (run["model"], run["version"], run["counter"], run["snapshot"])
    if claimed != reserved:
        raise ReleaseRefusedError(f"the release says {claimed}, run {run['id']} was given {reserved}")


def _store(fleet: Fleet, checked: CheckedRelease, upload: Upload, actor: str) -> Row:
    index = checked.index
    row: Row = {
        "model": index.model,
        "version": index.release,
        "counter": index.counter,
        "state": "published",
        "role_version": checked.role_version,
        "role_metadata": upload.metadata,
        "index_json": upload.index,
        "provenance": upload.provenance or None,
        "run": upload.provenance.get("run"),
        "created_by": actor,
    }
    with fleet.change() as change:
        known = releases.get(change.connection, index.model, index.release)
        if known is not None and known["index_json"] == upload.index:
            return known  # the same request, sent twice at once
        row["created_ms"] = change.now_ms
        sql.insert(change.connection, releases_table, row)
        sql.insert_all(change.connection, artifacts, checked.artifacts)
        _link(change, f"{index.model}/{index.release}", upload.provenance)
        change.audit(actor, "release.publish", f"{index.model}/{index.release}", {"counter": index.counter})
        change.touch("releases")
    return row


def _link(change: Change, release: str, provenance: dict[str, Any]) -> None:
    if provenance.get("run"):
        edge(change, ("release", release), ("run", str(provenance["run"])))
    inputs = provenance.get("inputs")
    for recording in inputs if isinstance(inputs, list) else []:
        edge(change, ("release", release), ("recording", str(recording)))


def provenance_in(fleet: Fleet, index: str) -> dict[str, Any]:
    """The run, snapshot and inputs that the release itself states in its provenance; empty where it has none."""
    for referrer in Index.decode(index.encode()).referrers:
        path = fleet.home.blob(ids.hex_of(referrer.digest))
        if path.exists():
            layers = Manifest.decode(path.read_bytes()).layers
            found = [said for layer in layers if (said := _statement(fleet, layer))]
            if found:
                return found[0]
    return {}


def _statement(fleet: Fleet, layer: Descriptor) -> dict[str, Any]:
    path = fleet.home.blob(ids.hex_of(layer.digest))
    if "in-toto" not in layer.media_type and "provenance" not in layer.media_type:
        return {}
    if layer.size > limits.CONFIG_BYTES or not path.exists():
        return {}
    return _find_run(canonical.decode(path.read_bytes(), limits.CONFIG_BYTES, "provenance"))


def _find_run(value: Any) -> dict[str, Any]:
    """The object that names `run` and `snapshot`, wherever in the statement it stands."""
    if not isinstance(value, dict):
        return {}
    if isinstance(value.get("run"), str) and isinstance(value.get("snapshot"), str):
        return {name: value[name] for name in ("run", "snapshot", "inputs") if name in value}
    return next((found for item in value.values() if (found := _find_run(item))), {})

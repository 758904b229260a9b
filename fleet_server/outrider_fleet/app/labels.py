"""Labels from people: which class a prediction should have been, and from which recording that is known.

1. A label is a class's name or index, as the model's newest release knows them.
2. `use` is `train` (may enter snapshots) or `check` (never does; both serve the labelled check).
3. A prediction has one label; labelling it again changes nothing.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Connection

from outrider_fleet.app.fleet import Fleet
from outrider_fleet.errors import InvalidRequestError, UnknownError
from outrider_fleet.store import drift, releases
from outrider_protocol.ids import PredictionId

USES: Final = ("train", "check")
LIMIT: Final = 50_000


def add(fleet: Fleet, model: str, given: Sequence[Mapping[str, Any]], actor: str) -> int:
    """Store labels; returns how many were new. All or none: raises `InvalidRequestError` or `MalformedError`."""
    if len(given) > LIMIT:
        raise InvalidRequestError(f"at most {LIMIT} labels at once")
    with fleet.change() as change:
        classes = _classes(change.connection, model)
        fixed = {"model": model, "created_by": actor, "created_ms": change.now_ms}
        rows = [{**_row(item, classes), **fixed} for item in given]
        new = sum(drift.add_label(change.connection, row) for row in rows)
        change.audit(actor, "labels.add", model, {"given": len(given), "new": new})
        change.touch("labels", "drift")
    return new


def _classes(connection: Connection, model: str) -> list[str]:
    newest = releases.newest(connection, model)
    found = releases.artifacts_of(connection, model, newest["version"]) if newest else []
    if not found:
        raise UnknownError(f"model {model} has no release, its classes are not known")
    return [str(name) for name in found[0]["config"]["classes"]]


def _row(item: Mapping[str, Any], classes: list[str]) -> dict[str, Any]:
    unknown = sorted(set(item) - {"prediction_id", "label", "source", "use"})
    if unknown or not {"prediction_id", "label", "source"} <= set(item):
        raise InvalidRequestError(f"a label has prediction_id, label, source and use, not {sorted(item)}")
    where = PredictionId.parse(str(item["prediction_id"]))
    klass, use = _klass(item["label"], classes), item.get("use", "train")
    if use not in USES or not isinstance(item["source"], str) or not 0 < len(item["source"]) <= 200:
        raise InvalidRequestError("label: use is train or check, source names the recording")
    return {
        "prediction_id": str(where),
        "device": where.device,
        "outbox_id": where.outbox_id,
        "seq": where.seq,
        "idx": where.index,
        "klass": klass,
        "label": classes[klass],
        "source": item["source"],
        "use": use,
    }


def _klass(label: object, classes: list[str]) -> int:
    if isinstance(label, str) and label in classes:
        return classes.index(label)
    if type(label) is int and 0 <= label < len(classes):
        return label
    raise InvalidRequestError(f"label {label!r} is not one of {', '.join(classes)}")

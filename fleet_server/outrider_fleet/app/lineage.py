"""Lineage, both ways: from a prediction back to recordings, from a recording forward to rollouts.

    prediction → (device, release) → run → snapshot → recordings (of its labels)
                                   ↘ recordings (of the base training set)

1. What was written as an edge is never changed; the rest follows from digests and snapshot rows.
2. A device stands in it by its pseudonym.
3. `tree` follows one direction until nothing is left; a thing that was met before is not followed again.
"""

from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import Connection

from outrider_fleet.app.fleet import Fleet
from outrider_fleet.errors import InvalidRequestError, UnknownError
from outrider_fleet.store import devices, releases, training
from outrider_protocol.ids import PredictionId

KINDS: Final = ("prediction", "device", "release", "run", "snapshot", "recording", "rollout")
Node = tuple[str, str]


@dataclass
class Tree:
    """A thing and what it came from (or what came from it)."""

    kind: str
    id: str
    note: str = ""
    branches: list["Tree"] = field(default_factory=list)

    def json(self) -> dict[str, Any]:
        """The JSON form."""
        return {"kind": self.kind, "id": self.id, "note": self.note}

    def nested(self, branches: str) -> dict[str, Any]:
        """The JSON form with everything below it, under the name `branches`."""
        return {**self.json(), branches: [branch.nested(branches) for branch in self.branches]}


def guess_kind(name: str) -> str:
    """The kind of an id by its form.

    >>> guess_kind("d1/00112233aabbccdd/4/0"), guess_kind("run-000001"), guess_kind("har/1.0")
    ('prediction', 'run', 'release')
    """
    prefixes = {"run-": "run", "ro-": "rollout", "sha256:": "snapshot"}
    for prefix, kind in prefixes.items():
        if name.startswith(prefix):
            return kind
    parts = name.split("/")
    if len(parts) == 4:
        return "prediction"
    return "release" if len(parts) == 2 else "recording"


def trace(fleet: Fleet, kind: str, name: str) -> dict[str, Any]:
    """Both trees of a thing; raises `UnknownError` for a thing that nothing is known of."""
    if kind not in KINDS:
        raise InvalidRequestError(f"{kind[:40]!r} is not one of {', '.join(KINDS)}")
    with fleet.look() as connection:
        back = _grow(connection, (kind, name), _parents, set())
        forth = _grow(connection, (kind, name), _children, set())
    if not (back.branches or forth.branches or back.note):
        raise UnknownError(f"{kind} {name}")
    return {
        "kind": kind,
        "id": name,
        "note": back.note,
        "parents": back.nested("parents")["parents"],
        "children": forth.nested("children")["children"],
    }


def _grow(connection: Connection, node: Node, follow: Any, met: set[Node]) -> Tree:
    tree = Tree(node[0], node[1], _note(connection, node))
    met.add(node)
    for near in follow(connection, node):
        tree.branches.append(
            Tree(near[0], near[1], "see above") if near in met else _grow(connection, near, follow, met)
        )
    return tree


def _parents(connection: Connection, node: Node) -> list[Node]:
    kind, name = node
    if kind == "prediction":
        return _of_prediction(connection, name)
    written = training.parents(connection, kind, name)
    if kind == "snapshot":
        return [*written, *(("recording", source) for source in training.snapshot_sources(connection, name))]
    return written


def _children(connection: Connection, node: Node) -> list[Node]:
    kind, name = node
    written = training.children(connection, kind, name)
    if kind == "prediction":
        return [("snapshot", digest) for digest in training.snapshots_with(connection, prediction_id=name)]
    if kind == "recording":
        return [*(("snapshot", digest) for digest in training.snapshots_with(connection, source=name)), *written]
    return written


def _of_prediction(connection: Connection, name: str) -> list[Node]:
    where = PredictionId.parse(name)
    row = training.prediction(connection, where.device, where.outbox_id, where.seq, where.index)
    if row is None:
        return []
    device, artifact = devices.get(connection, where.device), releases.artifact(connection, row["digest"])
    found: list[Node] = [("device", device["pseudonym"])] if device else []
    return [*found, ("release", f"{artifact['model']}/{artifact['version']}")] if artifact else found


def _note(connection: Connection, node: Node) -> str:
    kind, name = node
    writer = _NOTES.get(kind)
    return writer(connection, name) if writer else ""


def _note_prediction(connection: Connection, name: str) -> str:
    where = PredictionId.parse(name)
    row = training.prediction(connection, where.device, where.outbox_id, where.seq, where.index)
    return f"class {row['klass']}, confidence {row['confidence']:.2f}, artifact {row['digest'][:19]}" if row else ""


def _note_release(connection: Connection, name: str) -> str:
    model, _, version = name.partition("/")
    found = releases.artifacts_of(connection, model, version)
    count = training.count_predictions(connection, [row["digest"] for row in found])
    return f"{len(found)} artifacts, {count} predictions" if found else ""


def _note_run(connection: Connection, name: str) -> str:
    row = training.get(connection, name)
    return f"{row['state']}, asked for by {row['requested_by']}: {(row['reason'] or {}).get('why', '')}" if row else ""


def _note_snapshot(connection: Connection, name: str) -> str:
    row = training.snapshot(connection, name)
    return f"{row['n']} labelled samples of {len(row['sources'])} recordings" if row else ""


_NOTES: Final = {
    "prediction": _note_prediction,
    "release": _note_release,
    "run": _note_run,
    "snapshot": _note_snapshot,
}

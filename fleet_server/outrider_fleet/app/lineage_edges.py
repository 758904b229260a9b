"""Writing lineage: append-only edges from what was made to what it was made of."""

from outrider_fleet.app.fleet import Change
from outrider_fleet.store import sql
from outrider_fleet.store.tables import lineage

Node = tuple[str, str]


def edge(change: Change, child: Node, parent: Node) -> None:
    """`child` was made of, or because of, `parent`; an edge that exists stays as it is."""
    row = {
        "child_kind": child[0],
        "child_id": child[1],
        "parent_kind": parent[0],
        "parent_id": parent[1],
        "at_ms": change.now_ms,
    }
    sql.insert_new(change.connection, lineage, row)

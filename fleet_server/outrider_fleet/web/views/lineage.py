"""Lineage of one thing: a tree of what it was made from, and one of what was made from it.

1. The walk is bounded: at most `MOST` nodes and `DEEPEST` steps; what was cut off says so (`cut`).
2. A node that was shown already is shown again without its own branches: loops end. `seen` says that it has some.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from outrider_fleet.web.views.words import lineage_href, plain, rollout_href, short

MOST: Final = 200
DEEPEST: Final = 12
Key = tuple[str, str]  # kind, id
Neighbours = Callable[[str, str], Sequence[Any]]


@dataclass
class Node:
    """One thing and those behind it; grown by `tree`, then only read."""

    kind: str
    name: str
    title: str
    href: str
    page: str
    branches: list["Node"] = field(default_factory=list)
    seen: bool = False
    cut: bool = False

    @property
    def boughs(self) -> list["Node"]:
        """Branches that branch again."""
        return [branch for branch in self.branches if branch.branches]

    @property
    def leaves(self) -> list[tuple[str, list["Node"]]]:
        """The other branches, by kind."""
        ends = [branch for branch in self.branches if not branch.branches]
        return [(kind, [end for end in ends if end.kind == kind]) for kind in dict.fromkeys(end.kind for end in ends)]


def node(kind: str, name: str) -> Node:
    """A node without branches; `page` leads to its own page, where there is one."""
    shown = short(name) if name.startswith("sha256:") else plain(name, 120)
    page = rollout_href(name) if kind == "rollout" else ""
    return Node(plain(kind, 40), shown, plain(name, 200), lineage_href(kind, name), page)


def tree(kind: str, name: str, neighbours: Neighbours) -> Node:
    """Walk breadth first from (kind, name); `neighbours` gives rows with `kind` and `id`."""
    root = node(kind, name)
    known, again, count = {(kind, name): root}, list[tuple[Node, Node]](), 1
    waiting = deque([(root, kind, name, 0)])
    while waiting:
        parent, of_kind, of_name, depth = waiting.popleft()
        for row in neighbours(of_kind, of_name):
            if count >= MOST or depth >= DEEPEST:
                parent.cut = True
                break
            key = (row["kind"], row["id"])
            child = node(*key)
            parent.branches.append(child)
            count += 1
            if key in known:
                again.append((child, known[key]))
            else:
                known[key] = child
                waiting.append((child, *key, depth + 1))
    for child, first in again:
        child.seen = bool(first.branches)
    return root

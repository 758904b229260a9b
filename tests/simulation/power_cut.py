"""What a power cut may leave on a disk, enumerated from the operations that `outrider_agent.durable` recorded.

The model is a POSIX file system that promises nothing but this:

1. A file's content is sure as of its last fsync. What was written after that may be there, missing, cut in half, zeroed
   (the length without the bytes), or, where the file was cut to nothing on the way, gone altogether.
2. A name in a directory is sure as of that directory's last fsync. Of the changes after it any part may have reached
   the disk, in any order; a later change of the same name hides an earlier one.
3. A rename is atomic: its target is the old file or the new one, and its source does not vanish before the target has
   appeared. Across directories both names may be there.
4. A directory whose name was lost takes along everything below it.

A `Recording` notes, beside the operations, what was promised to the outside at which moment: after a cut, what was
promised must hold, and what was under way may hold.

    recording = Recording(tmp_path)
    StateFile(path, Durable(recording)).save(state)
    recording.promise(state)
    for cut in recording.cuts():
        for left in cut.states():
            left.write(elsewhere)            # then start the program there, and hold it against cut.promised
"""

from __future__ import annotations

import itertools
import random
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from outrider_agent.durable import Operation


@dataclass
class File:
    """An inode of a file: what is sure of it, and the writes and truncations since."""

    sure: bytes = b""
    since: list[Operation] = field(default_factory=list)

    @property
    def now(self) -> bytes:
        """The content as a running program sees it."""
        data = bytearray(self.sure)
        for operation in self.since:
            if operation.kind == "truncate":
                del data[operation.offset :]
            else:
                data[operation.offset : operation.offset + len(operation.data)] = operation.data
        return bytes(data)

    def contents(self) -> list[bytes]:
        """Every content that may be found after the cut."""
        if not self.since:
            return [self.sure]
        now, kept = self.now, len(self.sure)
        emptied = any(operation.kind == "truncate" and operation.offset < kept for operation in self.since)
        kept = 0 if emptied else min(kept, len(now))
        fresh = len(now) - kept
        found = [self.sure, now, now[: kept + fresh // 2], now[:kept] + bytes(fresh)]
        return list(dict.fromkeys([*found, b""] if emptied else found))


@dataclass(frozen=True)
class Change:
    """One change of a directory's names: `name` leads to `node`, or nowhere (None). `link` is a rename's other half."""

    name: str
    node: Node | None
    link: Change | None = None


@dataclass
class Directory:
    """An inode of a directory: the names that are sure, and the changes since."""

    sure: dict[str, Node] = field(default_factory=dict)
    since: list[Change] = field(default_factory=list)

    @property
    def now(self) -> dict[str, Node]:
        """The names as a running program sees them."""
        return _applied(self.sure, self.since)


Node = File | Directory
Tree = dict[Path, bytes | None]  # None: a directory


def _applied(names: dict[str, Node], changes: Sequence[Change]) -> dict[str, Node]:
    found = dict(names)
    for change in changes:
        if change.node is None:
            found.pop(change.name, None)
        else:
            found[change.name] = change.node
    return found


@dataclass(frozen=True)
class Left:
    """What one power cut left, by relative path."""

    tree: Tree

    def write(self, root: Path) -> None:
        """Make it real, in the place of whatever is at `root`."""
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir(mode=0o700, parents=True)
        for path, data in sorted(self.tree.items()):
            place = root / path
            if data is None:
                place.mkdir(mode=0o700, parents=True, exist_ok=True)
            else:
                place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                place.touch(mode=0o600)
                place.write_bytes(data)


class Disk:
    """A simulated disk; `apply` takes operations with paths below `root`."""

    def __init__(self, root: Path) -> None:
        self.root, self.top = root, _sure(root)

    def apply(self, operation: Operation) -> None:
        """One step of the recorded program."""
        getattr(self, f"_{operation.kind}")(operation)

    def _parent(self, path: Path) -> Directory:
        node: Node = self.top
        for part in path.relative_to(self.root).parts[:-1]:
            assert isinstance(node, Directory), path
            node = node.now[part]
        assert isinstance(node, Directory), path
        return node

    def _node(self, path: Path) -> Node | None:
        return self.top if path == self.root else self._parent(path).now.get(path.name)

    def _file(self, path: Path) -> File:
        node = self._node(path)
        assert isinstance(node, File), path
        return node

    def _create(self, operation: Operation) -> None:
        self._parent(operation.path).since.append(Change(operation.path.name, File()))

    def _mkdir(self, operation: Operation) -> None:
        if self._node(operation.path) is None:
            self._parent(operation.path).since.append(Change(operation.path.name, Directory()))

    def _write(self, operation: Operation) -> None:
        self._file(operation.path).since.append(operation)

    def _truncate(self, operation: Operation) -> None:
        file = self._file(operation.path)
        if operation.offset < len(file.now):
            file.since.append(operation)

    def _fsync(self, operation: Operation) -> None:
        file = self._file(operation.path)
        file.sure, file.since = file.now, []

    def _fsync_dir(self, operation: Operation) -> None:
        directory = self._node(operation.path)
        assert isinstance(directory, Directory), operation.path
        links = [change.link for change in directory.since if change.link is not None]
        directory.sure, directory.since = directory.now, []
        for other in _directories(self.top):  # [3] what has gone from here has arrived there
            arrived = [change for change in other.since if any(change is link for link in links)]
            other.sure = _applied(other.sure, arrived)

    def _rename(self, operation: Operation) -> None:
        assert operation.target is not None
        source, target = self._parent(operation.path), self._parent(operation.target)
        arrival = Change(operation.target.name, source.now[operation.path.name])
        target.since.append(arrival)
        source.since.append(Change(operation.path.name, None, link=arrival))

    def _unlink(self, operation: Operation) -> None:
        if self._node(operation.path) is not None:
            self._parent(operation.path).since.append(Change(operation.path.name, None))

    def _rmtree(self, operation: Operation) -> None:
        self._unlink(operation)

    # ---------------------------------------------------------------- after the cut

    def states(self, chance: random.Random, at_most: int) -> Iterator[Left]:
        """Every different state, or `at_most` drawn ones (with nothing and everything arrived) where there are more."""
        changes = [(d, change) for d in _directories(self.top) for change in d.since]
        files = [file for file in _files(self.top) if file.since]
        sizes = [2] * len(changes) + [len(file.contents()) for file in files]
        seen: set[tuple[tuple[Path, bytes | None], ...]] = set()
        for choice in _choices(sizes, chance, at_most):
            arrived = [item for item, taken in zip(changes, choice, strict=False) if taken]
            picked = {id(file): file.contents()[n] for file, n in zip(files, choice[len(changes) :], strict=True)}
            tree = self._tree(arrived, picked)
            if tree is not None and (key := tuple(sorted(tree.items()))) not in seen:
                seen.add(key)
                yield Left(tree)

    def _tree(self, arrived: list[tuple[Directory, Change]], contents: dict[int, bytes]) -> Tree | None:
        taken = {id(change) for _, change in arrived}
        for _, change in arrived:
            if change.link is not None and id(change.link) not in taken and not self._is_sure(change.link):
                return None  # [3] a source that vanished before its target appeared
        tree: Tree = {}
        self._walk(self.top, Path(), taken, contents, tree)
        return tree

    def _is_sure(self, link: Change) -> bool:
        return all(change is not link for directory in _directories(self.top) for change in directory.since)

    def _walk(self, node: Directory, path: Path, taken: set[int], contents: dict[int, bytes], tree: Tree) -> None:
        names = _applied(node.sure, [change for change in node.since if id(change) in taken])
        for name, child in names.items():
            if isinstance(child, File):
                tree[path / name] = contents.get(id(child), child.sure)
            else:
                tree[path / name] = None
                self._walk(child, path / name, taken, contents, tree)


def _choices(sizes: list[int], chance: random.Random, at_most: int) -> Iterator[tuple[int, ...]]:
    total = 1
    for size in sizes:
        total *= size
    if total <= at_most:
        yield from itertools.product(*(range(size) for size in sizes))
        return
    yield tuple(0 for _ in sizes)
    yield tuple(min(1, size - 1) for size in sizes)
    for _ in range(at_most - 2):
        yield tuple(chance.randrange(size) for size in sizes)


def _directories(top: Directory) -> list[Directory]:
    found, waiting = list[Directory](), list[Node]([top])
    while waiting:
        node = waiting.pop()
        if isinstance(node, Directory) and all(node is not known for known in found):
            found.append(node)
            waiting += [*node.sure.values(), *(change.node for change in node.since if change.node is not None)]
    return found


def _files(top: Directory) -> list[File]:
    found: dict[int, File] = {}
    for directory in _directories(top):
        reachable = [*directory.sure.values(), *(change.node for change in directory.since)]
        found |= {id(node): node for node in reachable if isinstance(node, File)}
    return list(found.values())


def _sure(path: Path) -> Directory:
    """A directory as it is on the real disk, all of it sure."""
    inner = {item.name: _sure(item) if item.is_dir() else File(item.read_bytes()) for item in path.iterdir()}
    return Directory(dict(inner))


@dataclass
class Cut:
    """The power went after `done` operations: what had been promised by then, and what was promised next."""

    disk: Disk
    done: int
    promised: Any
    following: Any
    chance: random.Random
    at_most: int

    def states(self) -> Iterator[Left]:
        """What may be found."""
        return self.disk.states(self.chance, self.at_most)


class Recording:
    """Notes operations and promises; give it to `Durable` as its `record`."""

    def __init__(self, root: Path, promised: Any = None) -> None:
        self.root, self.operations = root, list[Operation]()
        self._disk = Disk(root)
        self._promises: list[tuple[int, Any]] = [(0, promised)]

    def __call__(self, operation: Operation) -> None:
        self.operations.append(operation)

    def promise(self, what: Any) -> None:
        """From here on the outside may count on `what`."""
        self._promises.append((len(self.operations), what))

    def cuts(self, seed: int = 0, at_most: int = 256) -> Iterator[Cut]:
        """One cut after each operation, the first before any; the disk moves on with the iteration."""
        chance = random.Random(seed)
        for done in range(len(self.operations) + 1):
            if done:
                self._disk.apply(self.operations[done - 1])
            held = [what for at, what in self._promises if at <= done]
            later = [what for at, what in self._promises if at > done]
            yield Cut(self._disk, done, held[-1], later[0] if later else held[-1], chance, at_most)

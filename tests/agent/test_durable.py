"""Durable writes: from the record of operations, every state that a power cut may leave is enumerated and checked."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from outrider_agent.durable import Durable, Operation
from outrider_agent.errors import DurableError


@dataclass
class Inode:
    """One file: what was written, and whether it was synced."""

    data: bytes = b""
    synced: bool = False


@dataclass
class PowerCut:
    """A disk that keeps directory changes in order until a sync, and unsynced data in part."""

    durable: dict[Path, Inode]
    pending: list[Operation] = field(default_factory=list)
    inodes: dict[Path, Inode] = field(default_factory=dict)

    def apply(self, operation: Operation) -> None:
        if operation.kind == "create":
            self.inodes[operation.path] = Inode()
        if operation.kind == "write":
            self.inodes[operation.path].data = operation.data
        elif operation.kind == "fsync":
            self.inodes[operation.path].synced = True
        elif operation.kind == "fsync_dir":
            self.durable, self.pending = self.entries(len(self.pending)), []
        else:
            self.pending.append(operation)

    def entries(self, persisted: int) -> dict[Path, Inode]:
        """The directory when only the first `persisted` pending changes reached the disk."""
        found = dict(self.durable)
        for operation in self.pending[:persisted]:
            if operation.kind == "create":
                found[operation.path] = self.inodes[operation.path]
            elif operation.kind == "rename" and operation.target and operation.path in self.inodes:
                found.pop(operation.path, None)
                found[operation.target] = self.inodes[operation.path]
            elif operation.kind == "unlink":
                found.pop(operation.path, None)
        return found

    def states(self) -> Iterator[dict[Path, bytes]]:
        """Every content that may be found after the power comes back."""
        for persisted in range(len(self.pending) + 1):
            for kept in (0.0, 0.5, 1.0):
                entries = self.entries(persisted)
                yield {
                    path: inode.data if inode.synced else inode.data[: int(len(inode.data) * kept)]
                    for path, inode in entries.items()
                }


def test_a_power_cut_leaves_the_old_or_the_new(tmp_path: Path) -> None:
    """AGT-DUR-1: a file is the old or the new whole content at every moment, and the new one when `write` returned."""
    path, record = tmp_path / "update.json", list[Operation]()
    disk = Durable(record.append)
    disk.write(path, b"old content")
    record.clear()
    disk.write(path, b"new content")
    cut = PowerCut({path: Inode(b"old content", synced=True)})
    assert {state[path] for state in cut.states()} == {b"old content"}
    for operation in record:
        cut.apply(operation)
        assert {state.get(path) for state in cut.states()} <= {b"old content", b"new content"}
    assert {state[path] for state in cut.states()} == {b"new content"}
    assert path.read_bytes() == b"new content"


@pytest.mark.parametrize("missing", ["fsync", "fsync_dir"])
def test_the_simulated_power_cut_finds_a_missing_sync(tmp_path: Path, missing: str) -> None:
    """AGT-DUR-1: the check itself fails when a sync is left out."""
    path, record = tmp_path / "update.json", list[Operation]()
    Durable(record.append).write(path, b"new content")
    cut = PowerCut({path: Inode(b"old content", synced=True)})
    for operation in record:
        if operation.kind != missing:
            cut.apply(operation)
    assert {state[path] for state in cut.states()} != {b"new content"}


def test_what_is_recorded_as_synced_is_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """AGT-DUR-1: the record that all checks stand on is true: each sync in it is one of the kernel's."""
    record, synced = list[Operation](), list[Path]()
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(Path(f"/proc/self/fd/{fd}").readlink()))
    disk, one, two = Durable(record.append), tmp_path / "one", tmp_path / "two"
    disk.make_directory(two)
    disk.make_directory(one)
    disk.write(one / "a", b"a")
    with disk.grow(one / "b") as file:
        file.append(b"b")
        file.sync()
    disk.sync_tree(one)
    disk.rename(one / "a", two / "a")
    disk.settle(two / "a")
    disk.remove(two / "a")
    wanted = [operation.path for operation in record if operation.kind in {"fsync", "fsync_dir"}]
    assert synced == wanted
    assert len(wanted) > 10


def test_a_directory_moves_whole_and_synced(tmp_path: Path) -> None:
    """AGT-DUR-2: both directories of a rename are synced, and every file before it."""
    record: list[Operation] = []
    disk = Durable(record.append)
    source, target = tmp_path / "downloads" / "a", tmp_path / "artifacts" / "a"
    for directory in (source, target.parent):
        disk.make_directory(directory)
    (source / "model").write_bytes(b"m")
    record.clear()
    disk.sync_tree(source)
    disk.rename(source, target)
    kinds = [(operation.kind, operation.path.name) for operation in record]
    assert kinds == [
        ("fsync", "model"),
        ("fsync_dir", "a"),
        ("rename", "a"),
        ("fsync_dir", "artifacts"),
        ("fsync_dir", "downloads"),
    ]
    disk.remove_tree(target)
    assert not list((tmp_path / "artifacts").iterdir())


def test_files_are_for_their_owner(tmp_path: Path) -> None:
    """AGT-DUR-3: 0600 and 0700; a link in the place of the temporary file is not followed."""
    disk = Durable()
    disk.make_directory(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o700
    victim, path = tmp_path / "victim", tmp_path / "a" / "key"
    path.with_name("key.tmp").symlink_to(victim)
    disk.write(path, b"secret")
    assert path.stat().st_mode & 0o777 == 0o600
    assert not victim.exists()


def test_a_growing_file_is_for_its_owner(tmp_path: Path) -> None:
    """AGT-DUR-3: what a former process left open to others is closed to them; a link in its place is not followed."""
    disk, victim = Durable(), tmp_path / "victim"
    (tmp_path / "part").write_bytes(b"old")
    (tmp_path / "part").chmod(0o644)
    with disk.grow(tmp_path / "part", 3) as file:
        file.append(b"new")
    assert (tmp_path / "part").stat().st_mode & 0o777 == 0o600
    (tmp_path / "link").symlink_to(victim)
    with pytest.raises(DurableError), disk.grow(tmp_path / "link"):
        pass
    assert not victim.exists()


def test_a_write_that_fails_changes_nothing(tmp_path: Path) -> None:
    """AGT-DUR-1: the error names the file and has a hint; the old content stands."""
    path = tmp_path / "update.json"
    Durable().write(path, b"old")

    def full(operation: Operation) -> None:
        if operation.kind == "rename":
            raise OSError(28, os.strerror(28))

    with pytest.raises(DurableError, match=r"update\.json") as caught:
        Durable(full).write(path, b"new")
    assert caught.value.hint
    assert path.read_bytes() == b"old"

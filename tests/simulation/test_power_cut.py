"""The enumerator itself: it finds what a careless program loses, and nothing that a careful one could lose."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import pytest

from outrider_agent.durable import Durable, Operation
from tests.simulation.power_cut import Recording

OLD, NEW = b"the old content", b"the new content, longer"


class NoDirectorySync(Durable):
    """Forgets to make names sure."""

    def _sync_directory(self, path: Path) -> None:
        return


class NoDataSync(Durable):
    """Forgets to make contents sure."""

    def _sync_written(self, path: Path, file: BinaryIO) -> None:
        return


class NoSync(NoDirectorySync, NoDataSync):
    """Forgets both."""


class InPlace(Durable):
    """Writes over what is there."""

    def write(self, path: Path, data: bytes, mode: int = 0o600) -> None:
        with path.open("wb") as file:
            self._record(Operation("truncate", path))
            self._record(Operation("write", path, data=data))
            file.write(data)
            file.flush()
            self._record(Operation("fsync", path))
            os.fsync(file.fileno())


def broken(root: Path, kind: Callable[[Recording], Durable]) -> list[str]:
    """What goes wrong with a file that is replaced twice by this kind of disk."""
    path = root / "update.json"
    path.write_bytes(OLD)
    recording = Recording(root, OLD)
    disk = kind(recording)
    for content in (NEW, OLD + NEW):
        disk.write(path, content)
        recording.promise(content)
    found = []
    for cut in recording.cuts():
        for left in cut.states():
            content = left.tree.get(Path("update.json"))
            if content not in {cut.promised, cut.following}:
                found.append(f"after {cut.done}: {content!r}")
    return found


def test_a_careful_write_survives_every_cut(tmp_path: Path) -> None:
    """AGT-CUT-1: whatever the power cut leaves, the file is the old or the new one, and the promised one is there."""
    assert broken(tmp_path, Durable) == []


@pytest.mark.parametrize("kind", [NoDirectorySync, NoDataSync, NoSync, InPlace])
def test_the_enumerator_catches_planted_bugs(tmp_path: Path, kind: Callable[[Recording], Durable]) -> None:
    """AGT-CUT-2: no directory fsync, no data fsync, no fsync at all, and writing in place are each found."""
    assert broken(tmp_path, kind)


def test_each_bug_is_found_by_what_it_loses(tmp_path: Path) -> None:
    """AGT-CUT-2: lost, empty, half-written and zeroed files and lost renames are all among the states."""
    lost = broken(tmp_path, NoDataSync)
    half = repr(NEW[: len(NEW) // 2])
    assert all(any(content in line for line in lost) for content in ("b''", half, repr(bytes(len(NEW)))))
    assert any(repr(OLD) in line for line in broken(tmp_path, NoDirectorySync))
    in_place = broken(tmp_path, InPlace)
    assert any(line.endswith("b''") for line in in_place)


def test_names_reach_the_disk_in_any_order(tmp_path: Path) -> None:
    """AGT-CUT-1: of two unsynced changes of a directory the second may survive without the first."""
    recording = Recording(tmp_path)
    for name in ("a", "b"):
        recording(Operation("create", tmp_path / name))
    cut = list(recording.cuts())[-1]
    assert {tuple(sorted(str(path) for path in left.tree)) for left in cut.states()} == {(), ("a",), ("b",), ("a", "b")}


def test_a_rename_across_directories_never_loses_the_file(tmp_path: Path) -> None:
    """AGT-CUT-1: it is under its old name, its new one or both; once both directories are synced, under the new one."""
    for name in ("downloads", "artifacts"):
        (tmp_path / name).mkdir()
    (tmp_path / "downloads" / "a").write_bytes(b"model")
    recording = Recording(tmp_path)
    Durable(recording).rename(tmp_path / "downloads" / "a", tmp_path / "artifacts" / "a")
    seen = [
        {frozenset(str(path.parent) for path, data in left.tree.items() if data) for left in cut.states()}
        for cut in recording.cuts()
    ]
    old, new = frozenset({"downloads"}), frozenset({"artifacts"})
    assert seen[0] == {old}
    assert seen[1] == {old, new, old | new}
    assert seen[-1] == {new}


def test_a_lost_directory_takes_its_files_along(tmp_path: Path) -> None:
    """AGT-CUT-1: a synced file below an unsynced directory may be gone; the careful disk syncs parents first."""
    recording = Recording(tmp_path)
    recording(Operation("mkdir", tmp_path / "trust"))
    recording(Operation("create", tmp_path / "trust" / "f"))
    recording(Operation("write", tmp_path / "trust" / "f", data=b"x"))
    recording(Operation("fsync", tmp_path / "trust" / "f"))
    recording(Operation("fsync_dir", tmp_path / "trust"))
    assert {} in [left.tree for left in list(recording.cuts())[-1].states()]
    careful = Recording(tmp_path)
    disk = Durable(careful)
    disk.make_directory(tmp_path / "trust")
    disk.write(tmp_path / "trust" / "f", b"x")
    assert [left.tree for left in list(careful.cuts())[-1].states()] == [{Path("trust"): None, Path("trust/f"): b"x"}]


def test_a_growing_file_keeps_what_was_synced(tmp_path: Path) -> None:
    """AGT-CUT-1: pieces after the last sync may be lost, cut or zeroed; those before it are there."""
    recording = Recording(tmp_path)
    with Durable(recording).grow(tmp_path / "part") as growing:
        growing.append(b"first ")
        growing.sync()
        growing.append(b"second")
    recording(Operation("fsync_dir", tmp_path))
    found = {left.tree[Path("part")] for left in list(recording.cuts())[-1].states()}
    assert found == {b"first ", b"first second", b"first sec", b"first " + bytes(6)}

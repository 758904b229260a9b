"""Targets: who may list them, in which order roles are searched, and what is downloaded."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import quote

import pytest
from tuf.api.metadata import TargetFile

from tests.conformance.tuf.conftest import Client
from tests.conformance.tuf.repository import Repository, signer
from tests.conformance.tuf.test_metadata import days

TOP_REQUESTS = 4  # root, timestamp, snapshot, targets


@dataclass(frozen=True)
class Edge:
    """`delegator` delegates `paths` to `role`."""

    delegator: str
    role: str
    paths: tuple[str, ...] = ("*",)
    terminating: bool = False


@dataclass(frozen=True)
class Graph:
    """Delegations, and the roles that a search for a missing target visits, in order."""

    edges: tuple[Edge, ...]
    visited: tuple[str, ...]
    listed: dict[str, tuple[str, bytes]] = field(default_factory=dict)


T = "targets"
GRAPHS = {
    "one": Graph((Edge(T, "a"),), ("a",)),
    "two side by side": Graph((Edge(T, "a"), Edge(T, "b")), ("a", "b")),
    "two levels": Graph((Edge(T, "a"), Edge(T, "b"), Edge("b", "c")), ("a", "b", "c")),
    "depth first": Graph((Edge(T, "a"), Edge(T, "b"), Edge("a", "c"), Edge("a", "d")), ("a", "c", "d", "b")),
    "depth first, three levels": Graph(
        (Edge(T, "a"), Edge(T, "b"), Edge("a", "c"), Edge("c", "d")), ("a", "c", "d", "b")
    ),
    "terminating": Graph((Edge(T, "a"), Edge(T, "b"), Edge("a", "c", terminating=True), Edge("a", "d")), ("a", "c")),
    "terminating with a child": Graph(
        (Edge(T, "a"), Edge(T, "b"), Edge("a", "c", terminating=True), Edge("c", "d")), ("a", "c", "d")
    ),
    "other paths": Graph((Edge(T, "a", ("*.py",)), Edge(T, "b"), Edge("a", "c")), ("b",)),
    "other paths below": Graph((Edge(T, "a"), Edge(T, "b"), Edge("a", "c", ("*.py",)), Edge("c", "d")), ("a", "b")),
    "a circle": Graph(
        (Edge(T, "a"), Edge(T, "b"), Edge("b", "c"), Edge("c", "d"), Edge("d", "b")), ("a", "b", "c", "d")
    ),
    "two parents": Graph((Edge(T, "a"), Edge(T, "b"), Edge("b", "c"), Edge("a", "c")), ("a", "c", "b")),
    "two parents, other paths": Graph(
        (Edge(T, "a"), Edge(T, "b"), Edge("b", "c"), Edge("a", "c", ("*.py",))), ("a", "b", "c")
    ),
}


def build(repository: Repository, edges: tuple[Edge, ...]) -> None:
    for edge in edges:
        repository.delegate(edge.delegator, edge.role, list(edge.paths), terminating=edge.terminating)


def visited(repository: Repository) -> list[str]:
    """The roles that were asked for after the top-level ones."""
    return [path.split(".")[1] for path in repository.requests[TOP_REQUESTS:] if path.startswith("metadata/")]


@pytest.mark.parametrize("name", GRAPHS)
def test_the_order_of_a_search(client: Client, repository: Repository, name: str) -> None:
    """AGT-TUF-10: roles are searched depth first, in the order of their delegator, each once; terminating ends it."""
    graph = GRAPHS[name]
    build(repository, graph.edges)
    repository.publish(*[role for role in repository.roles if role not in ("root", "snapshot", "timestamp")])
    repository.publish("snapshot", "timestamp", bump=False)
    assert client.download("missing") == 1
    assert visited(repository) == list(graph.visited)


LIBRARY = (
    Edge(T, "docs", ("*.doc", "*.md")),
    Edge(T, "builds", ("builds/*/*",)),
    Edge("builds", "stable", ("builds/stable/*",)),
    Edge("builds", "nightly", ("builds/nightly/*.zip",)),
)
LISTED = {
    "plain": ("targets", b"plain"),
    "README.md": ("docs", b"read me"),
    "builds/stable/one": ("stable", b"stable"),
    "builds/nightly/two.zip": ("nightly", b"nightly"),
    "builds/other/three.zip": ("nightly", b"not delegated to it"),
}
SEARCHES = {
    "plain": [],
    "README.md": ["docs"],
    "builds/stable/one": ["builds", "stable"],
    "builds/nightly/two.zip": ["builds", "nightly"],
    "builds/other/three.zip": ["builds"],
}


@pytest.mark.parametrize("path", SEARCHES)
def test_who_may_list_a_target(client: Client, repository: Repository, path: str) -> None:
    """AGT-TUF-10: a target counts only where every delegation on the way covers its path."""
    build(repository, LIBRARY)
    for listed, (role, data) in LISTED.items():
        repository.add_target(role, listed, data)
    repository.everything()
    found = path != "builds/other/three.zip"
    assert client.download(path) == (0 if found else 1)
    assert client.downloaded() == ({LISTED[path][1]} if found else set())
    assert visited(repository)[-len(SEARCHES[path]) or 99 :] == SEARCHES[path]


@pytest.mark.parametrize("role", ["?", "#", "/delegated", "../delegated", ".", "..", "root history"])
def test_strange_role_names(client: Client, repository: Repository, role: str) -> None:
    """AGT-TUF-10: a role's name is quoted in the request and on the disk: it leads nowhere else."""
    repository.delegate("targets", role, ["*"])
    repository.everything()
    assert client.download("missing") == 1
    assert repository.name(role) in repository.requests
    assert quote(role, safe="") in {path.name.removesuffix(".json") for path in client.metadata.iterdir()}
    assert {path.name for path in client.directory.iterdir()} <= {"metadata", "root.json", "targets"}


def test_hash_bins(client: Client, repository: Repository) -> None:
    """AGT-TUF-10: succinct delegations: the bin of the path's hash is asked for, and no other."""
    names = repository.delegate_bins("bin", 3)
    assert len(names) == 8
    delegations = repository.targets.delegations
    assert delegations is not None
    assert delegations.succinct_roles is not None
    chosen = delegations.succinct_roles.get_role_for_target("path/to/file")
    repository.add_target(chosen, "path/to/file", b"in a bin")
    repository.everything()
    assert client.download("path/to/file") == 0
    assert client.downloaded() == {b"in a bin"}
    assert [name for name in names if repository.name(name) in repository.requests] == [chosen]


def test_one_role_of_two_parents_is_verified_for_each(client: Client, repository: Repository) -> None:
    """AGT-TUF-11: verified through one delegator, a role is verified again for another, whose key did not sign."""
    build(repository, (Edge(T, "a", ("a/*",)), Edge(T, "b", ("b/*",)), Edge("a", "shared", ("a/*",))))
    repository.roles["b"].delegations = None
    repository.delegate("b", "shared", ["b/*"])
    repository.signers["shared"].pop()  # signed for a alone
    repository.add_target("shared", "a/file", b"by a's key")
    repository.add_target("shared", "b/file", b"by nobody that b named")
    repository.everything()
    assert client.download("a/file", "b/file") == 1
    assert client.downloaded() == {b"by a's key"}
    assert client.download("b/file") == 1


def test_the_same_with_both_signatures(client: Client, repository: Repository) -> None:
    """AGT-TUF-11: signed for both, both find it in one run."""
    build(
        repository,
        (Edge(T, "a", ("a/*",)), Edge(T, "b", ("b/*",)), Edge("a", "shared", ("a/*",)), Edge("b", "shared", ("b/*",))),
    )
    for path in ("a/file", "b/file"):
        repository.add_target("shared", path, path.encode())
    repository.everything()
    assert client.download("a/file", "b/file") == 0
    assert client.downloaded() == {b"a/file", b"b/file"}


def test_delegated_metadata_that_has_expired(client: Client, repository: Repository) -> None:
    """AGT-TUF-5: an expired delegated role lists nothing and is not stored."""
    repository.delegate("targets", "late", ["late/*"]).expires = days(-1)
    repository.add_target("late", "late/file", b"x")
    repository.everything()
    assert client.refresh() == 0
    assert client.download("late/file") == 1
    assert not client.downloaded()
    assert "late" not in client.trusted()


@pytest.mark.parametrize("renewed", [False, True])
def test_delegated_metadata_that_expires_on_disk(client: Client, repository: Repository, renewed: bool) -> None:
    """AGT-TUF-5: what was trusted and has expired is used no more; a newer version is fetched where there is one."""
    repository.delegate("targets", "role", ["role/*"]).expires = days(7)
    for name in ("first", "second"):
        repository.add_target("role", f"role/{name}", name.encode())
    repository.everything()
    assert client.download("role/first") == 0
    if renewed:
        repository.roles["role"].expires = days(21)
        repository.publish("role", "snapshot", "timestamp")
    client.now = days(18)
    assert client.download("role/second") == (0 if renewed else 1)
    assert client.downloaded() == ({b"first", b"second"} if renewed else {b"first"})


def test_without_consistent_snapshots(client: Client, repository: Repository) -> None:
    """AGT-TUF-12: files are asked for without version and hash where the root says so."""
    repository.root.consistent_snapshot = False
    repository.delegate("targets", "role", ["role/*"])
    repository.add_target("role", "role/file", b"plain name")
    repository.everything()
    assert client.download("role/file") == 0
    assert repository.requests[-2:] == ["metadata/role.json", "targets/role/file"]
    assert client.downloaded() == {b"plain name"}


# -------------------------------------------------------------------- downloads


def test_a_target_below_folders(client: Client, repository: Repository) -> None:
    """AGT-TUF-12: the hash stands before the file's name, not before its folder; refreshing downloads nothing."""
    info = repository.add_target("targets", "path/to/a file", b"content")
    repository.everything()
    assert client.refresh() == 0
    assert not client.downloaded()
    assert client.download("path/to/a file") == 0
    assert client.downloaded() == {b"content"}
    assert repository.requests[-1] == f"targets/path/to/{info.hashes['sha256']}.a%20file"


def test_a_target_that_is_there_is_not_fetched_again(client: Client, repository: Repository) -> None:
    """AGT-TUF-12: with the right bytes on disk nothing is asked for; with wrong ones it is."""
    repository.add_target("targets", "file", b"content")
    repository.everything()
    assert client.download("file") == 0
    repository.requests.clear()
    assert client.download("file") == 0
    assert not [path for path in repository.requests if path.startswith("targets/")]
    next((client.directory / "targets").iterdir()).write_bytes(b"changed")
    assert client.download("file") == 0
    assert client.downloaded() == {b"content"}


def test_swapped_targets_are_refused(client: Client, repository: Repository) -> None:
    """AGT-TUF-12: other bytes of any length than the listed ones are not stored."""
    first = repository.add_target("targets", "first", b"content")
    second = repository.add_target("targets", "second", b"content")
    repository.everything()
    assert client.download("first") == 0
    for wrong in (b"CONTENT", b"longer content", b"short", b""):
        repository.serve_target(first, wrong)
        repository.serve_target(second, wrong)
        client.download("first")
        assert client.download("second") == 1
        assert client.downloaded() == {b"content"}


def test_a_target_that_changes_often(client: Client, repository: Repository) -> None:
    """AGT-TUF-12: each listed version replaces the one before it under the same name; unlisted bytes never do."""
    kept: set[bytes] = set()
    for number in range(6):
        info = repository.add_target("targets", "file", b"version %d" % number)
        repository.add_target("targets", f"other-{number}", b"other %d" % number)
        repository.everything()
        if number % 2:
            continue
        assert client.download("file", f"other-{number}") == 0
        kept.add(b"other %d" % number)
        assert client.downloaded() == {*kept, b"version %d" % number}
        repository.serve_target(info, b"malice")
        repository.everything()
        client.download("file")
        assert client.downloaded() == {*kept, b"version %d" % number}


@pytest.mark.parametrize("hashes", [["sha256"], ["sha512"], ["sha256", "sha512"]])
def test_hash_algorithms(client: Client, repository: Repository, hashes: list[str]) -> None:
    """AGT-TUF-12: each listed hash is checked, and one of them stands in the name."""
    info = repository.add_target("targets", "file", b"content", hashes)
    repository.everything()
    assert client.download("file") == 0
    assert repository.requests[-1] in {f"targets/{value}.file" for value in info.hashes.values()}
    assert client.downloaded() == {b"content"}


def test_an_unknown_hash_algorithm(client: Client, repository: Repository) -> None:
    """AGT-TUF-12: what cannot be checked is not stored."""
    info = TargetFile.from_data("file", b"content", ["sha512"])
    info.hashes["invented"] = info.hashes.pop("sha512")
    repository.targets.targets["file"] = info
    repository.serve_target(info, b"content")
    repository.everything()
    assert client.download("file") == 1
    assert not client.downloaded()


def test_a_delegation_signed_by_the_wrong_key(client: Client, repository: Repository) -> None:
    """AGT-TUF-11: a delegated role that its delegator's key did not sign lists nothing."""
    repository.delegate("targets", "role", ["*"])
    repository.signers["role"] = [signer()]
    repository.add_target("role", "file", b"content")
    repository.everything()
    assert client.download("file") == 1
    assert not client.downloaded()

"""Ceremonies: which key ends up where, and what they refuse."""

from pathlib import Path

import pytest
from tuf.api.metadata import Metadata, Root, Targets

from outrider_fleet.signing import ceremony
from outrider_fleet.signing.ceremony import Offline
from outrider_fleet.signing.errors import FloorLoweredError, PassphraseError, TrustExistsError, TrustMissingError
from outrider_fleet.signing.repository import TrustRepository
from outrider_protocol import signing
from outrider_protocol.errors import MalformedError
from tests.fleet.signing.fleet import Fleet


def test_offline_keys_never_enter_the_home(fleet: Fleet) -> None:
    """SGN-1: root and targets keys lie only where the operator said, all key files are 0600."""
    offline = {path.read_bytes() for path in fleet.offline.directory.iterdir()}
    assert len(offline) == 4
    inside = [path for path in fleet.home.rglob("*") if path.is_file()]
    assert not offline & {path.read_bytes() for path in inside}
    private = [path for path in inside if b"PRIVATE" in path.read_bytes()]
    assert {path.name for path in private} == {"director.pem", "snapshot.pem", "timestamp.pem"}
    for path in [*private, *fleet.offline.directory.iterdir()]:
        assert path.stat().st_mode & 0o777 == 0o600


def test_root_needs_two_of_three(fleet: Fleet) -> None:
    """SGN-2: root is signed by two of its three keys; one alone proves nothing."""
    data = TrustRepository(fleet.home / "trust").read("root.json")
    root = Metadata[Root].from_bytes(data)
    assert (len(root.signed.roles["root"].keyids), root.signed.roles["root"].threshold) == (3, 2)
    assert not root.signed.consistent_snapshot
    root.signed.verify_delegate("root", root.signed_bytes, root.signatures)
    alone = signing.sign_role(root.signed, [fleet.offline.load("root-1.pem")])
    single = Metadata[Root].from_bytes(alone)
    assert not root.signed.get_verification_result("root", single.signed_bytes, single.signatures).verified


def test_second_ceremony_is_refused(fleet: Fleet, tmp_path: Path) -> None:
    """SGN-3: trust that exists is never replaced."""
    before = {path: path.read_bytes() for path in fleet.home.rglob("*") if path.is_file()}
    with pytest.raises(TrustExistsError):
        ceremony.init_trust(fleet.home, Offline(tmp_path / "other"), fleet="test")
    assert before == {path: path.read_bytes() for path in fleet.home.rglob("*") if path.is_file()}
    assert not (tmp_path / "other").exists()


def test_passphrase(tmp_path: Path) -> None:
    """SGN-4: with a passphrase the offline keys are encrypted; without it, or with another, nothing is signed."""
    home, offline = tmp_path / "home", Offline(tmp_path / "offline", b"correct horse")
    ceremony.init_trust(home, offline, fleet="test")
    assert all(b"ENCRYPTED" in path.read_bytes() for path in offline.directory.iterdir())
    public = ceremony.make_pipeline_key(tmp_path / "har.pem")
    with pytest.raises(PassphraseError):
        ceremony.delegate(home, Offline(offline.directory), "har", public)
    with pytest.raises(signing.KeyFileError):
        ceremony.delegate(home, Offline(offline.directory, b"wrong"), "har", public)
    ceremony.delegate(home, offline, "har", public)


def test_passphrase_from_file_or_environment(tmp_path: Path) -> None:
    """SGN-4: the passphrase comes from a file's first line, else from the environment."""
    (tmp_path / "line").write_text("from file\nrest")
    (tmp_path / "empty").write_text("\n")
    assert ceremony.passphrase_from({}) is None
    assert ceremony.passphrase_from({"OUTRIDER_PASSPHRASE": "x"}) == b"x"
    both = {"OUTRIDER_PASSPHRASE": "x", "OUTRIDER_PASSPHRASE_FILE": str(tmp_path / "line")}
    assert ceremony.passphrase_from(both) == b"from file"
    for name in ("empty", "missing"):
        with pytest.raises(PassphraseError):
            ceremony.passphrase_from({"OUTRIDER_PASSPHRASE_FILE": str(tmp_path / name)})


def test_delegation_reaches_one_model(fleet: Fleet, tmp_path: Path) -> None:
    """SGN-5: a pipeline is given `<model>/*/*` and nothing else; delegating anew replaces its key."""
    public = ceremony.make_pipeline_key(tmp_path / "second.pem")
    ceremony.delegate(fleet.home, fleet.offline, "har", public)
    ceremony.delegate(fleet.home, fleet.offline, "other", public)
    targets = Metadata[Targets].from_bytes(TrustRepository(fleet.home / "trust").read("targets.json")).signed
    assert targets.version == 4
    assert targets.delegations is not None
    assert targets.delegations.roles is not None
    har = targets.delegations.roles["har"]
    assert (har.paths, har.threshold, har.terminating) == (["har/*/*"], 1, True)
    assert har.keyids == targets.delegations.roles["other"].keyids
    assert len(targets.delegations.keys) == 1
    assert [har.is_delegated_path(path) for path in ("har/1.0/x86-64", "other/1.0/x86-64", "har/1.0", "fleet/x/y")] == [
        True,
        False,
        False,
        False,
    ]


@pytest.mark.parametrize("model", ["root", "targets", "snapshot", "timestamp", "fleet", "online", "a/b", "../x"])
def test_no_model_is_named_like_a_role(fleet: Fleet, model: str) -> None:
    """SGN-5: a model cannot take the name of a top-level role or of a path."""
    with pytest.raises(MalformedError):
        ceremony.delegate(fleet.home, fleet.offline, model, bytes(32))


def test_floor_only_rises(fleet: Fleet) -> None:
    """SGN-6: a floor is raised by the targets key and never lowered."""
    assert ceremony.set_floor(fleet.home, fleet.offline, "har", 3).min_counter == {"har": 3}
    ceremony.set_floor(fleet.home, fleet.offline, "har", 3)
    ceremony.set_floor(fleet.home, fleet.offline, "other", 1)
    with pytest.raises(FloorLoweredError):
        ceremony.set_floor(fleet.home, fleet.offline, "har", 2)
    assert TrustRepository(fleet.home / "trust").floors().min_counter == {"har": 3, "other": 1}


def test_public_key_files(fleet: Fleet, tmp_path: Path) -> None:
    """SGN-5: a public key is read from its file; a private one or another kind is refused."""
    public = ceremony.public_from_file(ceremony.public_path(fleet.pipeline))
    assert public == signing.public_bytes(signing.load_private(fleet.pipeline))
    for path in (fleet.pipeline, tmp_path / "missing"):
        with pytest.raises(signing.KeyFileError):
            ceremony.public_from_file(path)


def test_ceremony_without_trust(tmp_path: Path) -> None:
    """SGN-3: a ceremony where no trust is, is a named error."""
    with pytest.raises(TrustMissingError):
        ceremony.set_floor(tmp_path, Offline(tmp_path / "offline"), "har", 1)

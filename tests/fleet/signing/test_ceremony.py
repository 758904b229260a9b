"""Ceremonies: which key ends up where, and what they refuse."""

import contextlib
import json
import shutil
from pathlib import Path

import pytest
from tuf.api.metadata import Metadata, Root, Targets

from outrider_fleet.errors import MetadataRefusedError
from outrider_fleet.pki.ca import utc_now
from outrider_fleet.signing import ceremony, rotation
from outrider_fleet.signing.errors import (
    FloorLoweredError,
    KeyUnknownError,
    NotDelegatedError,
    TrustExistsError,
    TrustMissingError,
)
from outrider_fleet.signing.offline import Offline
from outrider_fleet.signing.repository import TrustRepository
from outrider_fleet.signing.server import Signer
from outrider_protocol import signing
from outrider_protocol.errors import MalformedError
from outrider_protocol.signing import KeyFileError, PassphraseError, Secrets
from tests.fleet.signing.fleet import Fleet
from tests.fleet.signing.test_online import client
from tests.fleet.signing.test_verify import check, publish
from tests.protocol.softhsm import PIN, SoftHsm


def targets_of(fleet: Fleet) -> Targets:
    return Metadata[Targets].from_bytes(TrustRepository(fleet.home / "trust").read("targets.json")).signed


def test_offline_keys_never_enter_the_home(fleet: Fleet) -> None:
    """SGN-1: root and targets keys lie only where the operator said, all key files are 0600."""
    offline = {path.read_bytes() for path in fleet.offline.directory.iterdir()}
    assert len(offline) == 4
    inside = [path for path in fleet.home.rglob("*") if path.is_file()]
    assert not offline & {path.read_bytes() for path in inside}
    private = [path for path in inside if b"PRIVATE" in path.read_bytes()]
    assert {path.name for path in private} == {"audit.pem", "director.pem", "snapshot.pem", "timestamp.pem"}
    for path in [*private, *fleet.offline.directory.iterdir()]:
        assert path.stat().st_mode & 0o777 == 0o600


def test_three_custodians(tmp_path: Path) -> None:
    """SGN-1: each root key goes to the place that was named for it, a file or a directory, with its own passphrase."""
    places = (f"{tmp_path / 'alice'}/", f"{tmp_path / 'bob'}/", str(tmp_path / "carol" / "fleet-root.pem"))
    named = {"ROOT_1": "of alice", "ROOT_2": "of bob", "FLEET_ROOT": "of carol", "TARGETS": "of dora"}
    secrets = Secrets({f"OUTRIDER_PASSPHRASE_{key}": value for key, value in named.items()})
    offline = Offline(tmp_path / "dora", root=places, secrets=secrets, fresh=secrets, encrypted=True)
    ceremony.init_trust(tmp_path / "home", offline, fleet="test")
    found = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.pem") if "home" not in path.parts}
    assert found == {"alice/root-1.pem", "bob/root-2.pem", "carol/fleet-root.pem", "dora/targets.pem"}
    for path in found:
        assert b"ENCRYPTED PRIVATE KEY" in (tmp_path / path).read_bytes()
    alone = Secrets({"OUTRIDER_PASSPHRASE": "of alice"})
    signing.open_signer(tmp_path / "alice" / "root-1.pem", alone)
    with pytest.raises(KeyFileError):
        signing.open_signer(tmp_path / "bob" / "root-2.pem", alone)
    two = Offline(tmp_path / "dora", root=(places[0] + "root-1.pem", places[2]), secrets=secrets)
    assert rotation.rotate_root(tmp_path / "home", two).version == 2


def test_no_plain_key_by_accident(tmp_path: Path) -> None:
    """SGN-4: where keys shall be encrypted and no passphrase is set, no key file and no home is made."""
    with pytest.raises(PassphraseError):
        ceremony.init_trust(tmp_path / "home", Offline(tmp_path / "offline", encrypted=True), fleet="test")
    assert not list(tmp_path.rglob("*.pem"))


@pytest.mark.parametrize("root", [("a/", "b/"), ("a/k.pem", "a/k.pem", "b/"), ("a/", "b/", "c/", "d/")])
def test_places_that_are_none(tmp_path: Path, root: tuple[str, ...]) -> None:
    """SGN-1: three different places for three root keys, or none."""
    named = tuple(f"{tmp_path}/{place}" for place in root)
    with pytest.raises(KeyFileError):
        ceremony.init_trust(tmp_path / "home", Offline(tmp_path / "offline", root=named), fleet="test")
    assert not (tmp_path / "home" / "trust").exists()


def test_root_and_targets_on_tokens(softhsm: SoftHsm, tmp_path: Path) -> None:
    """SGN-31: root, targets and a pipeline sign on PKCS#11 tokens; what they signed is followed like any other."""
    offline = Offline(
        tmp_path,
        root=tuple(softhsm.uri(f"root-{n}", pin=False) for n in (1, 2, 3)),
        targets=softhsm.uri("targets", pin=False),
        secrets=Secrets({"OUTRIDER_PIN": PIN}),
        encrypted=True,
    )
    fleet = Fleet(tmp_path / "home", offline, Path(softhsm.uri("pipeline")))
    ceremony.init_trust(fleet.home, offline, fleet="test")
    ceremony.delegate(fleet.home, offline, "har", signing.public_from(softhsm.uri("pipeline"), Secrets()))
    rotation.rotate_online(fleet.home, offline, "timestamp")
    assert not [path for path in tmp_path.rglob("*.pem") if "keys" not in path.parts]
    signer = Signer(fleet.home)
    pipeline = signing.open_signer(softhsm.uri("pipeline"), Secrets())
    expires = targets_of(fleet).expires
    role = signing.add_targets(None, [signing.artifact_target("har/1.0/x86-64", b"manifest", 1)], expires, [pipeline])
    publish(signer, role)
    updater = client(fleet, tmp_path / "client")
    updater.refresh()
    assert updater.get_targetinfo("har/1.0/x86-64") is not None
    signer.journal.close()


def test_root_needs_two_of_three(fleet: Fleet) -> None:
    """SGN-2: root is signed by two of its three keys; one alone proves nothing."""
    data = TrustRepository(fleet.home / "trust").read("root.json")
    root = Metadata[Root].from_bytes(data)
    assert (len(root.signed.roles["root"].keyids), root.signed.roles["root"].threshold) == (3, 2)
    assert not root.signed.consistent_snapshot
    root.signed.verify_delegate("root", root.signed_bytes, root.signatures)
    alone = signing.sign_role(root.signed, [fleet.offline.signer(fleet.offline.root_places[0])])
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


def test_delegation_reaches_one_model(fleet: Fleet, tmp_path: Path) -> None:
    """SGN-5: a pipeline is given `<model>/*/*` and nothing else; delegating anew replaces its key."""
    public = ceremony.make_pipeline_key(tmp_path / "second.pem")
    ceremony.delegate(fleet.home, fleet.offline, "har", public)
    ceremony.delegate(fleet.home, fleet.offline, "other", public)
    targets = targets_of(fleet)
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


def test_two_pipelines_of_one_model(fleet: Fleet, tmp_path: Path) -> None:
    """SGN-5: CI and the training runner have a key each; either signs alone, and one may be revoked alone."""
    runner = tmp_path / "runner.pem"
    keys = [signing.public_from(ceremony.public_path(fleet.pipeline), Secrets()), ceremony.make_pipeline_key(runner)]
    ceremony.delegate(fleet.home, fleet.offline, "har", *keys)
    for key in (fleet.pipeline, runner):
        assert check(fleet, fleet.role(("1.0", 1), key=key))
    assert ceremony.revoke(fleet.home, fleet.offline, "har", [keys[1].keyid[:8]]) == [keys[0].keyid]
    assert check(fleet, fleet.role(("1.0", 1)))
    with pytest.raises(MetadataRefusedError):
        check(fleet, fleet.role(("1.0", 1), key=runner))


@pytest.mark.parametrize("model", ["root", "targets", "snapshot", "timestamp", "fleet", "online", "a/b", "../x"])
def test_no_model_is_named_like_a_role(fleet: Fleet, model: str) -> None:
    """SGN-5: a model cannot take the name of a top-level role or of a path."""
    public = signing.public_from(ceremony.public_path(fleet.pipeline), Secrets())
    for act in (
        lambda: ceremony.delegate(fleet.home, fleet.offline, model, public),
        lambda: ceremony.revoke(fleet.home, fleet.offline, model),
        lambda: ceremony.set_floor(fleet.home, fleet.offline, model, 1),
    ):
        with pytest.raises(MalformedError):
            act()


def test_revoked_pipeline(fleet: Fleet, signer: Signer, tmp_path: Path) -> None:
    """SGN-32: what a revoked pipeline signed is believed by nobody any more; every other role goes on as before."""
    first = fleet.role(("1.0", 1))
    publish(signer, first)
    client(fleet, tmp_path / "client").refresh()
    assert ceremony.revoke(fleet.home, fleet.offline, "har") == []
    with pytest.raises(NotDelegatedError):
        check(fleet, fleet.role(("1.1", 2), current=first))
    assert signer.handle({"op": "refresh"})["ok"]
    updater = client(fleet, tmp_path / "client")
    updater.refresh()
    assert updater.get_targetinfo("har/1.0/x86-64") is None
    with pytest.raises(NotDelegatedError):
        ceremony.revoke(fleet.home, fleet.offline, "har")
    with pytest.raises(NotDelegatedError):
        ceremony.revoke(fleet.home, fleet.offline, "other")


def test_after_a_theft(fleet: Fleet, signer: Signer, tmp_path: Path) -> None:
    """SGN-32: a new key signs on, listing what it vouches for alone; what the thief listed is gone for every device."""
    published = fleet.role(("1.0", 1))
    publish(signer, published)
    stolen = fleet.role(("6.6", 66), current=published)
    publish(signer, stolen)
    client(fleet, tmp_path / "client").refresh()
    new = tmp_path / "new.pem"
    ceremony.delegate(fleet.home, fleet.offline, "har", ceremony.make_pipeline_key(new))
    assert signer.handle({"op": "refresh"})["ok"]
    assert TrustRepository(fleet.home / "trust").trusted_target("har/6.6/x86-64", utc_now()) is None
    target = signing.artifact_target("har/1.0/x86-64", b"manifest 1.0", 1)
    key = signing.load_private(new)
    publish(signer, signing.add_targets(stolen, [target], targets_of(fleet).expires, [key], alone=True))
    updater = client(fleet, tmp_path / "client")
    updater.refresh()
    assert updater.get_targetinfo("har/1.0/x86-64") is not None
    assert updater.get_targetinfo("har/6.6/x86-64") is None


def test_only_keys_that_are_there_are_revoked(fleet: Fleet) -> None:
    """SGN-32: a key id that nobody has, that is too short or that fits two keys is refused, and nothing changes."""
    before = (fleet.home / "trust" / "targets.json").read_bytes()
    for part in ("ab" * 32, "", targets_of(fleet).delegations.roles["har"].keyids[0][:7]):  # type: ignore[union-attr,index]
        with pytest.raises(KeyUnknownError):
            ceremony.revoke(fleet.home, fleet.offline, "har", [part])
    assert (fleet.home / "trust" / "targets.json").read_bytes() == before


def test_floor_only_rises(fleet: Fleet) -> None:
    """SGN-6: a floor is raised by the targets key and never lowered."""
    assert ceremony.set_floor(fleet.home, fleet.offline, "har", 3).min_counter == {"har": 3}
    ceremony.set_floor(fleet.home, fleet.offline, "har", 3)
    ceremony.set_floor(fleet.home, fleet.offline, "other", 1)
    with pytest.raises(FloorLoweredError):
        ceremony.set_floor(fleet.home, fleet.offline, "har", 2)
    assert TrustRepository(fleet.home / "trust").floors().min_counter == {"har": 3, "other": 1}


def test_another_key_signs_no_targets(fleet: Fleet, tmp_path: Path) -> None:
    """SGN-33: a ceremony with a key that root does not list for targets is refused before anything is written."""
    before = (fleet.home / "trust" / "targets.json").read_bytes()
    for wrong in (fleet.pipeline, fleet.offline.directory / "root-1.pem", fleet.home / "keys" / "director.pem"):
        with pytest.raises(KeyUnknownError):
            ceremony.set_floor(fleet.home, Offline(tmp_path, targets=str(wrong)), "har", 3)
    assert (fleet.home / "trust" / "targets.json").read_bytes() == before


def test_public_key_files(fleet: Fleet, tmp_path: Path) -> None:
    """SGN-5: a public key is read from its file; a private one or another kind is refused."""
    public = signing.public_from(ceremony.public_path(fleet.pipeline), Secrets())
    assert public.keyid == signing.tuf_key(signing.load_private(fleet.pipeline)).keyid
    for path in (fleet.pipeline, tmp_path / "missing"):
        with pytest.raises(signing.KeyFileError):
            signing.public_from(path, Secrets())


def test_ceremony_without_trust(tmp_path: Path) -> None:
    """SGN-3: a ceremony where no trust is, is a named error."""
    with pytest.raises(TrustMissingError):
        ceremony.set_floor(tmp_path, Offline(tmp_path / "offline"), "har", 1)
    with pytest.raises(TrustMissingError):
        rotation.rotate_root(tmp_path, Offline(tmp_path / "offline"))


def test_expired_targets_are_renewed(fleet: Fleet, signer: Signer) -> None:
    """SGN-34: a ceremony works on expired roles too, and gives targets its whole life."""
    past = utc_now().replace(year=utc_now().year - 2)
    ceremony.renew_targets(fleet.home, fleet.offline, clock=lambda: past)
    assert not signer.handle({"op": "refresh"})["ok"]
    ceremony.renew_targets(fleet.home, fleet.offline)
    assert signer.handle({"op": "refresh"})["ok"]
    assert (targets_of(fleet).expires - utc_now()).days >= 364


def test_a_ceremony_that_breaks_off_leaves_trust_whole(
    fleet: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SGN-35: whichever of its writes is the last: what is there afterwards verifies, with the old floor or the new."""
    write, floors = TrustRepository.write, set()
    for last in range(5):
        home, done = tmp_path / f"home-{last}", 0
        shutil.copytree(fleet.home, home)

        def broken(self: TrustRepository, name: str, data: bytes, last: int = last) -> None:
            nonlocal done
            if done == last:
                raise OSError(28, "no space left")
            done += 1
            write(self, name, data)

        monkeypatch.setattr(TrustRepository, "write", broken)
        with contextlib.suppress(OSError):
            ceremony.set_floor(home, fleet.offline, "har", 3)
        monkeypatch.setattr(TrustRepository, "write", write)
        repository = TrustRepository(home / "trust")
        with repository.locked():
            repository.targets()
        floors.add(repository.floors().min_counter.get("har", 0))
    assert floors == {0, 3}


def test_an_interrupted_ceremony_is_finished(fleet: Fleet, tmp_path: Path) -> None:
    """SGN-35: whenever a ceremony's writing is interrupted, all of it takes effect or nothing does."""
    before, after = tmp_path / "before", fleet.home / "trust"
    shutil.copytree(after, before)
    ceremony.set_floor(fleet.home, fleet.offline, "har", 3)
    changed = {
        name: (after / name).read_bytes()
        for name in ("fleet/floors.json", "targets.json")
        if (after / name).read_bytes() != (before / name).read_bytes()
    }
    assert len(changed) == 2
    decided = json.dumps({name: data.decode() for name, data in changed.items()})
    for torn in (*range(len(changed) + 1), None):
        state = tmp_path / f"torn-{torn}"
        shutil.copytree(before, state)
        for name in list(changed)[: torn or 0]:
            (state / name).write_bytes(changed[name])
        if torn is not None:
            (state / ".ceremony").write_text(decided)
        repository = TrustRepository(state)
        with repository.locked():
            floor = repository.floors().min_counter.get("har", 0)
            repository.targets()
        assert floor == (0 if torn is None else 3)
        assert not (state / ".ceremony").exists()

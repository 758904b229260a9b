"""Ceremonies: what is done with the offline keys, by a person, away from the running server.

1. Root (three keys, any two sign) and targets keys go where the operator says and nowhere else; the server's home never
   holds them.
2. The online keys (snapshot, timestamp, director, audit) go to `home/keys`, where the signer process reads them.
3. A ceremony takes effect as a whole or not at all; the signer then signs snapshot and timestamp on top.
4. A floor only rises.

    offline = init_trust(home, Offline(Path("/media/stick/keys")), fleet="workshop")
    delegate(home, offline, "har", public_from(Path("pipeline.pem.pub"), secrets))
"""

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Final

from securesystemslib.signer import SSlibKey
from tuf.api.metadata import Root, Targets

from outrider_fleet.pki.ca import Clock, utc_now
from outrider_fleet.pki.files import given_directory, write_public
from outrider_fleet.signing import roles
from outrider_fleet.signing.errors import FloorLoweredError, KeyUnknownError, NotDelegatedError, TrustExistsError
from outrider_fleet.signing.offline import Offline
from outrider_fleet.signing.online import OnlineRoles
from outrider_fleet.signing.online_keys import OnlineKeys
from outrider_fleet.signing.repository import TrustRepository
from outrider_protocol import ids, signing
from outrider_protocol.audit import AUDIT_TARGET, AuditKeys
from outrider_protocol.director import DIRECTOR_TARGET, FLOORS_TARGET, Director, Floors
from outrider_protocol.signing import Signer

ID_PART: Final = 8
Files = dict[str, bytes]


def init_trust(home: Path, offline: Offline, *, fleet: str, clock: Clock = utc_now) -> Path:
    """Make all keys and the first metadata of a fleet; returns the path of the root of trust to hand to devices."""
    repository = TrustRepository(home / "trust")
    if repository.directory.exists() and any(repository.directory.iterdir()):
        raise TrustExistsError(f"{repository.directory} is not empty")
    root_keys, targets_key = offline.make_all()
    keys = OnlineKeys.create(home / "keys")
    top = roles.TopKeys(
        [key.public_key for key in root_keys],
        targets_key.public_key,
        *(signing.tuf_key(keys.present(name)) for name in ("snapshot", "timestamp")),
    )
    root = roles.first_root(top, clock())
    files = _first_files(fleet, keys)
    signed = signing.sign_role(root, root_keys[: roles.ROOT_THRESHOLD])
    targets = signing.sign_role(roles.first_targets(files, clock()), [targets_key])
    with repository.locked():
        repository.commit({"1.root.json": signed, "root.json": signed, "targets.json": targets, **files})
        OnlineRoles(repository, keys).refresh(clock())
    return repository.directory / "root.json"


def _first_files(fleet: str, keys: OnlineKeys) -> dict[str, bytes]:
    director, audit = (signing.public_bytes(keys.present(name)).hex() for name in ("director", "audit"))
    return {
        DIRECTOR_TARGET: Director(fleet, 1, (director,)).encode(),
        FLOORS_TARGET: Floors().encode(),
        AUDIT_TARGET: AuditKeys(fleet, (audit,)).encode(),
    }


def delegate(home: Path, offline: Offline, model: str, *keys: SSlibKey, clock: Clock = utc_now) -> None:
    """Let pipelines with these public keys sign releases of `model`, any of them alone, and no other pipeline."""
    ids.model_name(model)
    change_targets(home, offline, lambda targets, _: (roles.with_delegation(targets, model, keys, clock()), {}))


def revoke(home: Path, offline: Offline, model: str, out: Collection[str] = (), *, clock: Clock = utc_now) -> list[str]:
    """Take `model` away from the keys whose ids begin so, or from all; returns the ids of those that keep it.

    Raises `NotDelegatedError` or `KeyUnknownError`.
    """
    ids.model_name(model)

    def change(targets: Targets, _: TrustRepository) -> tuple[Targets, Files]:
        present = roles.delegated_keys(targets, model)
        if not present:
            raise NotDelegatedError(f"no pipeline is delegated the model {model!r}")
        chosen = [whole_id(part, present) for part in out]
        return roles.without_delegation(targets, model, chosen, clock()), {}

    return roles.delegated_keys(change_targets(home, offline, change), model)


def set_floor(home: Path, offline: Offline, model: str, counter: int, *, clock: Clock = utc_now) -> Floors:
    """Declare every release of `model` below `counter` unsafe; returns the new floors. Raises `FloorLoweredError`."""
    ids.model_name(model)

    def change(targets: Targets, repository: TrustRepository) -> tuple[Targets, Files]:
        present = repository.floors().min_counter
        if counter < present.get(model, 0):
            raise FloorLoweredError(f"the floor of {model} is {present[model]}, {counter} is lower")
        files = {FLOORS_TARGET: Floors({**present, model: counter}).encode()}
        return roles.with_files(targets, files, clock()), files

    change_targets(home, offline, change)
    return TrustRepository(home / "trust").floors()


def renew_targets(home: Path, offline: Offline, *, clock: Clock = utc_now) -> None:
    """Sign targets anew for another year, its content unchanged."""
    change_targets(home, offline, lambda targets, _: (roles.with_files(targets, {}, clock()), {}))


def change_targets(
    home: Path, offline: Offline, change: Callable[[Targets, TrustRepository], tuple[Targets, Files]]
) -> Targets:
    """Replace targets, and the fleet files that `change` returns with it, signed with the targets key."""
    repository = TrustRepository(home / "trust")
    repository.read("root.json")
    signer = offline.signer(offline.targets_place)
    with repository.locked():
        targets, files = change(repository.targets()[0], repository)
        repository.commit({**files, "targets.json": sign_targets(repository.root(), targets, signer)})
    return targets


def sign_targets(root: Root, targets: Targets, signer: Signer) -> bytes:
    """Metadata of targets; raises `KeyUnknownError` where root lists another key."""
    if signer.public_key.keyid not in root.roles[Targets.type].keyids:
        raise KeyUnknownError(f"{signer.public_key.keyid[:16]} is not the targets key that root lists")
    return signing.sign_role(targets, [signer])


def whole_id(part: str, known: Collection[str]) -> str:
    """The one key id that begins with `part`; raises `KeyUnknownError`."""
    found = [keyid for keyid in known if keyid.startswith(part)]
    if len(found) != 1 or len(part) < ID_PART:
        raise KeyUnknownError(f"{part!r} names {len(found)} keys; at least {ID_PART} digits of one are needed")
    return found[0]


def make_pipeline_key(path: Path, passphrase: bytes | None = None) -> SSlibKey:
    """Make a release pipeline's key at `path` and its public half at `path`.pub; returns the public key."""
    given_directory(path.parent)
    key = signing.generate()
    signing.save_private(key, path, passphrase)
    write_public(public_path(path), signing.public_pem(key))
    return signing.tuf_key(key)


def public_path(path: Path) -> Path:
    """Where the public half of the key at `path` lies."""
    return path.with_name(path.name + ".pub")

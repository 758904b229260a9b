"""Ceremonies: what is done with the offline keys, by a person, away from the running server.

1. Root (three keys, any two sign) and targets keys go to a directory that the operator names, one 0600 file a key,
   encrypted when a passphrase is given; the server's home never holds them.
2. The online keys (snapshot, timestamp, director) go to `home/keys`, where the signer process reads them.
3. `delegate` and `set_floor` sign targets anew; the signer then signs snapshot and timestamp on top.
4. A floor only rises.

    offline = init_trust(home, Path("/media/stick/keys"), fleet="workshop")
    delegate(home, offline, "har", public_from_file(Path("pipeline.pem.pub")))
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from securesystemslib.signer import SSlibKey
from tuf.api.metadata import Targets

from outrider_fleet.pki.ca import Clock, utc_now
from outrider_fleet.pki.files import private_directory, write_public
from outrider_fleet.signing import roles
from outrider_fleet.signing.errors import FloorLoweredError, PassphraseError, TrustExistsError
from outrider_fleet.signing.online import OnlineKeys, OnlineRoles
from outrider_fleet.signing.repository import TrustRepository
from outrider_protocol import ids, signing
from outrider_protocol.director import DIRECTOR_TARGET, FLOORS_TARGET, Director, Floors

ROOT_KEYS: Final = ("root-1.pem", "root-2.pem", "root-3.pem")
TARGETS_KEY: Final = "targets.pem"


@dataclass(frozen=True)
class Offline:
    """Where the offline keys lie, and the passphrase they are encrypted with (None: plain files)."""

    directory: Path
    passphrase: bytes | None = None

    def load(self, name: str) -> Ed25519PrivateKey:
        """Read one key; raises `PassphraseError` or `KeyFileError`."""
        path = self.directory / name
        if self.passphrase is None and path.exists() and b"ENCRYPTED" in path.read_bytes():
            raise PassphraseError(f"{path} is encrypted")
        return signing.load_private(path, self.passphrase)


def init_trust(home: Path, offline: Offline, *, fleet: str, clock: Clock = utc_now) -> Path:
    """Make all keys and the first metadata of a fleet; returns the path of the root of trust to hand to devices."""
    repository = TrustRepository(home / "trust")
    if repository.directory.exists() and any(repository.directory.iterdir()):
        raise TrustExistsError(f"{repository.directory} is not empty")
    root_keys, targets_key = _make_offline_keys(offline)
    keys = OnlineKeys.create(home / "keys")
    public = roles.TopKeys(
        [signing.tuf_key(key) for key in root_keys], *map(signing.tuf_key, (targets_key, keys.snapshot, keys.timestamp))
    )
    director = Director(fleet, 1, (signing.public_bytes(keys.director).hex(),))
    root = roles.first_root(public, clock())
    repository.write_root(root, signing.sign_role(root, root_keys[: roles.ROOT_THRESHOLD]))
    _write_targets(
        repository,
        roles.first_targets(director.encode(), Floors().encode(), clock()),
        targets_key,
        {DIRECTOR_TARGET: director.encode(), FLOORS_TARGET: Floors().encode()},
    )
    OnlineRoles(repository, keys).refresh(clock())
    return repository.directory / "root.json"


def delegate(home: Path, offline: Offline, model: str, public: bytes, *, clock: Clock = utc_now) -> None:
    """Let the pipeline with this raw Ed25519 public key sign releases of `model`, and no other pipeline."""
    repository = TrustRepository(home / "trust")
    targets, _ = repository.verified_targets(clock())
    key = SSlibKey.from_crypto(Ed25519PublicKey.from_public_bytes(public))
    changed = roles.with_delegation(targets, ids.model_name(model), key, clock())
    _write_targets(repository, changed, offline.load(TARGETS_KEY), {})


def set_floor(home: Path, offline: Offline, model: str, counter: int, *, clock: Clock = utc_now) -> Floors:
    """Declare every release of `model` below `counter` unsafe; returns the new floors. Raises `FloorLoweredError`."""
    repository = TrustRepository(home / "trust")
    targets, _ = repository.verified_targets(clock())
    present = repository.floors()
    if counter < present.min_counter.get(ids.model_name(model), 0):
        raise FloorLoweredError(f"the floor of {model} is {present.min_counter[model]}, {counter} is lower")
    floors = Floors({**present.min_counter, model: counter})
    changed = roles.with_floors(targets, repository.read(DIRECTOR_TARGET), floors.encode(), clock())
    _write_targets(repository, changed, offline.load(TARGETS_KEY), {FLOORS_TARGET: floors.encode()})
    return floors


def make_pipeline_key(path: Path, passphrase: bytes | None = None) -> bytes:
    """Make a release pipeline's key at `path` and its public half at `path`.pub; returns the raw public key."""
    private_directory(path.parent)
    key = signing.generate()
    signing.save_private(key, path, passphrase)
    pem = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    write_public(public_path(path), pem)
    return signing.public_bytes(key)


def public_path(path: Path) -> Path:
    """Where the public half of the key at `path` lies."""
    return path.with_name(path.name + ".pub")


def public_from_file(path: Path) -> bytes:
    """Read a raw Ed25519 public key from a PEM file (SubjectPublicKeyInfo); raises `KeyFileError`."""
    try:
        key = serialization.load_pem_public_key(path.read_bytes())
    except (OSError, ValueError) as error:
        raise signing.KeyFileError(f"{path}: {error}") from error
    if not isinstance(key, Ed25519PublicKey):
        raise signing.KeyFileError(f"{path}: not an Ed25519 public key")
    return key.public_bytes_raw()


def passphrase_from(environ: Mapping[str, str]) -> bytes | None:
    """The offline keys' passphrase from OUTRIDER_PASSPHRASE_FILE or OUTRIDER_PASSPHRASE; None when neither is set."""
    file = environ.get("OUTRIDER_PASSPHRASE_FILE")
    if file is None:
        return environ["OUTRIDER_PASSPHRASE"].encode() if environ.get("OUTRIDER_PASSPHRASE") else None
    try:
        line = Path(file).read_bytes().split(b"\n")[0].strip()
    except OSError as error:
        raise PassphraseError(f"{file}: {error.strerror}") from error
    if not line:
        raise PassphraseError(f"{file}: the first line is empty")
    return line


def _make_offline_keys(offline: Offline) -> tuple[list[Ed25519PrivateKey], Ed25519PrivateKey]:
    private_directory(offline.directory)
    made = [signing.generate() for _ in (*ROOT_KEYS, TARGETS_KEY)]
    for name, key in zip((*ROOT_KEYS, TARGETS_KEY), made, strict=True):
        signing.save_private(key, offline.directory / name, offline.passphrase)
    return made[:-1], made[-1]


def _write_targets(
    repository: TrustRepository, targets: Targets, key: Ed25519PrivateKey, files: Mapping[str, bytes]
) -> None:
    data = signing.sign_role(targets, [key])
    for path, content in files.items():
        repository.write(path, content)
    repository.write("targets.json", data)

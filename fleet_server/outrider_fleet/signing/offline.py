"""Where the offline keys are: a directory, three custodians' directories, or tokens.

1. Root has three keys and targets one; each lies in a file of its own (0600), or on a PKCS#11 token.
2. What is not named lies in the directory: `root-1.pem` … `root-3.pem`, `targets.pem`.
3. A new key file is encrypted, unless it was said in so many words that it shall not be.

    offline = Offline(Path("/media/stick"), root=("/media/a/", "/media/b/", "pkcs11:token=c;object=root"))
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from outrider_fleet.pki.files import given_directory
from outrider_protocol import signing
from outrider_protocol.signing import KeyFileError, PassphraseError, Secrets, Signer

ROOT_KEYS: Final = ("root-1.pem", "root-2.pem", "root-3.pem")
TARGETS_KEY: Final = "targets.pem"


@dataclass(frozen=True)
class Offline:
    """Places of the offline keys.

    `passphrase` is that of every file; without it `secrets` is asked, `fresh` for a key that is made. `root` and
    `targets` name keys that do not lie in `directory`. With `encrypted`, no key file is made without a passphrase.
    """

    directory: Path
    passphrase: bytes | None = None
    root: tuple[str, ...] = ()
    targets: str = ""
    secrets: Secrets = field(default_factory=Secrets)
    fresh: Secrets = field(default_factory=Secrets)
    encrypted: bool = False

    @property
    def root_places(self) -> tuple[str, ...]:
        """The root keys: those named, else those in the directory."""
        if self.root:
            return tuple(map(_in_directory, self.root, ROOT_KEYS)) if len(self.root) == len(ROOT_KEYS) else self.root
        return tuple(map(str, sorted(self.directory.glob("root-*.pem"))))

    @property
    def targets_place(self) -> str:
        """The targets key."""
        return _in_directory(self.targets, TARGETS_KEY) if self.targets else str(self.directory / TARGETS_KEY)

    def signer(self, place: str | Path) -> Signer:
        """Open one private key; raises `KeyFileError`, `PassphraseError` or `TokenError`."""
        secrets = self.secrets
        if self.passphrase is not None and not signing.is_token(place):
            given = self.passphrase
            secrets = Secrets(ask=lambda _question: given)
        return signing.open_signer(place, secrets)

    def root_signers(self) -> list[Signer]:
        """Every root key that is at hand."""
        return [self.signer(place) for place in self.root_places]

    def make(self, place: str | Path) -> Signer:
        """Make a key file at `place`, or open the key that a token has already; raises `KeyFileError`."""
        if not signing.is_token(place):
            path = Path(place)
            secret = self.secret_for(path)
            given_directory(path.parent)
            signing.save_private(signing.generate(), path, secret)
            return signing.open_signer(path, Secrets(ask=lambda _question: secret or b""))
        return self.signer(place)

    def make_all(self) -> tuple[list[Signer], Signer]:
        """Make root and targets keys, none of them where one is already."""
        places = [*(self.root_places or [str(self.directory / name) for name in ROOT_KEYS]), self.targets_place]
        _check_apart(places)
        made = [self.make(place) for place in places]
        if len({signer.public_key.keyid for signer in made}) < len(made):
            raise KeyFileError("two places hold the same key: root and targets need four different ones")
        return made[:-1], made[-1]

    def secret_for(self, path: Path) -> bytes | None:
        """The passphrase of a new file; raises `PassphraseError` where there is none and one is needed."""
        secret = self.passphrase or self.fresh.passphrase(path)
        if secret is None and self.encrypted:
            raise PassphraseError(f"{path} would be readable by whoever finds it: no passphrase is set")
        return secret


def _in_directory(place: str, name: str) -> str:
    """A directory stands for the file of the usual name in it."""
    is_directory = not signing.is_token(place) and (place.endswith("/") or Path(place).is_dir())
    return str(Path(place) / name) if is_directory else place


def _check_apart(places: Sequence[str]) -> None:
    if len(places) != len(ROOT_KEYS) + 1:
        raise KeyFileError(f"{len(places) - 1} places for root keys: three are needed, or none to take the directory's")
    taken = [place for place in places if not signing.is_token(place) and Path(place).exists()]
    if len(set(places)) < len(places) or taken:
        raise KeyFileError(f"{taken[0]} exists already" if taken else "two keys cannot lie in the same place")

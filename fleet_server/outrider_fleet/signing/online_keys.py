"""The private keys that the signer process holds: snapshot, timestamp, director and audit.

1. Each lies in `keys/<name>.pem`, readable by the signer's user alone; a ceremony puts its successor beside it
   (`<name>.next.pem`).
2. Which of the two is used, trust says: the one whose public half root (or the director or audit file) lists. So a
   rotation takes effect with the metadata that announces it, in a running signer too.
3. A successor that is in charge takes the former key's place, and the former is gone.

    keys = OnlineKeys.load(home / "keys")
    keys.for_role("timestamp", root)
"""

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tuf.api.metadata import Root

from outrider_fleet.pki.files import private_directory, sync_directory
from outrider_fleet.signing.errors import TrustBrokenError
from outrider_protocol import signing
from outrider_protocol.audit import AuditKeys
from outrider_protocol.director import Director

NEEDED: Final = ("snapshot", "timestamp", "director")
NAMES: Final = (*NEEDED, "audit")


class OnlineKeys:
    """Keys of one directory, read when they are needed and then kept."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._held: dict[str, Ed25519PrivateKey] = {}

    @classmethod
    def create(cls, directory: Path) -> "OnlineKeys":
        """Make and store new keys."""
        keys = cls(private_directory(directory))
        for name in NAMES:
            keys._held[name] = signing.generate()
            signing.save_private(keys._held[name], directory / f"{name}.pem")
        return keys

    @classmethod
    def load(cls, directory: Path) -> "OnlineKeys":
        """Read the keys; raises `KeyFileError`."""
        keys = cls(directory)
        for name in NEEDED:
            keys._held[name] = signing.load_private(directory / f"{name}.pem")
        return keys

    def present(self, name: str) -> Ed25519PrivateKey:
        """The key as it lies there, whatever trust says of it."""
        return self._held[name]

    def prepare(self, name: str) -> Ed25519PrivateKey:
        """Make a successor; one that an interrupted ceremony left is replaced."""
        path = private_directory(self._directory) / f"{name}.next.pem"
        path.unlink(missing_ok=True)
        key = signing.generate()
        signing.save_private(key, path)
        sync_directory(self._directory)
        return key

    def for_role(self, role: str, root: Root) -> Ed25519PrivateKey:
        """The key that root lists for snapshot or timestamp; raises `TrustBrokenError`."""
        return self._pick(role, root.roles[role].keyids, lambda key: signing.tuf_key(key).keyid)

    def for_orders(self, director: Director) -> Ed25519PrivateKey | None:
        """The key that the director file lists; None where it lists another's."""
        return self._pick_listed("director", director.keys)

    def for_heads(self, keys: AuditKeys) -> Ed25519PrivateKey | None:
        """The newest audit key, if it is here."""
        return self._pick_listed("audit", keys.keys[-1:])

    def _pick_listed(self, name: str, wanted: Collection[str]) -> Ed25519PrivateKey | None:
        try:
            return self._pick(name, wanted, lambda key: signing.public_bytes(key).hex())
        except TrustBrokenError:
            return None

    def _pick(
        self, name: str, wanted: Collection[str], identify: Callable[[Ed25519PrivateKey], str]
    ) -> Ed25519PrivateKey:
        held = self._held.get(name)
        if held is None or identify(held) not in wanted:
            held = self._look(name, wanted, identify)
            self._held[name] = held
        return held

    def _look(
        self, name: str, wanted: Collection[str], identify: Callable[[Ed25519PrivateKey], str]
    ) -> Ed25519PrivateKey:
        path = self._directory / f"{name}.pem"
        following = self._directory / f"{name}.next.pem"
        for found in (path, following):
            if found.exists() and identify(key := signing.load_private(found)) in wanted:
                if found == following:
                    following.replace(path)
                    sync_directory(self._directory)
                return key
        raise TrustBrokenError(f"{path} is not the key that trust lists for {name}")

r"""Sealed files: AES-256-GCM by chunks, under this device's key.

1. A file has a key of its own: HKDF-SHA256 of the device's key with 32 random bytes that stand in its header. So a
   nonce, which is the chunk's number, is never used twice under one key.
2. Each chunk is bound to its number, to the file's length and to the header (they are authenticated with it): chunks
   that are swapped, moved, cut off, added or changed in one bit do not open.
3. The key is a systemd credential (`$CREDENTIALS_DIRECTORY/outrider-artifacts-key`) where there is one, else the file
   `var/artifacts.key`, made once; others must not be able to read it.
4. `cryptography` is loaded when a file is sealed or opened, never at import.

    header: "ORSEAL1\n" · u32 bytes of a chunk · u64 length of the content · 32 bytes of salt   (big endian)
    then for each chunk its ciphertext and 16 bytes of tag
"""

from __future__ import annotations

import os
import secrets
import stat
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

from outrider_agent.durable import Durable
from outrider_agent.errors import AgentError
from outrider_agent.paths import Paths
from outrider_protocol import limits

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

SUFFIX: Final = ".sealed"
CREDENTIAL: Final = "outrider-artifacts-key"
TAG_BYTES: Final = 16
KEY_BYTES: Final = 32
_HEADER: Final = struct.Struct(">8sIQ32s")
HEADER_BYTES: Final = _HEADER.size
_MAGIC: Final = b"ORSEAL1\n"
_INFO: Final = b"outrider sealed file v1"


class SealedFileError(AgentError):
    """A sealed file is not what this device sealed: damaged, cut, reordered, or under another key."""

    hint = "The file was changed on this device, or its key was: delete the artifact's directory, it is fetched again."


class SealKeyError(AgentError):
    """The key of this device's sealed files is missing, too short, or open to others."""

    hint = "Restore the key, or turn off [artifacts] encrypt and order the release again; nobody else may read the key."


@dataclass(frozen=True)
class Header:
    """The first bytes of a sealed file; `length` is the content's, in bytes."""

    length: int
    salt: bytes
    chunk_bytes: int = limits.CHUNK_BYTES

    def encode(self) -> bytes:
        """The bytes."""
        return _HEADER.pack(_MAGIC, self.chunk_bytes, self.length, self.salt)

    @classmethod
    def decode(cls, data: bytes) -> Header:
        """Parse; raises `SealedFileError`."""
        if len(data) != HEADER_BYTES:
            raise SealedFileError("the header is cut off")
        magic, chunk_bytes, length, salt = _HEADER.unpack(data)
        if magic != _MAGIC or not 0 < chunk_bytes <= limits.MIB or length > limits.LAYER_BYTES:
            raise SealedFileError("the header is none")
        return cls(length, salt, chunk_bytes)

    @property
    def chunks(self) -> int:
        """How many; an empty content has one."""
        return max(1, -(-self.length // self.chunk_bytes))

    @property
    def file_bytes(self) -> int:
        """How long the sealed file is."""
        return HEADER_BYTES + self.length + self.chunks * TAG_BYTES

    def size_of(self, number: int) -> int:
        """The content's bytes in a chunk."""
        return max(0, min(self.chunk_bytes, self.length - number * self.chunk_bytes))


class Seal:
    """Seals and opens the chunks of one file."""

    def __init__(self, key: bytes, header: Header) -> None:
        self.header = header
        self._bound, self._cipher = header.encode(), _cipher(key, header.salt)

    @classmethod
    def new(cls, key: bytes, length: int) -> Seal:
        """For a file that is to be written."""
        return cls(key, Header(length, secrets.token_bytes(32)))

    def seal(self, number: int, data: bytes) -> bytes:
        """The sealed bytes of a chunk; raises `SealedFileError` for a chunk of another size than the header's."""
        if len(data) != self.header.size_of(number) or not 0 <= number < self.header.chunks:
            raise SealedFileError(f"chunk {number} has {len(data)} bytes")
        return self._cipher.encrypt(number.to_bytes(12, "big"), data, self._bound)

    def open(self, number: int, data: bytes) -> bytes:
        """The content of a chunk; raises `SealedFileError`."""
        from cryptography.exceptions import InvalidTag

        try:
            return self._cipher.decrypt(number.to_bytes(12, "big"), data, self._bound)
        except (InvalidTag, ValueError) as error:
            raise SealedFileError(f"chunk {number} does not open") from error


def _cipher(key: bytes, salt: bytes) -> AESGCM:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    return AESGCM(HKDF(SHA256(), KEY_BYTES, salt, _INFO).derive(key))


def opened(file: BinaryIO, key: bytes) -> Iterator[bytes]:
    """The content of a sealed file, chunk by chunk, each verified; raises `SealedFileError`."""
    header = Header.decode(file.read(HEADER_BYTES))
    size = os.fstat(file.fileno()).st_size
    if size != header.file_bytes:
        raise SealedFileError(f"{size} bytes, {header.file_bytes} were sealed")
    seal = Seal(key, header)
    for number in range(header.chunks):
        yield seal.open(number, file.read(header.size_of(number) + TAG_BYTES))


# -------------------------------------------------------------------- the device's key


def load_key(paths: Paths, environ: Mapping[str, str] = os.environ) -> bytes:
    """The device's key; raises `SealKeyError`."""
    return _read_key(_credential(environ) or paths.seal_key)


def make_key(paths: Paths, disk: Durable, environ: Mapping[str, str] = os.environ) -> bytes:
    """The device's key, made where there is none; durable before anything is sealed with it. Raises `SealKeyError`."""
    if _credential(environ) is None and not paths.seal_key.exists():
        disk.write(paths.seal_key, secrets.token_bytes(KEY_BYTES))
    return load_key(paths, environ)


def _credential(environ: Mapping[str, str]) -> Path | None:
    directory = environ.get("CREDENTIALS_DIRECTORY")
    path = Path(directory) / CREDENTIAL if directory else None
    return path if path is not None and path.exists() else None


def _read_key(path: Path) -> bytes:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise SealKeyError(f"{path}: {error.strerror}") from error
    with os.fdopen(fd, "rb") as file:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or status.st_mode & 0o077 or status.st_uid not in {0, os.geteuid()}:
            raise SealKeyError(f"{path}: not a plain file for its owner alone (mode {stat.S_IMODE(status.st_mode):o})")
        key = file.read(limits.KIB)
    if len(key) < KEY_BYTES:
        raise SealKeyError(f"{path}: {len(key)} bytes, at least {KEY_BYTES} are needed")
    return key

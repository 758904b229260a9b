"""Where passphrases and PINs come from: files and the environment, then the person at the terminal.

1. Never a command line, never an address: others read those.
2. A key has its own passphrase (`OUTRIDER_PASSPHRASE_ROOT_1` for `root-1.pem`), else the common one.
3. A file counts by its first line; an empty one is an error, not an empty passphrase.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from outrider_protocol.signing.errors import PassphraseError
from outrider_protocol.signing.uri import TokenUri

_PASSPHRASE, _PIN = "OUTRIDER_PASSPHRASE", "OUTRIDER_PIN"


@dataclass(frozen=True)
class Secrets:
    """Looks secrets up in `environ`; `ask` puts the question for a named key to a person, None where nobody sits."""

    environ: Mapping[str, str] = field(default_factory=dict)
    ask: Callable[[str], bytes] | None = None

    def passphrase(self, path: Path) -> bytes | None:
        """The passphrase of a key file; None where none is set and nobody can be asked."""
        own = re.sub(r"[^A-Z0-9]", "_", path.stem.upper())
        found = self._lookup(f"{_PASSPHRASE}_{own}") or self._lookup(_PASSPHRASE)
        return found if found is not None or self.ask is None else self.ask(f"passphrase of {path.name}")

    def pin(self, uri: TokenUri) -> bytes:
        """The PIN of a token; raises `PassphraseError` where there is none."""
        found = first_line(Path(uri.pin_file)) if uri.pin_file else self._lookup(_PIN)
        if found is None and self.ask is not None:
            found = self.ask(f"PIN for {uri.name}")
        if found is None:
            raise PassphraseError(f"{uri.name}: no PIN")
        return found

    def _lookup(self, name: str) -> bytes | None:
        file = self.environ.get(f"{name}_FILE")
        if file is not None:
            return first_line(Path(file))
        return self.environ[name].encode() if self.environ.get(name) else None


def first_line(path: Path) -> bytes:
    """The first line of a file; raises `PassphraseError` where there is none."""
    try:
        line = path.read_bytes().split(b"\n")[0].strip()
    except OSError as error:
        raise PassphraseError(f"{path}: {error.strerror}") from error
    if not line:
        raise PassphraseError(f"{path}: the first line is empty")
    return line

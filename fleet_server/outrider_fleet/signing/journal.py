"""The log of signatures: what the online keys have signed, written before a signature leaves the process.

1. One JSON line a signature in `logs/signatures.jsonl`, fsynced before the signature is given out.
2. A torn last line (power cut while writing) is cut off: its signature was never given out.
3. A line is written whole or not at all, on a full disk too: what follows it can always be read.
4. Anything else that cannot be read stops the signer: it must not forget what it signed.
"""

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from outrider_fleet.pki.files import private_directory, sync_directory
from outrider_fleet.signing.errors import JournalError, TrustBrokenError

Entry = dict[str, Any]


class Journal:
    """Appends entries and reads them back."""

    def __init__(self, path: Path) -> None:
        private_directory(path.parent)
        self.path = path
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        sync_directory(path.parent)

    def entries(self) -> list[Entry]:
        """All entries, after cutting off a torn last line; raises `TrustBrokenError`."""
        data = self.path.read_bytes()
        whole = data[: data.rfind(b"\n") + 1]
        if len(whole) < len(data):
            os.ftruncate(self._fd, len(whole))
        return [self._parse(number, line) for number, line in enumerate(whole.splitlines(), start=1)]

    def append(self, entries: Iterable[Entry]) -> None:
        """Write entries durably, all with one fsync; raises `JournalError`, then none of them was written."""
        lines = b"".join(json.dumps(entry, sort_keys=True).encode() + b"\n" for entry in entries)
        if not lines:
            return
        size = os.fstat(self._fd).st_size
        try:
            while lines:
                lines = lines[os.write(self._fd, lines) :]
            os.fsync(self._fd)
        except OSError as error:
            os.ftruncate(self._fd, size)
            raise JournalError(f"{self.path}: {error.strerror}") from error

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)

    def _parse(self, number: int, line: bytes) -> Entry:
        try:
            entry: Entry = json.loads(line)
        except ValueError as error:
            raise TrustBrokenError(f"{self.path}, line {number}: {error}") from error
        return entry

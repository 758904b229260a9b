"""Signs how far the audit log has come, and never two different pasts.

1. A head is signed only for a log that goes on from the last head: the signer is shown every entry in between and
   follows the chain itself. Who owns the web server cannot change what was signed before.
2. Each head is in the journal before it leaves; after a restart the signer goes on from there.
3. `reopen` goes back to an earlier head, for a log that was cut (a restored backup). What is given up stands in every
   later head.
"""

import datetime as dt
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from outrider_fleet.signing.errors import AuditForkedError, AuditKeyMissingError
from outrider_fleet.signing.journal import Entry as Line
from outrider_fleet.signing.journal import Journal
from outrider_protocol import audit, dsse, signing
from outrider_protocol.audit import START, Abandoned, AuditKeys, Head, Link
from outrider_protocol.errors import ChainError

KIND: Final = "audit_head"
REOPENED: Final = "audit_reopened"
KeyOf = Callable[[AuditKeys], Ed25519PrivateKey | None]


class HeadSigner:
    """Asks `key_of` for the audit key; remembers the last head and what was given up."""

    def __init__(self, key_of: KeyOf, journal: Journal, past: Iterable[Line]) -> None:
        self._key_of, self._journal = key_of, journal
        heads, self._abandoned = _replay(past)
        self.last = heads[-1]

    def seal(self, entries: Sequence[bytes], keys: AuditKeys | None, now: dt.datetime) -> bytes:
        """Return the signed head after `entries`, which follow the last one; raises `AuditForkedError`."""
        key = None if keys is None else self._key_of(keys)
        if keys is None or key is None:
            raise AuditKeyMissingError("no key of fleet/audit.json is here")
        link = self._follow(entries)
        head = Head(keys.fleet, link.seq, link.hash, int(now.timestamp() * 1000), self._abandoned)
        keyid = dsse.key_id(signing.public_bytes(key))
        line = {"kind": KIND, "at_ms": head.at_ms, "seq": link.seq, "hash": link.hash, "keyid": keyid}
        self._journal.append([line])
        self.last = link
        return signing.sign_envelope(audit.HEAD_TYPE, head.encode(), [key])

    def _follow(self, entries: Sequence[bytes]) -> Link:
        link = self.last
        try:
            for data in entries:
                link = audit.follow(link, audit.Entry.decode(data))
        except ChainError as error:
            raise AuditForkedError(f"head {self.last.seq} was signed: {error}") from error
        return link

    def reopen(self, kept: Link, reason: str, now: dt.datetime) -> None:
        """Go on from the earlier head `kept`; raises `AuditForkedError` where it was never signed."""
        if kept not in _replay(self._journal.entries())[0]:
            raise AuditForkedError(f"no head {kept.seq} with this hash was signed")
        lost = Abandoned(self.last.seq, self.last.hash, kept.seq, int(now.timestamp() * 1000))
        line = {"kind": REOPENED, "at_ms": lost.at_ms, "seq": kept.seq, "hash": kept.hash}
        self._journal.append([{**line, "lost_seq": lost.seq, "lost_hash": lost.hash, "reason": reason}])
        self.last, self._abandoned = kept, (*self._abandoned, lost)[-audit.ABANDONED :]


def _replay(past: Iterable[Line]) -> tuple[list[Link], tuple[Abandoned, ...]]:
    """The heads that count, in their order, and what was given up."""
    heads, abandoned = [START], list[Abandoned]()
    for line in past:
        if line["kind"] == REOPENED:
            heads = [link for link in heads if link.seq <= line["seq"]]
            abandoned.append(Abandoned(line["lost_seq"], line["lost_hash"], line["seq"], line["at_ms"]))
        elif line["kind"] == KIND:
            heads.append(Link(line["seq"], line["hash"]))
    return heads, tuple(abandoned[-audit.ABANDONED :])

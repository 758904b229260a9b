"""Seals the audit log: the signer process follows the chain from its last head and signs the new one.

1. The signer sees every entry since the head that it signed last: a log that was changed before it is not signed again.
2. The newest head is kept beside the log, and the last one of each hour; kept elsewhere, it tells a log that was cut.
3. Nothing new: nothing is asked and nothing is signed.
"""

from typing import Final

from outrider_fleet.app.fleet import Fleet
from outrider_fleet.errors import IllegalActionError
from outrider_fleet.signing.errors import AuditForkedError
from outrider_fleet.store import audit
from outrider_protocol.audit import START, Link

ENTRIES: Final = 500


class Seal:
    """Keeps the signed head up to the log's end; `step` is called now and then, in one thread."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._sealed: Link | None = None

    @property
    def holds(self) -> bool:
        """Whether the last look ended well."""
        return self._sealed is not None

    def step(self) -> None:
        """Seal what is new; raises `AuditForkedError` where the log does not go on from what was signed."""
        with self._fleet.look() as connection:
            end = audit.end(connection)
        if end == self._sealed:
            return
        self._sealed, last = None, self._fleet.signer.audit_head()
        self._check(last)
        while last.seq < end.seq or last.seq != self._kept():
            last = self._seal(last)
        self._sealed = last

    def _check(self, last: Link) -> None:
        with self._fleet.look() as connection:
            if audit.link(connection, last.seq) != last:
                raise AuditForkedError(f"head {last.seq} was signed; the log here does not contain it")

    def _kept(self) -> int:
        with self._fleet.look() as connection:
            head = audit.newest_head(connection)
        return 0 if head is None else int(head["seq"])

    def _seal(self, last: Link) -> Link:
        with self._fleet.look() as connection:
            entries = [audit.entry_of(row) for row in audit.after(connection, last.seq, ENTRIES)]
        envelope = self._fleet.signer.audit_seal([entry.encode() for entry in entries])
        sealed = entries[-1].link if entries else last
        with self._fleet.change() as change:
            audit.put_head(change.connection, change.now_ms, sealed.seq, sealed.hash, envelope)
        return sealed


def reopen(fleet: Fleet, reason: str, actor: str) -> dict[str, int]:
    """Go on with a log that was cut, and say so for ever; raises `IllegalActionError` where nothing is missing."""
    signed = fleet.signer.audit_head()
    with fleet.change() as change:
        if audit.link(change.connection, signed.seq) == signed:
            raise IllegalActionError(f"the log contains all that was signed (up to {signed.seq})")
        head = audit.newest_head(change.connection)
        kept = START if head is None else Link(head["seq"], head["hash"])
        lost = {"signed_seq": signed.seq, "signed_hash": signed.hash, "kept_seq": kept.seq}
        change.audit(actor, "audit.reopened", fleet.config.name, {**lost, "reason": reason})
        fleet.signer.audit_reopen(kept, reason)
    return {"signed_seq": signed.seq, "kept_seq": kept.seq}

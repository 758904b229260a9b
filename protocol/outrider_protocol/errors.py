"""Every error of the protocol, in one tree.

Callers branch on the class, never on the text; `hint` is the sentence the operator sees.
"""

from __future__ import annotations


class ProtocolError(Exception):
    """Root of all errors this package raises on purpose."""

    hint: str = ""


class TooLargeError(ProtocolError):
    """A document exceeds its limit in bytes: it was not parsed."""

    hint = "The sender is faulty or hostile: the limit stands in outrider_protocol.limits."

    def __init__(self, what: str, size_bytes: int, limit_bytes: int) -> None:
        super().__init__(f"{what}: {size_bytes} bytes, at most {limit_bytes} are allowed")
        self.what, self.size_bytes, self.limit_bytes = what, size_bytes, limit_bytes


class MalformedError(ProtocolError):
    """A document does not have the form that the protocol demands: discard it."""

    hint = "Correct what you wrote; if it was sent, the sender speaks another protocol or it was damaged on the way."


class UnsupportedError(ProtocolError):
    """A document demands something that this side does not know: update this side."""

    hint = "The sender is newer than this side: update this side, then try again."


class UntrustedError(ProtocolError):
    """A signed document failed a trust rule: discard it, keep what runs."""

    hint = "Keep what runs. If nobody attacks you, the fleet server's keys and this device's trust do not match."


class SignatureError(UntrustedError):
    """No signature by a key in charge."""

    hint = "The document was changed, or signed by a key that fleet/director.json does not list."


class WrongAudienceError(UntrustedError):
    """The order is addressed to another device, key or fleet."""

    hint = "The order was made for another device (or for this one's earlier key): the server must sign a new one."


class OrderTimeError(UntrustedError):
    """The order is expired, from the future or older than what this device has seen."""

    hint = "Compare the server's clock with this device's; a fresh order (`outrider-fleet up` signs anew) cures expiry."


class OrderSequenceError(UntrustedError):
    """The order's (epoch, seq) is not newer than the last accepted one."""

    hint = "An old order was replayed, or the restored server does not continue above what devices report."


class OrderConflictError(OrderSequenceError):
    """Two different orders carry the same (epoch, seq)."""

    hint = "Two servers sign for this fleet, or the director's counter was reset: raise the epoch."


class WrongTargetError(UntrustedError):
    """The order names a manifest that the trusted targets do not list in that place."""

    hint = "The release pipeline has not signed this artifact, or the order names another one."


class WrongHardwareError(UntrustedError):
    """The artifact is for another hardware profile than this device's."""

    hint = "Put the device into a group of its own profile, or build the release for its profile."


class BelowFloorError(UntrustedError):
    """The release's counter is below the signed floor of its model."""

    hint = "This release was declared unsafe with `outrider-fleet trust floor`: roll out a newer one."


class ParameterRangeError(UntrustedError):
    """An order's parameter is unknown to the artifact or outside its declared range."""

    hint = "The signed artifact declares names and ranges of parameters: order within them."


class ChainError(UntrustedError):
    """An entry of the audit log, or its signed head, does not fit to what is known of the log."""

    hint = "Entries were changed, removed, moved or inserted, or the log is another fleet's: docs/guides/trust.md."


class DigestMismatchError(UntrustedError):
    """Bytes do not have the digest or length that was signed."""

    hint = "The bytes were damaged or swapped on the way: they were discarded and will be fetched again."

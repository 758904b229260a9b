"""What the update process refuses or cannot do, and which end of an execution each is.

1. `TransientError`s end nothing: the supervisor tries again later.
2. A rule of trust that failed (`outrider_protocol.errors.ProtocolError`) is `rejected`.
3. Everything else leaves what runs untouched: `failed_unchanged`.
"""

from __future__ import annotations

from typing import Any

from outrider_agent.errors import AgentError, TransientError
from outrider_protocol.errors import ProtocolError, UntrustedError
from outrider_protocol.execution import State
from outrider_protocol.order import Order


class CannotRefreshError(TransientError):
    """The trust metadata could not be fetched: the last trusted set stands."""

    hint = "The fleet server has published no trust metadata, or the broker does not deliver it."


class RootMissingError(CannotRefreshError):
    """A root between the trusted one and the fleet's newest cannot be had: no device can step over it."""

    hint = "Publish every root again: the server's `trust/` must hold each `<n>.root.json` from the first on."


class TrustDamagedError(AgentError):
    """What this device remembers of its trust is missing or damaged: it does not guess, and updates stop."""

    hint = (
        "What runs goes on running. Enrol this device again (`outrider-agent enrol --again`), with the fleet's root of "
        "trust given out of band; check the disk that lost the file."
    )


class NotInFolderError(AgentError):
    """A folder that was brought here holds no order for this device."""

    hint = "Export a folder for this device: `outrider-fleet export --air-gap DIR --device ID`."
    exit_status = 2


class TrustExpiredError(TransientError):
    """The newest trust metadata that can be had has expired: nobody knows whether it is the newest."""

    hint = "Compare this device's clock with the server's; then see that the server signs its timestamp anew."


class UntrustedMetadataError(UntrustedError):
    """Trust metadata failed a rule of TUF: it was discarded."""

    hint = "Compare this device's root of trust with the fleet's; after a restored backup the server must sign anew."


class NoArtifactError(AgentError):
    """The trusted targets list no such artifact."""

    hint = "The release has no artifact for this hardware profile, or its pipeline has not published it."
    exit_status = 3


class StalledError(TransientError):
    """No chunk arrived for a while; what was verified stays for the next try."""

    hint = "The broker delivers no chunks: check that the server has published this artifact."


class NoSpaceError(AgentError):
    """The artifact does not fit the disk."""

    hint = "Free space on this device, then order again."
    exit_status = 4


class UnsafeFileError(AgentError):
    """A file of the artifact is not a plain file with one name: somebody else writes here."""

    hint = "Only the agent's user may write under its directory: check owners and permissions."


class LoadTestError(AgentError):
    """The artifact does not load, or does not give the expected outputs, on this device."""

    hint = "The release's golden vectors fail on this board: compare engine versions with the hardware profile."

    def __init__(self, error: str, message: str, hint: str) -> None:
        super().__init__(message, hint or None)
        self.error = error


class AlreadyInstalledError(AgentError):
    """The ordered artifact is the one that succeeded here last, and it runs."""


class RemovalOrderedError(AgentError):
    """A verified order to erase this device: nothing is installed, the supervisor does it."""

    def __init__(self, order: Order) -> None:
        super().__init__(f"order {order.epoch}/{order.seq} erases this device")


def end_of(error: Exception) -> str | None:
    """The end of the execution that an error is; None to try again."""
    if isinstance(error, TransientError):
        return None
    if isinstance(error, ProtocolError):
        return State.REJECTED.value
    if isinstance(error, NoArtifactError):
        return State.NO_ARTIFACT.value
    if isinstance(error, AlreadyInstalledError):
        return State.ALREADY_INSTALLED.value
    return State.FAILED_UNCHANGED.value


def told(error: Exception) -> dict[str, Any]:
    """How a refusal travels to the supervisor, in text that it can pass on."""
    name = error.error if isinstance(error, LoadTestError) and error.error else type(error).__name__
    return {"state": end_of(error), "error": name, "message": _sayable(str(error)), "hint": getattr(error, "hint", "")}


def _sayable(text: str) -> str:
    """Others' words may hold what UTF-8 cannot carry."""
    return text.encode("utf-8", "backslashreplace").decode()

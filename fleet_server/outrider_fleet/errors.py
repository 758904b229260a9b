"""Every error the fleet server raises, in one tree.

Callers branch on the class, never on the text; `hint` is the sentence the operator sees.
"""


class FleetError(Exception):
    """Root of all errors the fleet server raises on purpose."""

    hint: str = ""


class InvalidRequestError(FleetError):
    """A request does not have the form that is documented: change it."""

    hint = "See docs/spec/api.md for the form of every request."


class GateError(InvalidRequestError):
    """A gate of a rollout cannot be understood: nothing was started."""

    hint = "Known gates are `failures` and `shadow`, each with max_ratio (0..1) and min_sample (≥ 1)."


class ConfigError(FleetError):
    """fleet.toml, or the home directory, cannot be used."""

    hint = "Compare with docs/guides/operator.md; `outrider-fleet init DIR` makes a home."


class UnknownError(FleetError):
    """What was asked for does not exist."""

    hint = "List what there is: `outrider-fleet devices`; `list` of group, release, rollout, run, snapshot, token."


class ConflictError(FleetError):
    """The request contradicts what is stored; nothing was changed."""

    hint = "Look at the present state first; somebody else may have been quicker."


class ServerRunsError(ConflictError):
    """Another server runs on this home."""

    hint = "One server a home: use the one that runs, or end it first."


class PortTakenError(ConflictError):
    """The HTTP interface cannot listen where it should."""

    hint = "End what listens there, or choose another port: `up --http-port`, or `[api] port` in fleet.toml."


class LastOperatorError(ConflictError):
    """Without this token nobody could change the fleet any more."""

    hint = "Make another first: `outrider-fleet token create --kind operator`; the home's own is keys/operator.token."


class IllegalActionError(ConflictError):
    """This action is not possible in the present state."""

    hint = "Look at the present state first: what has ended stays as it is, and what does not wait needs no answer."


class UnauthenticatedError(FleetError):
    """No token, or one that is unknown, expired or revoked."""

    hint = "Make one with `outrider-fleet token create` and send it as `Authorization: Bearer …`."


class ForbiddenError(FleetError):
    """The token is valid, but of another kind."""

    hint = "Each kind of token opens its own requests: see docs/spec/api.md."


class TokenRefusedError(UnauthenticatedError):
    """An enrolment token is unknown, used, expired, or for another device."""

    hint = "Tokens are single-use and live for a day: `outrider-fleet token create --kind device` makes a new one."


class RefusedError(FleetError):
    """A rule of trust or safety forbids it: nothing was changed."""

    hint = "Nothing was stored. Correct the cause and try again."


class TamperedError(RefusedError):
    """Bytes are not those that were signed."""

    hint = "The upload was damaged or changed on the way: build and sign again, then publish."


class MetadataRefusedError(RefusedError):
    """The signed metadata of a release broke a rule of TUF."""

    hint = "Sign with the delegated key, on top of the current metadata (`GET /api/v1/trust/<model>.json`)."


class ReleaseRefusedError(RefusedError):
    """A release's content broke a rule."""

    hint = "`outrider-compiler inspect DIR` shows what the release holds."


class BelowFloorError(RefusedError):
    """The release is below the signed floor of its model."""

    hint = "It was declared unsafe with `outrider-fleet trust floor`: choose a newer one."


class WithdrawnError(RefusedError):
    """The release was published, and its signature does not count any more."""

    hint = "Its pipeline was revoked or has started over: sign and publish a release with a key that is delegated now."


class UnavailableError(FleetError):
    """A part of the server (signer, broker, store) does not answer: try again."""

    hint = "`outrider-fleet up` restarts its parts; see logs/ in the server's home."


class StoreError(FleetError):
    """The database cannot be used."""

    hint = "Is the file readable, the disk full, another server running on this home?"


class StoreTooNewError(StoreError):
    """The database was written by a newer server."""

    hint = "Update outrider-fleet, or restore the backup that fits this version."


class TooLargeError(FleetError):
    """A body exceeds its limit."""

    hint = "The limits stand in outrider_protocol.limits."

"""Errors of ceremonies, of the trust repository and of the signer process."""

from outrider_fleet.errors import ConfigError, MetadataRefusedError, RefusedError, UnavailableError


class TrustMissingError(ConfigError):
    """The trust repository lacks a file, or holds one that cannot be read."""

    hint = "Restore the `trust` directory from its backup; `outrider-fleet init` makes one in an empty home only."


class TrustExistsError(ConfigError):
    """There is trust in this home already: a second ceremony would orphan every enrolled device."""

    hint = "Keep what there is. A new fleet starts in an empty directory."


class TrustBrokenError(RefusedError):
    """The trust repository contradicts itself: nothing is signed on top of it."""

    hint = "A ceremony was interrupted or a file was changed: repeat the ceremony, or restore `trust` from its backup."


class KeyUnknownError(RefusedError):
    """No key of this role has this id, or more than one begins so."""

    hint = "`outrider-fleet trust status` lists the key ids of every role."


class RootThresholdError(RefusedError):
    """Too few root keys sign, or too few would be left."""

    hint = "Two of root's keys sign, former and new ones alike: name them with --root-key, or their directory."


class FloorLoweredError(RefusedError):
    """A floor only rises."""

    hint = "Going below a known-bad release is what the floor forbids: publish a newer release instead."


class SignatureThresholdError(MetadataRefusedError):
    """Too few valid signatures by the keys that the model is delegated to."""

    hint = "Sign with the key that was given to `outrider-fleet trust delegate MODEL --key PUB`."


class RolledBackMetadataError(MetadataRefusedError):
    """The uploaded version is not newer than the published one."""

    hint = "Fetch the current metadata (`GET /api/v1/trust/<model>.json`) and sign on top of it."


class ForeignTargetError(MetadataRefusedError):
    """The role lists a target outside `<model>/*/*`, or one without hash or counter."""

    hint = "A pipeline signs only its own model: `<model>/<version>/<profile>`."


class ChangedTargetError(MetadataRefusedError):
    """A published artifact was replaced under its own name."""

    hint = "A version, once published, keeps its bytes: give the release another version."


class NotDelegatedError(MetadataRefusedError):
    """No pipeline may sign this model."""

    hint = "`outrider-fleet trust delegate MODEL --key PUB` lets a pipeline sign it."


class OrderRefusedError(RefusedError):
    """The signer does not sign this order."""

    hint = "The order contradicts what was signed before, the director file or the clock: see logs/signatures.jsonl."


class AuditForkedError(RefusedError):
    """The audit log does not contain what was signed of it before."""

    hint = (
        "The log was changed, or the database was restored from a backup: `outrider-fleet audit verify` says where. "
        "After a restore, `outrider-fleet audit reopen --reason …` goes on and leaves a trace for ever."
    )


class AuditKeyMissingError(UnavailableError):
    """No key signs the heads of the audit log here."""

    hint = "`outrider-fleet trust rotate audit` makes one, in a fleet that was made before there were any."


class JournalError(UnavailableError):
    """The log of signatures could not be written: nothing is signed that is not in it."""

    hint = "Is the disk full, or logs/signatures.jsonl not the signer's own? It goes on by itself once it can write."


class SignerError(UnavailableError):
    """The signer process does not answer, or answered with an error it did not expect."""

    hint = "`outrider-fleet up` starts the signer; its log is logs/signer.log in the server's home."

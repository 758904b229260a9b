"""Errors of the training runner; the runner reports them as the end of its run."""

from outrider_fleet.errors import ConfigError, FleetError, UnavailableError


class RunnerConfigError(ConfigError):
    """training.toml cannot be used."""

    hint = "docs/spec/training.md lists the keys of training.toml; unknown ones are refused."


class ApiError(UnavailableError):
    """The fleet server did not answer, or refused; `name` is the server's error class."""

    hint = "Is `outrider-fleet up` running, and is the token of kind `runner`?"

    def __init__(self, message: str, *, name: str = "", status: int = 0) -> None:
        super().__init__(message)
        self.name, self.status = name, status


class LeaseLostError(FleetError):
    """Another runner has taken this run over: stop, and report nothing."""

    hint = "A claim without progress for an hour may be taken over; this runner was too slow or cut off."


class SnapshotDamagedError(FleetError):
    """The snapshot's bytes do not have its digest."""

    hint = "The snapshot was changed or damaged on the server: create a new one."


class CommandFailedError(FleetError):
    """A step's command ended with an error; the message carries the end of its log."""

    hint = "The whole log lies in runs/<id>/ in the runner's home."


class CommandTimeoutError(CommandFailedError):
    """A step's command took longer than it may."""

    hint = "Raise `train_timeout_s` in training.toml, or train on less."


class ResultMissingError(FleetError):
    """The training command ended well and left out a file."""

    hint = (
        "The command must write what training.toml names (model, calibration, evaluation) and training.json into {out}."
    )

"""Every error of this example, in one tree; `hint` is the sentence a person sees."""

from __future__ import annotations


class WatchError(Exception):
    """Root of the example's errors."""

    hint: str = ""


class DataMissingError(WatchError):
    """The recordings are not installed."""

    hint = "Install the example's dependency: pip install --no-deps seglearn==1.2.5"


class DataChangedError(WatchError):
    """The recordings' file is not the one this example was measured on: it is a pickle, so it is not opened."""

    hint = "Reinstall seglearn==1.2.5; never load a pickle whose digest is unknown."


class StreamEndedError(WatchError):
    """A device has no windows left: recordings are never looped."""

    hint = "The story asked for more windows than the recordings hold."


class StageError(WatchError):
    """A stage of the story did not reach its end."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint or "Look into the run's logs/ folder."


class RecordError(WatchError):
    """What a run left behind is incomplete: the checker cannot judge it."""

    hint = "Run the demo again, with KEEP=1 to look at what it leaves."

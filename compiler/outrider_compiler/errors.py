"""Every error of the compiler, in one tree; `exit_code` is the command's exit status.

0 done · 2 usage · 3 refused by profile or file · 4 gate failed.
"""

from __future__ import annotations

from typing import Any


class CompilerError(Exception):
    """Root of all errors this package raises on purpose."""

    hint: str = ""
    exit_code: int = 3

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        if hint:
            self.hint = hint

    def json(self) -> dict[str, Any]:
        """As commands print it with `--json`."""
        return {
            "error": type(self).__name__,
            "message": str(self),
            "hint": self.hint,
            "exit_code": self.exit_code,
        }


class UsageError(CompilerError):
    """The command or request is wrong: correct it."""

    hint = "`outrider-compiler COMMAND --help` explains every option."
    exit_code = 2


class RefusedError(CompilerError):
    """A file or profile forbids this build."""


class SourceError(RefusedError):
    """The model cannot be read or exported."""

    hint = "Give an .onnx file, `module:callable` that returns a torch module, or a state dict with --architecture."


class DataError(RefusedError):
    """Calibration or evaluation data cannot be used."""

    hint = "An .npz needs `x` (first axis samples) or `x:<input>` for each input; the evaluation set also needs `y`."


class UnsupportedModelError(RefusedError):
    """The profile's engine cannot run the model: change the model or the profile."""

    hint = "The message names the node or tensor: replace it, or build for a profile that runs it."


class UnchangedError(RefusedError):
    """A precision that was asked for changed nothing: leave out --precision, or ask for another."""

    hint = "Without --precision every form that the profile allows is built and measured."


class NothingBuiltError(RefusedError):
    """No profile got an artifact."""

    hint = "Install what the message names, or build for another profile."


class LockError(RefusedError):
    """The lock does not belong to these inputs, or the rebuilt artifact differs from it."""

    hint = (
        "Same model, data, profiles and package versions give the same bytes; build without --locked to measure anew."
    )


class LayoutError(RefusedError):
    """A release directory is not what it says it is."""

    hint = "Build the release again: its files do not have the digests that its index lists."


class PublishError(RefusedError):
    """The fleet server did not take the release."""


class GateError(CompilerError):
    """Not even the unquantized model may ship."""

    hint = "`build --markdown FILE` writes down every figure; look at the data and the training first."
    exit_code = 4

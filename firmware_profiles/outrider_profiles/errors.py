"""Every error of the profiles, in one tree."""

from __future__ import annotations


class ProfileError(Exception):
    """Root of all errors this package raises on purpose."""

    hint: str = ""


class UnknownProfileError(ProfileError):
    """No board of this name, and no file at this path."""

    hint = "`outrider-compiler profiles` lists the boards; a path to a TOML file of your own works too."


class ProfileFileError(ProfileError):
    """A profile file breaks the schema: correct the key."""

    hint = "docs/spec/profiles.md lists every key; compare with a file in outrider_profiles/boards."

    def __init__(self, file: str, key: str, reason: str) -> None:
        super().__init__(f"{file}: {key}: {reason}" if key else f"{file}: {reason}")
        self.file, self.key, self.reason = file, key, reason

"""From a TOML file to a `Profile`.

1. An unknown key, a missing key, a wrong type or a value out of range is a `ProfileFileError` with file, key, reason.
2. Every top-level figure has a source: a key in `[sources]` of the same name, and no source is for nothing.
3. Keys that contradict each other are refused in the same way (`contradictions`).
4. A name is looked up among the boards of this package; anything with a slash or `.toml` is a path.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Final

from outrider_profiles.contradictions import contradictions
from outrider_profiles.errors import ProfileFileError, UnknownProfileError
from outrider_profiles.reader import Table
from outrider_profiles.schema import ARCHITECTURES, ENGINES, INTEGERS, LOAD_MODES, PRECISIONS, Profile
from outrider_protocol import ids
from outrider_protocol.errors import MalformedError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

BOARDS: Final = Path(__file__).parent / "boards"
FILE_BYTES: Final = 64 * 1024
SOURCED: Final = ("engine", "providers", "precisions", "opset", "ir", "memory_bytes", "threads")
OPTIONAL_SOURCED: Final = ("cpu_features", "deny_operators", "int8", "load", "budgets", "shapes", "install")


def names() -> tuple[str, ...]:
    """Names of the boards that ship with this package, sorted."""
    return tuple(sorted(path.stem for path in BOARDS.glob("*.toml")))


def load(name_or_path: str | Path) -> Profile:
    """Load a board by name, or a file by path; raises `UnknownProfileError` or `ProfileFileError`."""
    text = str(name_or_path)
    path = Path(text) if "/" in text or text.endswith(".toml") else BOARDS / f"{text}.toml"
    if not path.is_file():
        raise UnknownProfileError(f"{text!r} is no hardware profile (known: {', '.join(names())})")
    return parse(_read(path), str(path) if path.parent != BOARDS else path.name)


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(FILE_BYTES + 1)
    except OSError as error:
        raise ProfileFileError(str(path), "", str(error.strerror)) from error
    if len(data) > FILE_BYTES:
        raise ProfileFileError(str(path), "", f"larger than {FILE_BYTES} bytes")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ProfileFileError(str(path), "", f"not UTF-8 ({error})") from error


def parse(text: str, file: str) -> Profile:
    """Parse the text of a profile; `file` is what errors call it."""
    try:
        value: dict[str, Any] = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # no TOML, a number of thousands of digits, nesting without end
        raise ProfileFileError(file, "", f"not TOML ({error})") from error
    profile = Table(value, file, "").read(Profile)
    _check_names(profile, file)
    _check_words(profile, file)
    _check_numbers(profile, file)
    for key, reason in contradictions(profile):
        raise ProfileFileError(file, key, reason)
    _check_sources(profile, value, file)
    return profile


def _check_names(profile: Profile, file: str) -> None:
    try:
        ids.profile_name(profile.name)
    except MalformedError as error:
        raise ProfileFileError(file, "name", str(error)) from error
    if Path(file).stem != profile.name:
        raise ProfileFileError(file, "name", f"{profile.name!r} is not the file's name")


def _check_words(profile: Profile, file: str) -> None:
    words = {
        "architecture": ([profile.architecture], ARCHITECTURES),
        "engine.name": ([profile.engine.name], ENGINES),
        "precisions": (profile.precisions, PRECISIONS),
        "int8.activation": ([profile.int8.activation], INTEGERS),
        "int8.weight": ([profile.int8.weight], INTEGERS),
        "load.mode": ([profile.load.mode], LOAD_MODES),
    }
    for key, (found, known) in words.items():
        for word in found:
            if word not in known:
                raise ProfileFileError(file, key, f"{word!r} is not one of {', '.join(sorted(known))}")
    if "fp32" not in profile.precisions:
        raise ProfileFileError(file, "precisions", "'fp32' is missing: the others are compared with it")


def _check_numbers(profile: Profile, file: str) -> None:
    for key, versions in (("opset", profile.opset), ("ir", profile.ir)):
        if not 1 <= versions.min <= versions.max:
            raise ProfileFileError(file, key, f"{versions.min}..{versions.max} is not a range")
    for key, number in (("threads", profile.threads), ("memory_bytes", profile.memory_bytes)):
        if number < 1:
            raise ProfileFileError(file, key, f"{number} is not positive")
    for key, number in vars(profile.budgets).items():
        if number < 0:
            raise ProfileFileError(file, f"budgets.{key}", f"{number} is negative")


def _check_sources(profile: Profile, value: dict[str, Any], file: str) -> None:
    needed = {*SOURCED, *(key for key in OPTIONAL_SOURCED if key in value)}
    for key in sorted(needed - set(profile.sources)):
        raise ProfileFileError(file, f"sources.{key}", "missing: say where the figure comes from")
    for key in sorted(set(profile.sources) - needed):
        raise ProfileFileError(file, f"sources.{key}", "is the source of nothing in this file")

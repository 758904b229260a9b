"""Version specifiers and pip requirements, as far as a profile may state them.

1. A specifier is PEP 440's `>=1.23,<2`: comparisons joined by commas. `===` is left out: it compares text.
2. A requirement is a name, extras where they are needed, and a specifier. No address, no marker, no option: what a
   profile names is asked of the registry that the device is set up for.
3. Stricter than PEP 440 in spelling (`1.0rc1`, not `1.0-RC.1`): what passes here passes there.

>>> is_specifier(">=1.23,<1.24"), is_specifier("1.23")
(True, False)
>>> is_requirement("numpy<2"), is_requirement("numpy @ https://example.org/numpy.whl")
(True, False)
"""

from __future__ import annotations

import re
from typing import Final

_RELEASE: Final = r"[0-9]+(?:\.[0-9]+)*"
_SUFFIX: Final = r"(?:(?:a|b|rc)[0-9]+)?(?:\.post[0-9]+)?(?:\.dev[0-9]+)?"
_CLAUSE: Final = (
    rf"(?:(?:==|!=) ?{_RELEASE}(?:\.\*|{_SUFFIX})|(?:<=|>=|<|>) ?{_RELEASE}{_SUFFIX}|~= ?[0-9]+(?:\.[0-9]+)+{_SUFFIX})"
)
_NAME: Final = r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?"
_SPECIFIER: Final = re.compile(rf"{_CLAUSE}(?:, ?{_CLAUSE})*", re.ASCII)
_REQUIREMENT: Final = re.compile(rf"{_NAME}(?:\[{_NAME}(?:,{_NAME})*\])?(?:{_CLAUSE}(?:,{_CLAUSE})*)?", re.ASCII)
_LONGEST: Final = 200


def is_specifier(text: str) -> bool:
    """Whether `text` is a version specifier."""
    return len(text) <= _LONGEST and _SPECIFIER.fullmatch(text) is not None


def is_requirement(text: str) -> bool:
    """Whether `text` is a pip requirement by name."""
    return len(text) <= _LONGEST and _REQUIREMENT.fullmatch(text) is not None

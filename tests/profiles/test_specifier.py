"""Version specifiers and requirements: what a profile may state of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from outrider_profiles.specifier import is_requirement, is_specifier

GOOD = (">=1.23,<2", "==2.14.0", "==2.14.*", "!=1.0rc1", "~=1.4.2", ">=1.0.post1", ">=1.24, <2", "<= 3.0a1.dev2")
BAD = (
    "",
    "1.23",
    ">=",
    ">=1.",
    "=1.2",
    "=>1.2",
    ">=1,",
    ",<2",
    ">=1;<2",
    "~=1",
    ">1.*",
    "===1.0",
    ">=1 || <2",
    "latest",
)
TEXT = st.text(alphabet="0123456789.<>=!~, *abrcpostdevnum[]-_", max_size=14)


@pytest.mark.parametrize("text", GOOD)
def test_specifiers_pass(text: str) -> None:
    """PRF-CON-2: comparisons joined by commas are a specifier, and `packaging` reads it."""
    assert is_specifier(text)
    SpecifierSet(text)


@pytest.mark.parametrize("text", [*BAD, ">=1," * 60 + ">=1"])
def test_what_is_no_specifier_is_refused(text: str) -> None:
    """PRF-CON-2: anything else is no specifier, nor is one without end."""
    assert not is_specifier(text)


@pytest.mark.parametrize("text", ["numpy", "numpy<2", "tflite-runtime==2.14.0", "a[b,c]>=1,<2", "x~=1.2"])
def test_requirements_pass(text: str) -> None:
    """PRF-CON-2: a name with a specifier is a requirement."""
    assert is_requirement(text)
    Requirement(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-r file",
        "--index-url=x",
        "numpy @ https://x.org/a.whl",
        "numpy; python_version<'3'",
        "./numpy",
        "numpy <2",
        "a b",
    ],
)
def test_what_is_no_requirement_by_name_is_refused(text: str) -> None:
    """PRF-CON-2: no address, marker, option or path."""
    assert not is_requirement(text)


@given(TEXT, st.sampled_from([">=", "==", "<", "~=", "!=", "numpy", "a[b]>="]))
def test_what_passes_here_passes_in_pip(text: str, start: str) -> None:
    """PRF-CON-2: whatever is let through is what `packaging`, and so pip, reads."""
    if is_specifier(start + text):
        SpecifierSet(start + text)
    if is_requirement(start + text):
        Requirement(start + text)

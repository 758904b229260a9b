"""The commands of a run, written out; pure.

1. The compiler is a program that is run, never imported.
2. The server's token goes to the compiler by environment, never on a command line that others can read.
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from outrider_fleet.training.claim import Claim, Workspace
from outrider_fleet.training.config import ModelConfig

_PRIVATE_PREFIX: Final = "OUTRIDER_"
_KEY_PREFIXES: Final = ("OUTRIDER_PASSPHRASE", "OUTRIDER_PIN", "OUTRIDER_PKCS11_MODULE")


def train(claim: Claim, model: ModelConfig, workspace: Workspace) -> list[str]:
    """The training command, its placeholders filled."""
    values = {
        "snapshot": str(workspace.snapshot),
        "out": str(workspace.out),
        "seed": str(model.seed),
        "base": model.base,
        "base_version": claim.base_version,
        "version": claim.version,
        "python": sys.executable,
    }
    return fill(model.train, values)


def build(compiler: Sequence[str], claim: Claim, model: ModelConfig, workspace: Workspace) -> list[str]:
    """`outrider-compiler build`."""
    out = workspace.out
    profiles = [part for profile in model.profiles for part in ("--profile", profile)]
    options = fill(model.build_options, {"out": str(out)})
    return [
        *_program(compiler),
        "build",
        str(out / model.model),
        "--name",
        claim.model,
        "--version",
        claim.version,
        "--counter",
        str(claim.counter),
        *profiles,
        "--calibration",
        str(out / model.calibration),
        "--evaluation",
        str(out / model.evaluation),
        "--task",
        model.task,
        "--out",
        str(workspace.release),
        "--provenance",
        str(workspace.provenance),
        *options,
    ]


def sign(compiler: Sequence[str], model: ModelConfig, workspace: Workspace, *, has_current: bool) -> list[str]:
    """`outrider-compiler sign`, on top of the published role when there is one."""
    current = ["--metadata", str(workspace.current_metadata)] if has_current else []
    return [
        *_program(compiler),
        "sign",
        str(workspace.release),
        "--key",
        model.key,
        *current,
        "--out",
        str(workspace.metadata),
    ]


def publish(compiler: Sequence[str], server: str, workspace: Workspace) -> list[str]:
    """`outrider-compiler publish`; the token is in the environment (`OUTRIDER_TOKEN`)."""
    return [
        *_program(compiler),
        "publish",
        str(workspace.release),
        "--server",
        server,
        "--metadata",
        str(workspace.metadata),
    ]


def _program(compiler: Sequence[str]) -> list[str]:
    return fill(compiler, {"python": sys.executable, "bin": str(Path(sys.executable).parent)})


def fill(arguments: Sequence[str], values: Mapping[str, str]) -> list[str]:
    """Replace `{name}` by its value; other braces stay as they are.

    >>> fill(["--out", "{out}/x", "{other}"], {"out": "/o"})
    ['--out', '/o/x', '{other}']
    """
    filled = list(arguments)
    for name, value in values.items():
        filled = [argument.replace(f"{{{name}}}", value) for argument in filled]
    return filled


def key_secrets(base: Mapping[str, str]) -> dict[str, str]:
    """What opens the pipeline's key: for the step that signs, and no other.

    >>> key_secrets({"OUTRIDER_PIN_FILE": "/run/pin", "OUTRIDER_TOKEN": "x"})
    {'OUTRIDER_PIN_FILE': '/run/pin'}
    """
    return {name: value for name, value in base.items() if name.startswith(_KEY_PREFIXES)}


def environment(base: Mapping[str, str], **extra: str) -> dict[str, str]:
    """The environment of a step: none of the runner's own secrets, apart from what the step is given."""
    kept = {name: value for name, value in base.items() if not name.startswith(_PRIVATE_PREFIX)}
    return {**kept, **extra}

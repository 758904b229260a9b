"""training.toml: what a runner does for each model. Commands stand here, never on the server.

1. A stolen fleet server cannot make a runner execute anything but what this file says.
2. Unknown keys are refused.
3. Placeholders in `train`: {snapshot} {out} {seed} {base} {base_version} {version} {python}.
   `compiler` knows {bin}, the directory of this Python's programs.

    [models.har]
    train = ["{python}", "train.py", "--snapshot", "{snapshot}", "--out", "{out}", "--seed", "{seed}"]
    key = "/srv/keys/har.pem"               # or "pkcs11:token=…;object=…"
    profiles = ["x86-64", "raspberry-pi-5"]
"""

import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any, Final

from outrider_fleet.training.errors import RunnerConfigError
from outrider_protocol import ids
from outrider_protocol.errors import MalformedError


@dataclass(frozen=True)
class ModelConfig:
    """How one model is trained, built and signed. File names are relative to the training command's {out}."""

    train: tuple[str, ...]
    key: str
    profiles: tuple[str, ...]
    base: str = ""
    directory: Path = Path()
    model: str = "model.onnx"
    calibration: str = "calibration.npz"
    evaluation: str = "evaluation.npz"
    task: str = "classification"
    build_options: tuple[str, ...] = ()
    seed: int = 0
    train_timeout_s: float = 6 * 3600.0
    build_timeout_s: float = 3600.0


@dataclass(frozen=True)
class RunnerConfig:
    """All models of a runner, and how often it asks for work."""

    models: dict[str, ModelConfig] = field(default_factory=dict)
    poll_s: float = 2.0
    beat_s: float = 5.0
    compiler: tuple[str, ...] = ("{bin}/outrider-compiler",)


_LISTS: Final = frozenset({"train", "profiles", "build_options", "compiler"})
_PATHS: Final = frozenset({"directory"})
_ADDRESS: Final = "pkcs11:"  # an address, kept as it is written


def read(path: Path) -> RunnerConfig:
    """Read training.toml; relative paths in it start at its own directory. Raises `RunnerConfigError`."""
    try:
        table = tomllib.loads(path.read_text())
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise RunnerConfigError(f"{path}: {error}") from error
    models = table.pop("models", {})
    if not isinstance(models, dict) or not models:
        raise RunnerConfigError(f"{path}: at least one [models.<name>] is needed")
    try:
        named = {ids.model_name(name): _model(f"models.{name}", value, path.parent) for name, value in models.items()}
    except MalformedError as error:
        raise RunnerConfigError(f"{path}: {error}") from error
    return RunnerConfig(models=named, **_values(RunnerConfig, "training.toml", table, skip={"models"}))


def _model(where: str, table: Any, directory: Path) -> ModelConfig:
    if not isinstance(table, dict):
        raise RunnerConfigError(f"{where}: a table is expected")
    values = _values(ModelConfig, where, table)
    if not values["key"].startswith(_ADDRESS):
        values["key"] = str(directory.absolute() / values["key"])
    values["directory"] = directory.absolute() / values.get("directory", Path())
    return ModelConfig(**values)


def _values(
    kind: type, where: str, table: Mapping[str, Any], skip: frozenset[str] | set[str] = frozenset()
) -> dict[str, Any]:
    known = {item.name: item for item in fields(kind) if item.name not in skip}
    unknown = sorted(set(table) - set(known))
    if unknown:
        raise RunnerConfigError(f"{where}: unknown key {unknown[0]!r}")
    for name, item in known.items():
        if name not in table and item.default is MISSING and item.default_factory is MISSING:
            raise RunnerConfigError(f"{where}: {name} is missing")
    return {name: _value(f"{where}.{name}", name, value) for name, value in table.items()}


def _value(where: str, name: str, value: Any) -> Any:
    if name in _LISTS:
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise RunnerConfigError(f"{where}: a list of strings is expected")
        return tuple(value)
    numeric = name.endswith("_s") or name == "seed"
    if isinstance(value, bool) or not isinstance(value, (int, float) if numeric else str):
        raise RunnerConfigError(f"{where}: a {'number' if numeric else 'string'} is expected")
    return Path(str(value)) if name in _PATHS else value

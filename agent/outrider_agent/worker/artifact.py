"""Read one committed artifact's directory: manifest, config, and every device layer by its title.

Rules (docs/spec/local-api.md):

- A file is opened without following links, must be a plain file with one name (`st_nlink == 1`), of the listed size.
- A preprocess layer is for one of the config's inputs, and takes exactly the dtype and shape that callers are told.
- Every file but the model is small: its digest is compared here. The model's is compared by the engine, on the bytes
  that it loads.
- A layer that lies there sealed (`outrider_agent.sealed`) is opened into memory, and nowhere else.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from outrider_agent.paths import Paths
from outrider_agent.sealed import SUFFIX, load_key, opened
from outrider_agent.worker.errors import ArtifactError, ModelFileError, PreprocessError
from outrider_protocol import ids, limits, tensors
from outrider_protocol.errors import ProtocolError
from outrider_protocol.manifest import Config, Descriptor, Manifest, Role, TensorSpec
from outrider_protocol.preprocess import Preprocess
from outrider_protocol.statistics import ReferenceStatistics

MANIFEST_FILE: Final = "manifest.json"
CONFIG_FILE: Final = "config.json"


@dataclass(frozen=True)
class Golden:
    """Inputs, expected outputs and the tolerances of their comparison."""

    inputs: dict[str, tensors.Tensor]
    outputs: dict[str, tensors.Tensor]
    rtol: float
    atol: float


@dataclass(frozen=True)
class Artifact:
    """What a worker needs of an artifact; `digest` is the manifest's, `model` the layer of the model file."""

    directory: Path
    digest: str
    config: Config
    model: Descriptor
    golden: Golden | None
    statistics: ReferenceStatistics | None
    preprocess: Preprocess | None = None

    @property
    def model_path(self) -> Path:
        """Where the model file lies."""
        return self.directory / (self.model.title + (SUFFIX if self.is_sealed else ""))

    @property
    def is_sealed(self) -> bool:
        """Whether the model lies there sealed: it cannot be mapped then."""
        return (self.directory / (self.model.title + SUFFIX)).exists()

    def read_model(self) -> bytes:
        """The model's bytes; raises `ModelFileError`, `SealedFileError` or `SealKeyError`."""
        return read_layer(self.directory / self.model.title, limits.LAYER_BYTES)


def read_artifact(directory: Path) -> Artifact:
    """Read and check everything but the model file; raises `ArtifactError`."""
    try:
        data = read_file(directory / MANIFEST_FILE, limits.MANIFEST_BYTES)
        manifest = Manifest.decode(data)
        layers = {layer.role: layer for layer in manifest.device_layers()}
        config = Config.decode(_checked(directory / CONFIG_FILE, manifest.config, limits.CONFIG_BYTES))
        return Artifact(
            directory,
            ids.digest_of(data),
            config,
            _model_layer(layers),
            _golden(directory, layers.get(Role.GOLDEN)),
            _statistics(directory, layers.get(Role.STATISTICS)),
            _preprocess(directory, layers.get(Role.PREPROCESS), config),
        )
    except ProtocolError as error:
        raise ArtifactError(f"{directory}: {error}") from error


def open_plain(path: Path) -> int:
    """A descriptor of a plain file with one name; raises `ModelFileError`."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise ModelFileError(f"{path}: {error.strerror}") from error
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
        os.close(fd)
        raise ModelFileError(f"{path}: not a plain file with one name")
    return fd


def read_file(path: Path, limit_bytes: int) -> bytes:
    """The content of a plain file of at most `limit_bytes`; raises `ModelFileError`."""
    with os.fdopen(open_plain(path), "rb") as file:
        data = file.read(limit_bytes + 1)
    if len(data) > limit_bytes:
        raise ModelFileError(f"{path}: more than {limit_bytes} bytes")
    return data


def read_layer(path: Path, limit_bytes: int) -> bytes:
    """The content of a layer, plain or sealed; raises `ModelFileError`, `SealedFileError` or `SealKeyError`."""
    closed = path.with_name(path.name + SUFFIX)
    if not closed.exists():
        return read_file(path, limit_bytes)
    with os.fdopen(open_plain(closed), "rb") as file:
        data = b"".join(opened(file, load_key(Paths.from_environment())))
    if len(data) > limit_bytes:
        raise ModelFileError(f"{path}: more than {limit_bytes} bytes")
    return data


def _checked(path: Path, layer: Descriptor, limit_bytes: int) -> bytes:
    data = read_layer(path, limit_bytes)
    if ids.digest_of(data) != layer.digest:
        raise ModelFileError(f"{path}: its digest is not the manifest's")
    return data


def _model_layer(layers: dict[Role, Descriptor]) -> Descriptor:
    if Role.MODEL not in layers:
        raise ArtifactError("the manifest lists no model for the device")
    return layers[Role.MODEL]


def _golden(directory: Path, layer: Descriptor | None) -> Golden | None:
    if layer is None:
        return None
    data = _checked(directory / layer.title, layer, limits.GOLDEN_BYTES)
    named, meta = tensors.decode(data, limits.GOLDEN_BYTES)
    inputs = {name[len("input:") :]: tensor for name, tensor in named.items() if name.startswith("input:")}
    outputs = {name[len("output:") :]: tensor for name, tensor in named.items() if name.startswith("output:")}
    return Golden(inputs, outputs, float(meta.get("rtol", 1e-3)), float(meta.get("atol", 1e-4)))


def _statistics(directory: Path, layer: Descriptor | None) -> ReferenceStatistics | None:
    if layer is None:
        return None
    return ReferenceStatistics.decode(_checked(directory / layer.title, layer, limits.STATISTICS_BYTES))


def _preprocess(directory: Path, layer: Descriptor | None, config: Config) -> Preprocess | None:
    if layer is None:
        return None
    data = _checked(directory / layer.title, layer, limits.PREPROCESS_BYTES)
    try:
        document = Preprocess.decode(data)
    except ProtocolError as error:
        raise PreprocessError(f"{layer.title}: {error}", error.hint) from error
    if not any(_alike(document.raw, spec) for spec in config.inputs):
        raise PreprocessError(f"{layer.title} prepares {document.raw}, the artifact's inputs are {list(config.inputs)}")
    return document


def _alike(raw: TensorSpec, told: TensorSpec) -> bool:
    """Whether callers are told the raw input; how many samples one inference takes is the model's own affair."""
    return (raw.name, raw.dtype, raw.shape[1:]) == (told.name, told.dtype, told.shape[1:])

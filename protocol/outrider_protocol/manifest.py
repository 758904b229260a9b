"""A release as an OCI image layout: index, one manifest per hardware profile, blobs by digest.

1. `index.json` lists a manifest descriptor per profile and, as referrers, manifests with a `subject`.
2. A layer annotated `outrider.device` goes to the device; its title is a plain file name, unique in the manifest.
3. A layer's chunk digests are listed (≤ 120 KiB each), so that every chunk is checked as it arrives.
4. Nothing here touches a disk: `BLOBS` and `blob_path` say where a file lies in a layout.

The annotations under `org.cncf.model` keep the CNCF ModelPack tools working.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from enum import Enum, unique
from typing import Any, Final

from outrider_protocol import canonical, ids, limits
from outrider_protocol.decision import Decision
from outrider_protocol.errors import MalformedError, TooLargeError
from outrider_protocol.fields import VERSION, Fields

LAYOUT_FILE: Final = "oci-layout"
LAYOUT_BYTES: Final = canonical.encode({"imageLayoutVersion": "1.0.0"})
INDEX_FILE: Final = "index.json"
BLOBS: Final = "blobs/sha256"

INDEX_TYPE: Final = "application/vnd.oci.image.index.v1+json"
MANIFEST_TYPE: Final = "application/vnd.oci.image.manifest.v1+json"
RELEASE_TYPE: Final = "application/vnd.outrider.release.v1+json"
ARTIFACT_TYPE: Final = "application/vnd.outrider.artifact.v1+json"
CONFIG_TYPE: Final = "application/vnd.outrider.config.v1+json"
EMPTY_TYPE: Final = "application/vnd.oci.empty.v1+json"
EMPTY_BYTES: Final = b"{}"

TITLE: Final = "org.opencontainers.image.title"
CNCF_PATH: Final = "org.cncf.model.filepath"
ROLE: Final = "outrider.role"
DEVICE: Final = "outrider.device"
CHUNKS: Final = "outrider.chunks"
CHUNK_SIZE: Final = "outrider.chunk-bytes"
PROFILE: Final = "outrider.profile"
MODEL: Final = "outrider.model"
RELEASE: Final = "outrider.release"
COUNTER: Final = "outrider.counter"


@unique
class Role(Enum):
    """What a device layer is; the value is also the end of its media type."""

    MODEL = "model"
    LABELS = "labels"
    GOLDEN = "golden"
    STATISTICS = "statistics"
    PREPROCESS = "preprocess"


@dataclass(frozen=True)
class Descriptor:
    """An OCI content descriptor; `size` in bytes."""

    media_type: str
    digest: str
    size: int
    annotations: dict[str, str] = field(default_factory=dict)
    artifact_type: str | None = None

    def json(self) -> dict[str, Any]:
        """The JSON form."""
        value: dict[str, Any] = {"mediaType": self.media_type, "digest": self.digest, "size": self.size}
        if self.artifact_type:
            value["artifactType"] = self.artifact_type
        if self.annotations:
            value["annotations"] = self.annotations
        return value

    @classmethod
    def read(cls, fields: Fields, limit_bytes: int = limits.LAYER_BYTES) -> Descriptor:
        """Read the JSON form; raises `MalformedError`."""
        return cls(
            fields.text("mediaType", limit=255),
            ids.digest(fields.text("digest")),
            fields.integer("size", high=limit_bytes),
            _annotations(fields),
            fields.optional_text("artifactType"),
        )

    @property
    def chunks(self) -> tuple[str, ...]:
        """The hex digests of the chunks; a blob of one chunk may omit them."""
        listed = self.annotations.get(CHUNKS, "")
        return tuple(listed.split(",")) if listed else (ids.hex_of(self.digest),)

    @property
    def title(self) -> str:
        """The file name on the device."""
        return safe_title(self.annotations.get(TITLE, ""))

    @property
    def role(self) -> Role:
        """What the layer is."""
        try:
            return Role(self.annotations.get(ROLE, ""))
        except ValueError:
            raise MalformedError(f"layer {self.digest}: unknown role {self.annotations.get(ROLE, '')[:40]!r}") from None


def _annotations(fields: Fields) -> dict[str, str]:
    raw = fields.raw("annotations")
    if not all(isinstance(value, str) for value in raw.values()):
        raise MalformedError(f"{fields.what}.annotations: only strings are allowed")
    return raw


def safe_title(title: str) -> str:
    """Return a plain file name, or raise `MalformedError`: no path, no dot file, no control characters."""
    plain = title.isascii() and title.replace(".", "").replace("_", "").replace("-", "").isalnum()
    if not plain or title.startswith(".") or len(title) > 64:
        raise MalformedError(f"layer title {title[:80]!r} is not a plain file name")
    return title


def blob_path(digest: str) -> str:
    """Where a blob lies in a layout."""
    return f"{BLOBS}/{ids.hex_of(digest)}"


def chunk_digests(data: bytes) -> tuple[str, ...]:
    """The hex SHA-256 of every chunk of `limits.CHUNK_BYTES`."""
    view, step = memoryview(data), limits.CHUNK_BYTES
    return tuple(hashlib.sha256(view[start : start + step]).hexdigest() for start in range(0, max(len(data), 1), step))


def device_layer(role: Role, title: str, data: bytes) -> Descriptor:
    """Describe a layer that goes to the device."""
    return Descriptor(
        f"application/vnd.outrider.{role.value}.v1",
        ids.digest_of(data),
        len(data),
        {
            ROLE: role.value,
            DEVICE: "true",
            TITLE: safe_title(title),
            CNCF_PATH: title,
            CHUNK_SIZE: str(limits.CHUNK_BYTES),
            CHUNKS: ",".join(chunk_digests(data)),
        },
    )


@dataclass(frozen=True)
class Manifest:
    """One artifact (config and layers), or a referrer when `subject` is set."""

    config: Descriptor
    layers: tuple[Descriptor, ...]
    annotations: dict[str, str]
    artifact_type: str = ARTIFACT_TYPE
    subject: Descriptor | None = None

    def encode(self) -> bytes:
        """Canonical bytes: their digest is the artifact's."""
        value: dict[str, Any] = {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "artifactType": self.artifact_type,
            "config": self.config.json(),
            "layers": [layer.json() for layer in self.layers],
            "annotations": self.annotations,
        }
        if self.subject is not None:
            value["subject"] = self.subject.json()
        return canonical.encode(value)

    @classmethod
    def decode(cls, data: bytes) -> Manifest:
        """Parse bytes whose digest was verified; titles are unique, chunk lists fit their sizes."""
        fields = Fields(canonical.decode(data, limits.MANIFEST_BYTES, "manifest"), "manifest")
        layers = tuple(Descriptor.read(item) for item in fields.objects("layers"))
        subject = fields.optional_object("subject")
        manifest = cls(
            Descriptor.read(fields.object("config"), limits.CONFIG_BYTES),
            layers,
            _annotations(fields),
            fields.text("artifactType", limit=255),
            Descriptor.read(subject) if subject else None,
        )
        manifest._check()
        return manifest

    def _check(self) -> None:
        if len(self.layers) > limits.LAYERS:
            raise TooLargeError("layers of a manifest", len(self.layers), limits.LAYERS)
        titles = [layer.title for layer in self.device_layers()]
        if len(set(titles)) != len(titles) or {"config.json", "manifest.json"} & set(titles):
            raise MalformedError("manifest: two files of one name")
        for layer in self.device_layers():
            _check_chunks(layer)

    def device_layers(self) -> tuple[Descriptor, ...]:
        """The layers that go to the device."""
        return tuple(layer for layer in self.layers if layer.annotations.get(DEVICE) == "true")


def _check_chunks(layer: Descriptor) -> None:
    expected = max(1, -(-layer.size // limits.CHUNK_BYTES))
    if len(layer.chunks) != expected or any(len(chunk) != 64 for chunk in layer.chunks):
        raise MalformedError(f"layer {layer.title}: {len(layer.chunks)} chunks listed, {expected} needed")


@dataclass(frozen=True)
class TensorSpec:
    """Name, numpy dtype name and shape of a model's input or output; −1 is a free dimension."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @classmethod
    def read(cls, fields: Fields) -> TensorSpec:
        """Read the JSON form."""
        shape = fields.list("shape")
        if not all(isinstance(n, int) and not isinstance(n, bool) and n >= -1 for n in shape):
            raise MalformedError(f"{fields.what}.shape: integers from −1 are expected")
        return cls(fields.text("name"), fields.text("dtype", limit=16), tuple(shape))


@dataclass(frozen=True)
class Load:
    """How the engine must load the model: `mode` is "default" or "mmap"; threads of one inference."""

    mode: str = "default"
    prepack: bool = True
    threads: int = 1


@dataclass(frozen=True)
class Provider:
    """An execution provider of the engine, with its options."""

    name: str
    options: dict[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, fields: Fields) -> Provider:
        """Read the JSON form; raises `MalformedError`."""
        options = fields.raw("options")
        if not all(isinstance(value, str) for value in options.values()):
            raise MalformedError(f"{fields.what}.options: only strings are allowed")
        return cls(fields.text("name", limit=64), options)


@dataclass(frozen=True)
class Parameter:
    """A number that an order may set, within its range."""

    min: float
    max: float
    default: float


PARAMETERS: Final = {
    "shadow_windows": Parameter(0, 100_000, 0),
    "shadow_disagreement_max": Parameter(0, 1, 1),
    "probation_windows": Parameter(0, 100_000, 10),
    "probation_s": Parameter(0, 604_800, 600),
}


@dataclass(frozen=True)
class Config:
    """The config blob of an artifact: what a worker needs to know to run the model.

    `probabilities` names the deciding output, which `decision` explains. `providers` are tried in order; none means the
    engine's CPU.
    """

    model: str
    version: str
    counter: int
    profile: str
    engine: str
    precision: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    probabilities: str
    classes: tuple[str, ...]
    embedding: str | None = None
    load: Load = Load()
    decision: Decision = field(default_factory=Decision)
    providers: tuple[Provider, ...] = ()
    parameters: dict[str, Parameter] = field(default_factory=lambda: dict(PARAMETERS))

    def encode(self) -> bytes:
        """Canonical bytes."""
        return canonical.encode(
            {
                **{name: getattr(self, name) for name in _PLAIN_FIELDS},
                "v": VERSION,
                "inputs": [_spec_json(spec) for spec in self.inputs],
                "outputs": [_spec_json(spec) for spec in self.outputs],
                "classes": list(self.classes),
                "load": vars(self.load),
                **self._decision(),
                "providers": [vars(provider) for provider in self.providers],
                "parameters": {name: vars(parameter) for name, parameter in self.parameters.items()},
            }
        )

    def _decision(self) -> dict[str, Any]:
        """Critical where it is not a classifier: who does not know the field must not take values for probabilities."""
        if self.decision.task == "classification":
            return {}
        return {"decision": self.decision.json(), "crit": ["decision"]}

    @classmethod
    def decode(cls, data: bytes) -> Config:
        """Parse a blob whose digest was verified; raises `MalformedError`."""
        fields = Fields(canonical.decode(data, limits.CONFIG_BYTES, "config"), "config")
        fields.versioned(frozenset(cls.__dataclass_fields__) | {"v"})
        load, decision = fields.object("load"), fields.optional_object("decision")
        return cls(
            model=ids.model_name(fields.text("model")),
            version=ids.version(fields.text("version")),
            counter=fields.integer("counter", low=1),
            profile=ids.profile_name(fields.text("profile")),
            engine=fields.text("engine", limit=32),
            precision=fields.text("precision", limit=32),
            inputs=tuple(map(TensorSpec.read, fields.objects("inputs"))),
            outputs=tuple(map(TensorSpec.read, fields.objects("outputs"))),
            probabilities=fields.text("probabilities"),
            classes=fields.texts("classes"),
            embedding=fields.optional_text("embedding"),
            load=Load(load.text("mode", limit=16), load.flag("prepack"), load.integer("threads", low=1, high=1024)),
            decision=Decision.read(decision) if decision else Decision(),
            providers=tuple(map(Provider.read, fields.objects("providers"))) if "providers" in fields.value else (),
            parameters=_parameters(fields),
        )

    def ranges(self) -> dict[str, tuple[float, float, float]]:
        """Name → (min, max, default), as `trust.resolve_parameters` takes it."""
        return {name: (p.min, p.max, p.default) for name, p in self.parameters.items()}


_PLAIN_FIELDS: Final = ("model", "version", "counter", "profile", "engine", "precision", "probabilities", "embedding")


def _spec_json(spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "dtype": spec.dtype, "shape": list(spec.shape)}


def _parameters(fields: Fields) -> dict[str, Parameter]:
    outer = fields.object("parameters")
    inner = {name: outer.object(name) for name in outer.value}
    return {name: Parameter(p.number("min"), p.number("max"), p.number("default")) for name, p in inner.items()}


@dataclass(frozen=True)
class Index:
    """`index.json` of a release: the artifacts by profile, and the referrers of their manifests."""

    model: str
    release: str
    counter: int
    artifacts: dict[str, Descriptor]
    referrers: tuple[Descriptor, ...] = ()

    def encode(self) -> bytes:
        """Canonical bytes."""
        listed = [descriptor for _, descriptor in sorted(self.artifacts.items())] + list(self.referrers)
        return canonical.encode(
            {
                "schemaVersion": 2,
                "mediaType": INDEX_TYPE,
                "artifactType": RELEASE_TYPE,
                "manifests": [descriptor.json() for descriptor in listed],
                "annotations": {MODEL: self.model, RELEASE: self.release, COUNTER: str(self.counter)},
            }
        )

    @classmethod
    def decode(cls, data: bytes) -> Index:
        """Parse `index.json`; raises `MalformedError`."""
        fields = Fields(canonical.decode(data, limits.INDEX_BYTES, "index"), "index")
        named = Fields(dict(_annotations(fields)), "index.annotations")
        listed = [Descriptor.read(item, limits.MANIFEST_BYTES) for item in fields.objects("manifests")]
        artifacts = {ids.profile_name(d.annotations[PROFILE]): d for d in listed if PROFILE in d.annotations}
        counter = named.text(COUNTER, limit=16)
        if not (counter.isascii() and counter.isdigit() and int(counter) > 0):
            raise MalformedError(f"index: counter {counter!r} is not a positive integer")
        return cls(
            ids.model_name(named.text(MODEL)),
            ids.version(named.text(RELEASE)),
            int(counter),
            artifacts,
            tuple(d for d in listed if PROFILE not in d.annotations),
        )


def artifact_descriptor(manifest: bytes, profile: str) -> Descriptor:
    """The index entry of one artifact's manifest."""
    return Descriptor(
        MANIFEST_TYPE, ids.digest_of(manifest), len(manifest), {PROFILE: ids.profile_name(profile)}, ARTIFACT_TYPE
    )

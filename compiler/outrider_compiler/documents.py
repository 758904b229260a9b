"""Documents about an artifact: provenance (in-toto), ML-BOM (CycloneDX) and timing evidence. No clock, no path."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any, Final

from outrider_compiler.lock import Lock
from outrider_compiler.outcome import Outcome
from outrider_compiler.package import Artifact
from outrider_protocol import canonical, ids

STATEMENT: Final = "https://in-toto.io/Statement/v1"
PREDICATE: Final = "https://slsa.dev/provenance/v1"
BUILD_TYPE: Final = "https://outrider.invalid/compiler/build/v1"


@dataclass(frozen=True)
class Origin:
    """What the training run says of itself (`--provenance`): run, snapshot and whatever else it lists."""

    stated: dict[str, Any]


def provenance(artifact: Artifact, lock: Lock, origin: Origin) -> bytes:
    """An in-toto statement: this manifest was made from these digests with these tools."""
    config = artifact.config
    dependencies = [
        {"name": name, "digest": {"sha256": ids.hex_of(digest)}}
        for name, digest in sorted((lock.inputs | lock.evidence).items())
    ]
    return canonical.encode({
        "_type": STATEMENT,
        "subject": [{
            "name": ids.target_path(config.model, config.version, config.profile),
            "digest": {"sha256": ids.hex_of(artifact.descriptor.digest)},
        }],
        "predicateType": PREDICATE,
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": lock.request | {"profile": config.profile},
                "internalParameters": {"precision": config.precision},
                "resolvedDependencies": dependencies,
            },
            "runDetails": {"builder": {"id": "outrider-compiler", "version": lock.tools}, "metadata": origin.stated},
        },
    })  # fmt: skip


def bom(artifact: Artifact, lock: Lock) -> bytes:
    """A CycloneDX 1.6 ML-BOM: the model, its data sets and the tools that made it."""
    config = artifact.config
    model: dict[str, Any] = {
        "type": "machine-learning-model",
        "bom-ref": "model",
        "name": config.model,
        "version": config.version,
        "hashes": [{"alg": "SHA-256", "content": ids.hex_of(artifact.descriptor.digest)}],
        "modelCard": {
            "modelParameters": {
                "task": config.decision.task,
                "datasets": [{"ref": name} for name in ("calibration", "evaluation")],
                "inputs": [{"format": f"{spec.dtype}{list(spec.shape)}"} for spec in config.inputs],
                "outputs": [{"format": f"{spec.dtype}{list(spec.shape)}"} for spec in config.outputs],
            }
        },
        "properties": [
            {"name": "outrider:profile", "value": config.profile},
            {"name": "outrider:precision", "value": config.precision},
        ],
    }
    if lock.request["preprocess"]:
        words = canonical.encode(lock.request["preprocess"]).decode()
        model["properties"].append({"name": "outrider:preprocess", "value": words})
    data = [_data(name, lock.inputs[name]) for name in ("calibration", "evaluation")]
    tools = [{"type": "library", "name": name, "version": version} for name, version in sorted(lock.tools.items())]
    return canonical.encode({
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, artifact.descriptor.digest)}",
        "version": 1,
        "metadata": {"component": model, "tools": {"components": tools}},
        "components": data,
    })  # fmt: skip


def _data(name: str, digest: str) -> dict[str, Any]:
    hashes = [{"alg": "SHA-256", "content": ids.hex_of(digest)}]
    return {"type": "data", "bom-ref": name, "name": name, "hashes": hashes, "data": [{"type": "dataset"}]}


def evidence(outcome: Outcome) -> bytes:
    """Timings of every candidate: evidence for the release's page, never part of the artifact."""
    rows = [{"name": item.name, "sha256": item.sha256, **vars(item.timing)} for item in outcome.figures]
    return canonical.encode({"v": 1, "profile": outcome.profile, "batch": 1, "candidates": rows})

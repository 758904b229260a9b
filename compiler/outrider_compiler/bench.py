"""`outrider-compiler bench`: time every candidate of a release on the board itself.

1. The release was built with `--for-bench`, so that every candidate travels with it; each file's digest is compared.
2. The chosen candidate must give its golden outputs here, else nothing that is timed means anything.
3. A machine that is only a proxy for the board is refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from outrider_compiler import measure, package, quiet
from outrider_compiler.candidate import Candidate
from outrider_compiler.data import Array, Feeds
from outrider_compiler.errors import LayoutError, UnsupportedModelError, UsageError
from outrider_compiler.host import Host, proxy_reason
from outrider_compiler.measured import Measured
from outrider_compiler.release import Release
from outrider_profiles import Profile
from outrider_protocol import canonical, limits, tensors
from outrider_protocol.manifest import Descriptor, Manifest, Role


def bench(release: Release, profile: Profile, host: Host) -> Measured:
    """Time all candidates of a profile; raises `UsageError`, `LayoutError` or `UnsupportedModelError`."""
    if profile.name not in release.profiles:
        raise UsageError(f"the release has no artifact for {profile.name}, only {', '.join(release.profiles)}")
    reason = proxy_reason(host, profile, measure.BASELINE)
    if reason:
        raise UsageError(f"{profile.name}: {reason}", "Run this on the board itself, with the engine that it runs.")
    quiet.libraries()
    release.verify()
    candidates = list(_candidates(release, profile.name))
    loaded = measure.load(candidates, profile)
    inputs, outputs, meta = golden(release, profile.name)
    _check_golden(loaded, release, profile.name, (inputs, outputs, meta))
    timings = measure.time_all(loaded, profile, inputs, host)
    by_file = {measure.sha256(c): timings[c.name] for c in loaded.candidates}
    return Measured(profile.name, host.words(profile.engine.name), by_file)


def _candidates(release: Release, profile: str) -> Iterator[Candidate]:
    subject = release.index.artifacts[profile].digest
    found = [m for m in map(_manifest_of(release), release.index.referrers) if _is_of(m, subject)]
    if not found:
        raise UsageError(
            f"the release carries no candidates of {profile}", "Build it with --for-bench, then measure it here."
        )
    for layer in found[0].layers:
        words = canonical.decode(layer.annotations[package.CANDIDATE].encode(), limits.CONFIG_BYTES, "candidate")
        yield Candidate.of(words, release.blob(layer.digest))


def _manifest_of(release: Release) -> Any:
    def read(descriptor: Descriptor) -> Manifest:
        return Manifest.decode(release.blob(descriptor.digest))

    return read


def _is_of(manifest: Manifest, subject: str) -> bool:
    return (
        manifest.artifact_type == package.CANDIDATES
        and manifest.subject is not None
        and manifest.subject.digest == subject
    )


def golden(release: Release, profile: str) -> tuple[Feeds, Feeds, dict[str, Any]]:
    """Golden inputs and outputs of an artifact, and their tolerances; raises `LayoutError`."""
    layers = Manifest.decode(release.manifest_bytes(profile)).device_layers()
    layer = next((item for item in layers if item.role is Role.GOLDEN), None)
    if layer is None:
        raise LayoutError(f"{profile}: the artifact has no golden vectors")
    named, meta = tensors.decode(release.blob(layer.digest), limits.GOLDEN_BYTES)
    arrays = {name: np.frombuffer(t.data, np.dtype("<" + t.dtype)).reshape(t.shape) for name, t in named.items()}
    return _part(arrays, "input:"), _part(arrays, "output:"), meta


def _part(arrays: dict[str, Array], prefix: str) -> Feeds:
    return {name.removeprefix(prefix): value for name, value in arrays.items() if name.startswith(prefix)}


def _check_golden(
    loaded: measure.Loaded, release: Release, profile: str, vectors: tuple[Feeds, Feeds, dict[str, Any]]
) -> None:
    inputs, outputs, meta = vectors
    layers = Manifest.decode(release.manifest_bytes(profile)).device_layers()
    model = next(item.digest for item in layers if item.role is Role.MODEL)
    chosen = next((c for c in loaded.candidates if f"sha256:{measure.sha256(c)}" == model), None)
    if chosen is None:
        raise UnsupportedModelError(f"{profile}: the chosen model does not load here", "The message above says why.")
    got = loaded.runners[chosen.name].run(inputs)
    for name, expected in outputs.items():
        if not np.allclose(got[name], expected, rtol=float(meta["rtol"]), atol=float(meta["atol"])):
            raise UnsupportedModelError(
                f"{profile}: output {name!r} is not what it was where the release was built",
                "The engine here computes something else: compare its version with the profile's.",
            )

"""What two keys of a profile may not say at once.

1. The schema types each key by itself; here keys are held against each other, and lists against themselves.
2. Every finding names one key, the one to correct, and says why.
3. Rules are in docs/spec/profiles.md (PRF-CON).
"""

from __future__ import annotations

from collections.abc import Iterator

from outrider_profiles.schema import BUILDABLE, IN_INTEGERS, LOWEST_OPSET, Profile
from outrider_profiles.specifier import is_requirement, is_specifier

Finding = tuple[str, str]


def contradictions(profile: Profile) -> Iterator[Finding]:
    """Key and reason of every rule that the profile breaks."""
    yield from _repeated(profile)
    yield from _versions(profile)
    yield from _precisions(profile)
    yield from _int8(profile)
    yield from _shapes(profile)


def _repeated(profile: Profile) -> Iterator[Finding]:
    """[PRF-CON-1] A list that names a thing twice was not meant so."""
    lists = {
        "precisions": profile.precisions,
        "providers": tuple(provider.name for provider in profile.providers),
        "cpu_features": profile.cpu_features,
        "deny_operators": profile.deny_operators,
        "int8.accelerated_by": profile.int8.accelerated_by,
        "install.packages": profile.install.packages,
    }
    for key, names in lists.items():
        for name in sorted({name for name in names if names.count(name) > 1}):
            yield key, f"{name!r} stands there twice"
    if not profile.providers:
        yield "providers", "is empty: name at least one"


def _versions(profile: Profile) -> Iterator[Finding]:
    """[PRF-CON-2] Versions are specifiers, packages are requirements by name."""
    for key, text in (("engine.versions", profile.engine.versions), ("install.python", profile.install.python)):
        if not is_specifier(text):
            yield key, f"{text!r} is no version specifier, such as '>=1.23,<2'"
    for text in profile.install.packages:
        if not is_requirement(text):
            yield "install.packages", f"{text!r} is no requirement by name, such as 'numpy<2'"
    if profile.opset.max < LOWEST_OPSET:
        yield "opset", f"ends at {profile.opset.max}: the compiler quantizes from opset {LOWEST_OPSET} on"


def _precisions(profile: Profile) -> Iterator[Finding]:
    """[PRF-CON-3] The compiler can build every precision in the engine's format."""
    engine = profile.engine
    for name in profile.precisions:
        if name not in BUILDABLE[engine.format]:
            yield "precisions", f"{name!r} cannot be built for {engine.name}, which reads {engine.format}"


def _int8(profile: Profile) -> Iterator[Finding]:
    """[PRF-CON-4] Zero points of 0 alone need signed integers; [PRF-CON-5] an integer engine runs integers."""
    int8 = profile.int8
    for key in ("activation", "weight"):
        if int8.symmetric and getattr(int8, key) != "s8":
            yield f"int8.{key}", f"{getattr(int8, key)!r} has no zero point of 0 in its middle, as int8.symmetric asks"
    if not int8.full:
        return
    if "int8_static" not in profile.precisions:
        yield "precisions", "'int8_static' is missing: nothing else runs where int8.full is true"
    for name in profile.precisions:
        if name not in IN_INTEGERS:
            yield "precisions", f"{name!r} leaves operators in float, which cannot run where int8.full is true"
    if profile.shapes.dynamic_batch:
        yield "shapes.dynamic_batch", "is true: an engine with int8.full takes constant shapes"


def _shapes(profile: Profile) -> Iterator[Finding]:
    """[PRF-CON-6] A batch size is positive, and means something only where the batch is fixed."""
    shapes = profile.shapes
    if shapes.batch < 1:
        yield "shapes.batch", f"{shapes.batch} is not positive"
    if shapes.batch > 1 and shapes.dynamic_batch:
        yield "shapes.batch", f"{shapes.batch} means nothing while shapes.dynamic_batch is true"
    if shapes.rank_max < 0:
        yield "shapes.rank_max", f"{shapes.rank_max} is negative"

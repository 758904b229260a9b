"""Two releases side by side, from their own reports, whose bytes are verified first.

1. A difference of a metric says something where both were measured on the same evaluation set; it lies beyond the
   intervals where both 95 % intervals are apart.
2. Latencies are compared through fp32 where both timed the same fp32 file; else they are two runs, and it says so.
3. A difference is no failure. `worse` lists where B loses more of the primary figure than both gates allow.
"""

from __future__ import annotations

from typing import Any, Final

from outrider_compiler.errors import LayoutError, UsageError
from outrider_compiler.release import REPORT_BYTES, REPORT_JSON, Release
from outrider_protocol import canonical
from outrider_protocol.errors import ProtocolError
from outrider_protocol.manifest import TITLE

Json = dict[str, Any]
ERRORS: Final = frozenset({"rmse"})
EPSILON: Final = 1e-9


def compare(a: Release, b: Release) -> Json:
    """Verify both and compare; raises `LayoutError`."""
    return compare_reports(_verified(a), _verified(b))


def compare_reports(a: Json, b: Json) -> Json:
    """Compare two values of report.json; raises `LayoutError` for one of another form."""
    try:
        return _compare(a, b)
    except (KeyError, TypeError, AttributeError) as error:
        raise LayoutError(f"a report lacks {error}", "It was written by another version of the compiler.") from error


def _verified(release: Release) -> Json:
    """The report that the manifests refer to, not the copy beside them."""
    release.verify()
    for descriptor in release.index.referrers:
        if descriptor.annotations.get(TITLE) == REPORT_JSON:
            try:
                return canonical.decode(release.layer_of(descriptor), REPORT_BYTES, REPORT_JSON)
            except ProtocolError as error:
                raise LayoutError(f"{release.directory}: {error}") from error
    raise LayoutError(f"{release.directory} carries no report.json")


def _compare(a: Json, b: Json) -> Json:
    same = a["inputs"]["evaluation"] == b["inputs"]["evaluation"] and _task(a) == _task(b)
    both = sorted(set(a["profiles"]) & set(b["profiles"]))
    profiles = {name: _profile(a["profiles"][name], b["profiles"][name], same=same) for name in both}
    return {
        "v": 1,
        "a": _named(a),
        "b": _named(b),
        "same_evaluation": same,
        "inputs": _differing(a["inputs"], b["inputs"]),
        "tools": _differing(a["tools"], b["tools"]),
        "request": _differing(_words(a["request"]), _words(b["request"])),
        "only_in_a": sorted(set(a["profiles"]) - set(b["profiles"])),
        "only_in_b": sorted(set(b["profiles"]) - set(a["profiles"])),
        "profiles": profiles,
        "worse": _worse(a, b, profiles) if same else [],
    }


def _task(report: Json) -> tuple[str, str]:
    return report["request"]["task"], report["evaluation"]["primary"]


def _named(report: Json) -> Json:
    evaluation = report["evaluation"]
    return {
        **{key: report["request"][key] for key in ("model", "version", "counter", "task")},
        "primary": evaluation["primary"],
        "evaluation": report["inputs"]["evaluation"],
        "n": evaluation["n"],
    }


def _words(request: Json) -> Json:
    apart = {"model", "version", "counter", "gate"}
    gate = {f"gate {name}": value for name, value in request["gate"].items()}
    return {name: value for name, value in request.items() if name not in apart} | gate


def _differing(a: Json, b: Json) -> dict[str, list[Any]]:
    """By key: the value in A and in B, None where there is none."""
    return {key: [a.get(key), b.get(key)] for key in sorted({*a, *b}) if a.get(key) != b.get(key)}


def _profile(a: Json, b: Json, *, same: bool) -> Json:
    chosen = [_chosen(profile) for profile in (a, b)]
    return {
        "a": _figures(a, chosen[0]),
        "b": _figures(b, chosen[1]),
        "size_ratio": _ratio(chosen, "size_bytes"),
        **_latency(a, b, chosen),
        "metrics": _metrics(chosen, same=same),
        "same_artifact": a["manifest"] is not None and a["manifest"] == b["manifest"],
    }


def _chosen(profile: Json) -> Json | None:
    return next((item for item in profile["candidates"] if item["name"] == profile["chosen"]), None)


def _figures(profile: Json, chosen: Json | None) -> Json:
    kept = (
        "name", "precision", "size_bytes", "sha256", "latency_us", "latency_ratio", "threads_latency_us", "load_ms",
        "memory_bytes", "proxy", "measured_on", "agreement", "sqnr_db", "drop", "quantized_share",
    )  # fmt: skip
    figures = {key: chosen[key] for key in kept} if chosen else {}
    return {"status": profile["status"], "engine": profile["engine"], "manifest": profile["manifest"], **figures}


def _ratio(chosen: list[Json | None], key: str) -> float | None:
    a, b = chosen
    return round(b[key] / a[key], 4) if a and b and a[key] else None


def _latency(a: Json, b: Json, chosen: list[Json | None]) -> Json:
    base = [next((item for item in profile["candidates"] if item["name"] == "fp32"), None) for profile in (a, b)]
    alike = all(base) and base[0]["sha256"] == base[1]["sha256"] and base[0]["measured_on"] == base[1]["measured_on"]  # type: ignore[index]  # `all` has seen both
    key = "latency_ratio" if alike else "latency_us"
    return {"latency_ratio": _ratio(chosen, key), "latency_by": "the same fp32" if alike else "two separate runs"}


def _metrics(chosen: list[Json | None], *, same: bool) -> Json:
    a, b = ((item["metrics"] if item else {}) for item in chosen)
    return {name: _metric(a.get(name), b.get(name), same=same) for name in sorted({*a, *b})}


def _metric(a: Json | None, b: Json | None, *, same: bool) -> Json:
    """`beyond` is None where the figures say nothing of each other."""
    if a is None or b is None or not same:
        return {"a": a, "b": b, "difference": None, "beyond": None}
    apart = a["high"] < b["low"] or b["high"] < a["low"]
    return {"a": a, "b": b, "difference": round(b["value"] - a["value"], 6), "beyond": apart}


def _worse(a: Json, b: Json, profiles: Json) -> list[Json]:
    """Profiles where B loses more than the stricter gate allows, and by how much (0.01 is one point)."""
    primary = a["evaluation"]["primary"]
    allowed = min(report["request"]["gate"]["primary_drop_max"] for report in (a, b))
    found = []
    for name, profile in profiles.items():
        lost = _lost(profile["metrics"].get(primary), primary)
        if lost is not None and lost > allowed + EPSILON:
            found.append({"profile": name, "primary": primary, "lost": lost, "allowed": allowed})
    return found


def _lost(metric: Json | None, primary: str) -> float | None:
    """As the gate counts: an error's gain as a share of what no skill errs."""
    if metric is None or metric["difference"] is None:
        return None
    difference: float = metric["difference"]
    if primary not in ERRORS:
        return round(-difference, 6)
    no_skill = metric["a"]["no_skill"]
    return round(difference / no_skill, 6) if no_skill else None


def check_comparable(comparison: Json) -> None:
    """Raise `UsageError` where nobody can say which one is worse."""
    a, b = comparison["a"], comparison["b"]
    if not comparison["same_evaluation"]:
        raise UsageError(
            f"A was judged on {a['evaluation']} ({a['task']}), B on {b['evaluation']} ({b['task']}): "
            "which one is worse cannot be said",
            "Build both with the same evaluation set and task, or leave out --fail-on-worse.",
        )
    if not any(_both_built(profile) for profile in comparison["profiles"].values()):
        raise UsageError("no profile has an artifact in both releases", "Leave out --fail-on-worse.")


def _both_built(profile: Json) -> bool:
    return bool(profile["a"]["status"] == profile["b"]["status"] == "built")

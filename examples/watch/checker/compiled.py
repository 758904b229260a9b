"""D2, D3 and D4: what the compiler chose and refused, from its report among the release's referrers."""

from __future__ import annotations

from pathlib import Path

from examples.watch.checker.finding import Finding
from examples.watch.checker.layout import built_report, published_report
from examples.watch.checker.record import Record, Row
from examples.watch.errors import RecordError

AGREEMENT_AT_LEAST = 0.98
SQNR_AT_LEAST_DB = 20.0
SIZE_AT_MOST = 0.4
BASELINE = "fp32"
CALIBRATED = "int8_static"


def has_vnni(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether this machine multiplies 8-bit integers fast (AVX512-VNNI)."""
    return cpuinfo.exists() and "avx512_vnni" in cpuinfo.read_text()


def profile_report(report: Row, profile: str) -> Row:
    """One profile's part of a report; raises `RecordError`."""
    if profile not in report["profiles"]:
        raise RecordError(f"the report has no profile {profile}")
    return {**report["profiles"][profile], "profile": profile}


def candidate(part: Row, name: str) -> Row:
    """One candidate of a profile; raises `RecordError`."""
    for entry in part["candidates"]:
        if entry["name"] == name:
            return dict(entry)
    raise RecordError(f"{part['profile']}: no candidate {name}")


def worst_sqnr_db(entry: Row) -> float:
    """The lowest signal-to-quantization-noise ratio among a candidate's outputs."""
    return float(min(entry["sqnr_db"].values()))


def d2(record: Record) -> Finding:
    """The fast profile's choice passes the gate and is not slower than fp32 in the same run; with VNNI it is int8."""
    part = profile_report(published_report(record, record.version("first")), record.plan["profiles"]["fast"])
    chosen, base = candidate(part, part["chosen"]), candidate(part, BASELINE)
    size = chosen["size_bytes"] / base["size_bytes"]
    passes = chosen["agreement"] >= AGREEMENT_AT_LEAST and worst_sqnr_db(chosen) >= SQNR_AT_LEAST_DB
    fast = chosen["name"] == BASELINE or chosen["latency_ratio"] <= 1.0
    small = chosen["precision"].startswith("int8") and size <= SIZE_AT_MOST
    vnni = has_vnni()
    tried = [c["name"] for c in part["candidates"] if c["precision"].startswith("int8") and c["latency_us"] > 0]
    return Finding(
        "D2",
        f"{part['profile']} chose {chosen['name']}",
        passes and fast and bool(tried) and (small or not vnni),
        f"agreement {chosen['agreement']:.3f}, SQNR {worst_sqnr_db(chosen):.1f} dB, "
        f"latency {chosen['latency_ratio']:.2f}× of fp32, in turns ({chosen['latency_us']:.0f} and "
        f"{base['latency_us']:.0f} µs), size {size:.2f}×",
        f"≥ {AGREEMENT_AT_LEAST}, ≥ {SQNR_AT_LEAST_DB:.0f} dB, not slower, int8 measured"
        + (f", int8 at ≤ {SIZE_AT_MOST}× (this machine has AVX512-VNNI)" if vnni else " (no AVX512-VNNI here)"),
    )


def d3(record: Record) -> Finding:
    """The exact profile allowed int8, measured it, and kept fp32's arithmetic for a measured reason."""
    part = profile_report(published_report(record, record.version("first")), record.plan["profiles"]["exact"])
    measured = [entry for entry in part["candidates"] if entry["name"] != BASELINE and entry["latency_us"] > 0]
    refused = [entry for entry in measured if entry["precision"].startswith("int8") and entry["refusals"]]
    chosen = candidate(part, part["chosen"])
    return Finding(
        "D3",
        f"{part['profile']} kept {part['chosen']}",
        chosen["quantized_share"] == 0.0 and bool(refused),
        f"{len(measured)} others measured, {len(refused)} in int8 refused",
        "computes in fp32, ≥ 1 in int8 measured and refused",
        (part["reason"], *(f"{entry['name']}: {'; '.join(entry['refusals'])}" for entry in refused)),
    )


def d4(record: Record) -> Finding:
    """The int8 candidate of broken calibration data was refused on both: noise and agreement."""
    part = profile_report(built_report(record.run / "broken"), record.plan["profiles"]["fast"])
    broken = candidate(part, CALIBRATED)
    noisy, astray = worst_sqnr_db(broken) < SQNR_AT_LEAST_DB, broken["agreement"] < AGREEMENT_AT_LEAST
    return Finding(
        "D4",
        "broken calibration",
        bool(broken["refusals"]) and noisy and astray and part["chosen"] != CALIBRATED,
        f"{len(broken['refusals'])} refusals, SQNR {worst_sqnr_db(broken):.1f} dB, "
        f"agreement {broken['agreement']:.3f}, accuracy {broken['accuracy']:.3f}",
        f"refused, < {SQNR_AT_LEAST_DB:.0f} dB, < {AGREEMENT_AT_LEAST}",
        tuple(broken["refusals"]),
    )

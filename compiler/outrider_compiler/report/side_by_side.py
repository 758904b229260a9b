"""A comparison of two releases in words: the same rows for a terminal and for Markdown."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from outrider_compiler.report import markdown, wording

Json = dict[str, Any]


class Row(NamedTuple):
    """One figure of both, and what changed."""

    what: str
    a: str
    b: str
    change: str = ""


def title(comparison: Json) -> str:
    """Both by name."""
    a, b = (f"{comparison[key]['model']} {comparison[key]['version']}" for key in "ab")
    return f"{a} and {b}"


def notes(comparison: Json) -> list[str]:
    """What a reader must know before the figures."""
    a, b = comparison["a"], comparison["b"]
    said = []
    if a["model"] != b["model"]:
        said.append(f"Two models: {a['model']} and {b['model']}.")
    if not comparison["same_evaluation"]:
        said.append("Judged on different evaluation sets: their metrics say nothing of each other.")
    said += [f"Only in A: {name}." for name in comparison["only_in_a"]]
    said += [f"Only in B: {name}." for name in comparison["only_in_b"]]
    for item in comparison["worse"]:
        lost, allowed = (wording.lost(item[key], item["primary"]) for key in ("lost", "allowed"))
        said.append(
            f"{item['profile']}: B is worse, {wording.words(item['primary'])} loses {lost} ({allowed} allowed)."
        )
    return said


def differences(comparison: Json) -> list[Row]:
    """Inputs, tools and words of the request that are not the same."""
    return [
        Row(f"{part} {name}", _text(a), _text(b))
        for part in ("inputs", "tools", "request")
        for name, (a, b) in comparison[part].items()
    ]


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    if isinstance(value, str) and value.startswith("sha256:"):
        return _digest(value)
    return "–" if value in (None, "") else str(value)


def rows(profile: Json) -> list[Row]:
    """Everything about one profile."""
    return list(_rows(profile))


def _rows(profile: Json) -> Iterator[Row]:
    a, b = profile["a"], profile["b"]
    yield Row("status", wording.words(a["status"]), wording.words(b["status"]))
    yield _row(a, b, "chosen", "name", str)
    yield _row(a, b, "size", "size_bytes", wording.size, _times(profile["size_ratio"]))
    change = _times(profile["latency_ratio"])
    by = f", by {profile['latency_by']}" if change else ""
    yield _row(a, b, "latency, one thread", "latency_us", wording.time_us, f"{change}{by}")
    yield _row(a, b, "latency beside fp32", "latency_ratio", wording.ratio)
    yield _row(a, b, "latency, all threads", "threads_latency_us", wording.time_us)
    yield _row(a, b, "load", "load_ms", lambda value: wording.time_us(value * 1000))
    yield _row(a, b, "memory", "memory_bytes", lambda value: wording.size(value) if value else "–")
    yield _row(a, b, "measured on", "measured_on", str)
    yield _row(a, b, "proxy", "proxy", lambda value: value or "no")
    for name, metric in profile["metrics"].items():
        yield Row(wording.words(name), _span(metric["a"]), _span(metric["b"]), _change(metric))
    yield _row(a, b, "agreement with the source", "agreement", lambda value: wording.digits(value, 3))
    before, after = a.get("sqnr_db", {}), b.get("sqnr_db", {})
    for name in sorted({*before, *after}):
        yield Row(f"signal to noise of {name}", wording.decibels(before.get(name)), wording.decibels(after.get(name)))
    same = "the same bytes" if profile["same_artifact"] else ""
    yield Row("artifact", _digest(a["manifest"]), _digest(b["manifest"]), same)


def _row(a: Json, b: Json, what: str, key: str, say: Any, change: str = "") -> Row:
    before, after = ("–" if item.get(key) is None else say(item[key]) for item in (a, b))
    return Row(what, before, after, change)


def _times(ratio: float | None) -> str:
    return "" if ratio is None else wording.ratio(ratio)


def _span(metric: Json | None) -> str:
    if metric is None:
        return "–"
    value, low, high = (wording.figure(metric[key]) for key in ("value", "low", "high"))
    return f"{value} ({low} – {high})"


def _change(metric: Json) -> str:
    if metric["difference"] is None:
        return ""
    sign = "+" if metric["difference"] > 0 else ""
    where = "beyond" if metric["beyond"] else "within"
    return f"{sign}{wording.figure(metric['difference'])}, {where} the intervals"


def _digest(digest: str | None) -> str:
    return digest.removeprefix("sha256:")[:12] if digest else "–"


def render(comparison: Json) -> bytes:
    """As Markdown."""
    parts = [f"## {markdown.escape(title(comparison))}", *map(markdown.escape, notes(comparison))]
    for name, profile in comparison["profiles"].items():
        parts += [
            f"### {markdown.escape(name)}",
            markdown.table(["", "A", "B", "B beside A"], [*map(list, rows(profile))]),
        ]
    changed = differences(comparison)
    parts += (
        ["### What else differs", markdown.table(["", "A", "B"], [list(row[:3]) for row in changed])] if changed else []
    )
    return ("\n\n".join(parts) + "\n").encode()

"""How figures, times and states are said on a page.

1. Whatever a device or a person wrote may be hostile, of any type and any length: `plain` makes short text of it.
2. A state is a word and a tone; the tone colours, the word says it.

>>> size(1536), percent(0.294), short("sha256:" + "ab" * 32)
('1.5 KiB', '29 %', 'abababababab')
>>> moment(1_000, 181_000).words
'3 min ago'
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import quote

LONGEST: Final = 400
_LATEST_MS: Final = 253_402_300_799_000  # the last second of the year 9999
_GOOD: Final = ("succeeded", "completed", "watching", "already_installed", "published", "enrolled")
_BAD: Final = (
    "alarm",
    "failed",
    "rejected",
    "failed_unchanged",
    "rolled_back",
    "rollback_failed",
    "timed_out",
    "aborted",
)
_WARN: Final = ("rebaselining", "paused", "proposed", "rolling_back", "no_artifact", "revoked", "awaiting_consent")
_QUIET: Final = ("none", "baseline", "queued", "canceled", "superseded", "removed", "unknown", "created")
_TONES: Final = {
    **dict.fromkeys(_GOOD, "good"),
    **dict.fromkeys(_BAD, "bad"),
    **dict.fromkeys(_WARN, "warn"),
    **dict.fromkeys(_QUIET, "quiet"),
}


@dataclass(frozen=True)
class Badge:
    """A state as a word; `tone` is `good`, `bad`, `warn`, `quiet` or `busy`."""

    text: str
    tone: str


@dataclass(frozen=True)
class Moment:
    """A time: for machines (`iso`, UTC) and as words relative to now."""

    iso: str
    words: str


@dataclass(frozen=True)
class Fact:
    """A name and its value, both as text."""

    name: str
    value: str


def plain(value: Any, limit: int = LONGEST) -> str:
    """Any value as text of at most `limit` characters; structures as compact JSON."""
    text = (
        value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(", ", ": "), default=str)
    )
    printable = "".join(c if c.isprintable() else " " for c in text[: limit + 1])
    return printable if len(printable) <= limit else printable[: limit - 1] + "…"


def facts(value: Any, most: int = 24) -> tuple[Fact, ...]:
    """The fields of a JSON object; anything else is one fact without a name."""
    if not isinstance(value, Mapping):
        return () if value in (None, "", []) else (Fact("", plain(value)),)
    return tuple(Fact(plain(str(k), 60), plain(_rounded(v), 160)) for k, v in list(value.items())[:most])


def _rounded(value: Any) -> Any:
    if isinstance(value, Mapping):
        return ", ".join(
            f"{plain(str(name), 40)} {plain(_rounded(part), 60)}" for name, part in list(value.items())[:8]
        )
    return float(f"{value:.4g}") if isinstance(value, float) and abs(value) < 1e4 else value


def badge(state: str | None) -> Badge:
    """A state's badge; states that are under way are `busy`."""
    known = plain(state or "unknown", 40)
    return Badge(known.replace("_", " "), _TONES.get(known, "busy"))


def moment(at_ms: int | None, now_ms: int) -> Moment | None:
    """A time in ms UTC, relative to now; `None` for none."""
    if at_ms is None:
        return None
    at = datetime.fromtimestamp(max(0, min(at_ms, _LATEST_MS)) / 1000, UTC)
    return Moment(at.strftime("%Y-%m-%dT%H:%M:%SZ"), _ago((now_ms - at_ms) / 1000))


def _ago(age_s: float) -> str:
    if age_s < -60:
        return f"in {duration(-age_s)}"
    return "just now" if age_s < 10 else f"{duration(age_s)} ago"


def duration(span_s: float) -> str:
    """A span in its largest unit.

    >>> duration(59), duration(7_300), duration(200_000)
    ('59 s', '2 h', '2 d')
    """
    for unit, length_s in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if span_s >= length_s:
            return f"{int(span_s // length_s)} {unit}"
    return f"{int(span_s)} s"


def size(count_bytes: int) -> str:
    """Bytes in binary units."""
    value = float(count_bytes)
    for unit in ("B", "KiB", "MiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" or value >= 100 else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} GiB"


def percent(ratio: float | None) -> str:
    """A ratio as whole per cent; a dash for none."""
    return "–" if ratio is None else f"{ratio * 100:.0f} %"


def decimal(value: float | None) -> str:
    """An accuracy or confidence, two digits; a dash for none."""
    return "–" if value is None else f"{value:.2f}"


def short(digest: str | None) -> str:
    """The first 12 hex digits of a digest."""
    return plain((digest or "").removeprefix("sha256:"), 80)[:12]


def device_href(device: str) -> str:
    """A device's page."""
    return f"/devices/{quote(device, safe='')}"


def rollout_href(rollout: str) -> str:
    """A rollout's page."""
    return f"/rollouts/{quote(rollout, safe='')}"


def lineage_href(kind: str, name: str) -> str:
    """Where something came from and went to."""
    return f"/lineage/{quote(kind, safe='')}/{quote(name)}"

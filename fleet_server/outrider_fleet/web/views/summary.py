"""The fleet at one glance: four figures and one sentence."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from outrider_fleet.web.views.words import plain, short

Row = Mapping[str, Any]
_OPEN = ("proposed", "running", "paused", "rolling_back")


@dataclass(frozen=True)
class Tile:
    """One figure; `tone` as in `words.Badge`."""

    name: str
    figure: str
    of: str
    note: str
    tone: str
    href: str


@dataclass(frozen=True)
class SummaryView:
    """The tiles, and a sentence that says the same."""

    sentence: str
    tiles: tuple[Tile, ...]
    empty: bool


def summary_view(
    devices: Iterable[Row],
    drift: Iterable[Row],
    rollouts: Iterable[Row],
    running: Iterable[Row],
    names: Mapping[str, str],
) -> SummaryView:
    """Count up; `names` says `model version` for the digests in `running`."""
    enrolled = [row for row in devices if row["state"] == "enrolled"]
    total, online = sum(r["n"] for r in enrolled), sum(r["n"] for r in enrolled if r["online"])
    counted = list(drift)
    alarmed = sum(row["n"] for row in counted if row["phase"] == "alarm")
    uncleared = sum(row["n"] for row in counted if row["drifted"])
    states = {row["state"]: row["n"] for row in rollouts}
    opened = sum(states.get(state, 0) for state in _OPEN)
    tiles = (
        Tile("devices online", str(online), f"of {total}", _offline(total - online), _tone(online, total), "/devices"),
        _release_tile(list(running), names, total),
        Tile("in alarm", str(alarmed), f"of {total}", _uncleared(uncleared), "bad" if alarmed else "good", "/drift"),
        Tile(
            "open rollouts",
            str(opened),
            f"of {sum(states.values())}",
            _ends(states),
            "busy" if opened else "quiet",
            "/rollouts",
        ),
    )
    rolling = "no rollout is open" if not opened else f"{opened} {'rollout is' if opened == 1 else 'rollouts are'} open"
    return SummaryView(f"{online} of {total} devices online, {alarmed} in alarm; {rolling}.", tiles, total == 0)


def _offline(count: int) -> str:
    return f"{count} offline" if count else "all reachable"


def _uncleared(count: int) -> str:
    return f"{count} drifted, not cleared" if count else "no drift is open"


def _tone(part: int, total: int) -> str:
    return "quiet" if not total else "good" if part == total else "warn"


def _ends(states: Mapping[str, int]) -> str:
    said = [f"{states[name]} {name}" for name in ("completed", "aborted") if states.get(name)]
    return ", ".join(said) or "none has ended"


def _release_tile(running: list[Row], names: Mapping[str, str], total: int) -> Tile:
    by_release: dict[str, int] = {}
    for row in running:
        name = names.get(row["digest"]) or short(row["digest"])
        by_release[name] = by_release.get(name, 0) + row["n"]
    ranked = sorted(by_release.items(), key=lambda item: (-item[1], item[0]))
    if not ranked:
        return Tile("attest a release", "0", f"of {total}", "nothing runs yet", "quiet", "/releases")
    name, n = ranked[0]
    rest = ", ".join(f"{count} on {plain(other, 60)}" for other, count in ranked[1:3])
    return Tile(
        f"attest {plain(name, 60)}", str(n), f"of {total}", rest or "the same everywhere", _tone(n, total), "/releases"
    )

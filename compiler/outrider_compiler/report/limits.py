"""The limits that a candidate was held against, one by one, with what was measured and whether it holds.

1. The same limits as `choose` applies, from the values of report.json: a candidate is refused exactly where one of its
   limits does not hold.
2. A limit that does not concern a candidate (no slices, no budget, fp32 against itself) is not listed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any

from outrider_compiler import slices
from outrider_compiler.choose import EPSILON, FLOATS, PROXY_SIZE_RATIO
from outrider_compiler.measure import BASELINE
from outrider_compiler.report import wording

Json = dict[str, Any]


@dataclass(frozen=True)
class Limit:
    """`limit` is its name in the gate or the profile; `measured` and `allowed` are words with units."""

    limit: str
    what: str
    measured: str
    allowed: str
    holds: bool

    def json(self) -> Json:
        """As in report.json."""
        return dict(vars(self))


def limits(candidate: Json, candidates: list[Json], gate: Json, board: Json) -> list[Limit]:
    """Every limit that concerns a candidate of a profile."""
    base = next((item for item in candidates if item["name"] == BASELINE), candidate)
    compared = candidate["name"] != BASELINE and not board["integers_alone"]
    parts = (
        _integers(candidate, board),
        _sharing(candidate, board),
        _closeness(candidate, gate),
        _quality(candidate, base, gate),
        _slices(candidate, gate),
        _budgets(candidate, gate, board["budgets"]),
        _speed(candidate, base, gate) if compared else iter(()),
    )
    return list(chain.from_iterable(parts))


def _integers(item: Json, board: Json) -> Iterator[Limit]:
    if board["integers_alone"]:
        holds = item["precision"] not in FLOATS
        yield Limit("integers_alone", "arithmetic", item["precision"], "integers alone", holds)


def _sharing(item: Json, board: Json) -> Iterator[Limit]:
    if board["shares_weights"] and item["name"] != BASELINE:
        share = item["quantized_share"]
        yield Limit("shares_weights", "layers on integers", f"{share:.0%}", "> 0 where weights are shared", share > 0)


def _closeness(item: Json, gate: Json) -> Iterator[Limit]:
    least = gate["agreement_min"]
    measured, allowed = (wording.digits(value, 3) for value in (item["agreement"], least))
    yield Limit("agreement_min", "agreement with the source", measured, f"≥ {allowed}", item["agreement"] >= least)
    if item["sqnr_db"]:
        output, worst = min(sorted(item["sqnr_db"].items()), key=lambda pair: float(pair[1]))
        least = gate["sqnr_min_db"]
        measured = f"{wording.decibels(worst)} ({output})"
        yield Limit("sqnr_min_db", "signal to noise of outputs", measured, f"≥ {least:g} dB", worst >= least)


def _quality(item: Json, base: Json, gate: Json) -> Iterator[Limit]:
    primary, most = item["primary"], gate["primary_drop_max"]
    holds = item["drop"] <= most + EPSILON
    yield Limit(
        "primary_drop_max", f"{wording.words(primary)} lost", _lost(item, primary), _at_most(most, primary), holds
    )
    before, after = base["balanced_accuracy"], item["balanced_accuracy"]
    if before is not None and after is not None:
        most = gate["balanced_drop_ratio_max"]
        measured = f"{wording.figure(after)} after {wording.figure(before)}"
        holds = before - after <= most * before + EPSILON
        yield Limit("balanced_drop_ratio_max", "balanced accuracy", measured, f"at most {most * 100:g} % lost", holds)
    skilled = item["metrics"][item["skilled"]]
    measured = f"{wording.figure(skilled['value'])}, from {wording.figure(skilled['low'])}"
    allowed = f"> {wording.figure(skilled['no_skill'])}"
    what = f"{wording.words(item['skilled'])} above no skill"
    yield Limit("no_skill", what, measured, allowed, skilled["low"] > skilled["no_skill"])


def _slices(item: Json, gate: Json) -> Iterator[Limit]:
    worst = slices.worst(tuple(item["slices"]))
    if worst is None:
        return
    primary, most = item["primary"], gate["slice_drop_max"]
    one_sample = worst["drop"] * worst["n"] < 2 - EPSILON
    measured = f"{_lost(worst, primary)} ({worst['slice']}, n {worst['n']})"
    holds = worst["drop"] <= most + EPSILON or one_sample
    yield Limit(
        "slice_drop_max", f"{wording.words(primary)} lost in the worst slice", measured, _at_most(most, primary), holds
    )


def _lost(item: Json, primary: str) -> str:
    upper = wording.digits(item["drop_upper"] * 100, 2)
    return f"{wording.lost(item['drop'], primary)}, 95 % up to {upper}"


def _at_most(most: float, primary: str) -> str:
    return f"≤ {most * 100:g} {wording.unit(primary)}"


def _budgets(item: Json, gate: Json, budgets: Json) -> Iterator[Limit]:
    for name, measured, words in (
        ("size_bytes", item["size_bytes"], wording.size), ("memory_bytes", item["memory_bytes"], wording.size),
    ):  # fmt: skip
        if budgets[name]:
            holds = measured <= budgets[name]
            yield Limit(f"budget {name}", _BUDGETS[name], words(measured), f"≤ {words(budgets[name])}", holds)
    most = budgets["latency_us"]
    if most:
        unknown = bool(item["proxy"])
        measured = f"{wording.time_us(item['latency_us'])}{' (a proxy)' if unknown else ''}"
        holds = gate["unmeasured_latency"] if unknown else item["latency_us"] <= most
        yield Limit("budget latency_us", _BUDGETS["latency_us"], measured, f"≤ {wording.time_us(most)}", holds)


_BUDGETS = {"size_bytes": "size of the file", "memory_bytes": "resident memory", "latency_us": "latency, one thread"}


def _speed(item: Json, base: Json, gate: Json) -> Iterator[Limit]:
    most = gate["latency_ratio_max"]
    measured = f"{wording.ratio(item['latency_ratio'])}{' (a proxy)' if item['proxy'] else ''}"
    fast = item["latency_ratio"] <= most
    yield Limit("latency_ratio_max", "latency beside fp32", measured, f"≤ {wording.ratio(most)}", fast)
    if item["proxy"] and fast:
        share = item["size_bytes"] / base["size_bytes"]
        holds = item["size_bytes"] <= PROXY_SIZE_RATIO * base["size_bytes"]
        allowed = f"≤ {wording.ratio(PROXY_SIZE_RATIO)}"
        yield Limit("proxy", "size beside fp32, where latency is a proxy", wording.ratio(share), allowed, holds)

"""Reports that no build made: any names, any figures, any number of candidates, in the form of report.json."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import strategies as st

from outrider_compiler import choose
from outrider_compiler.candidate import NotBuilt
from outrider_compiler.figures import Figures, Quality, Timing
from outrider_compiler.outcome import Outcome
from outrider_compiler.report import content
from outrider_compiler.request import Gate
from outrider_profiles import Budgets, Int8, Profile, load

Json = dict[str, Any]
EVIL = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>{{ 7*7 }}&lt;]]>--|`x`|"
BOARD = load("x86-64")

words = st.one_of(st.just(EVIL), st.text(st.characters(exclude_categories=("C", "Zl", "Zp")), min_size=1, max_size=8))
shares = st.floats(0, 1)
signed = st.floats(-1, 1)
decibels = st.floats(-200, 200)
times_us = st.floats(1e-3, 1e12)
ratios = st.one_of(st.floats(0.3, 1.5), st.floats(1e-6, 1e6))
sizes = st.one_of(st.integers(1, 10**6), st.integers(1, 10**15))


def metric(value: float, low: float, high: float, n: int, no_skill: float | None) -> Json:
    """One figure, its ends in order."""
    ends = sorted((value, low, high))
    return {"value": ends[1], "low": ends[0], "high": ends[2], "n": n, "no_skill": no_skill}


metrics = st.builds(metric, shares, shares, shares, st.integers(1, 10**7), shares)
per_class = st.fixed_dictionaries({
    "precision": st.none() | shares, "recall": st.none() | shares, "f1": st.none() | shares, "n": st.integers(0, 10**6),
})  # fmt: skip
judged = st.fixed_dictionaries({
    "slice": words, "n": st.integers(10, 1000), "judged": st.just(value=True), "source": shares, "value": shares,
    "drop": signed, "drop_low": signed, "drop_upper": signed,
})  # fmt: skip
unjudged = st.fixed_dictionaries({"slice": words, "n": st.integers(0, 9), "judged": st.just(value=False)})
layers = st.fixed_dictionaries({
    "name": words, "kind": words, "sqnr_db": st.none() | decibels, "precision": st.sampled_from(["int8", "fp32"]),
})  # fmt: skip


@st.composite
def histograms(draw: st.DrawFn) -> Json:
    """Counts between rising edges; {} as of a program that kept none."""
    counts = draw(st.sampled_from([[], [0], [5, 3, 0, 1], [0, 10**9, 1]]))
    first, factor = draw(times_us), draw(st.sampled_from([1.001, 1.1, 3.0]))
    edges = [first * factor**i for i in range(len(counts) + 1)]
    return {"edges_us": edges, "counts": counts} if counts else {}


timings = st.builds(
    Timing, times_us, times_us, times_us, times_us, times_us, ratios, st.integers(1, 64), times_us, ratios,
    histograms(), st.just(0) | sizes, st.just("") | words, words,
)  # fmt: skip


@st.composite
def qualities(draw: st.DrawFn, task: str, classes: list[str]) -> Quality:
    """As a task's figures are: a primary one, the one that must beat no skill, and others."""
    primary, skilled = {"classification": ("accuracy", "balanced_accuracy"), "regression": ("rmse", "r2")}[task]
    names = {primary, skilled, "f1_macro"}
    return Quality(
        primary,
        skilled,
        {name: draw(metrics) for name in sorted(names)},
        draw(signed | st.just(0.0)),
        draw(signed),
        draw(signed),
        draw(shares | st.just(1.0)),
        draw(st.dictionaries(words, decibels, max_size=2)),
        {name: draw(per_class) for name in classes},
        tuple(draw(st.lists(judged | unjudged, max_size=3))),
    )


@st.composite
def candidates(draw: st.DrawFn, task: str, classes: list[str], most: int = 3) -> list[Figures]:
    """fp32 and others, each name once."""
    others = draw(st.lists(words, max_size=most, unique=True).filter(lambda names: "fp32" not in names))
    return [
        Figures(
            name,
            "fp32" if name == "fp32" else draw(st.sampled_from(["fp16", "int8_static", "int8_mixed"])),
            draw(sizes),
            "ab" * 32,
            draw(timings),
            draw(qualities(task, classes)),
            draw(shares),
            tuple(draw(st.lists(words, max_size=3))),
            tuple(draw(st.lists(layers, max_size=2))),
            draw(st.dictionaries(words, st.lists(words, max_size=2) | words, max_size=2)),
        )
        for name in ["fp32", *others]
    ]


gates = st.builds(Gate, shares, decibels, shares, shares, shares, ratios, st.booleans())
boards = st.builds(
    lambda budgets, full: replace(BOARD, budgets=budgets, int8=Int8(full=full)),
    st.builds(Budgets, *[st.just(0) | st.integers(1, 10**12)] * 3),
    st.booleans(),
)


def outcome(figures: list[Figures], gate: Gate, board: Profile, name: str, absent: list[NotBuilt]) -> Outcome:
    """What a build decides from these figures."""
    if not figures:
        return Outcome(name, "onnxruntime", (), tuple(absent), None, "not built: " + EVIL)
    choice = choose.choose(figures, gate, board)
    if choice is None:
        why, missed = choose.nothing_passes(figures, gate, board), choose.all_refusals(figures, gate, board)
        return Outcome(name, "onnxruntime", tuple(figures), tuple(absent), None, why, refusals=missed)
    return Outcome(name, "onnxruntime", tuple(figures), tuple(absent), choice, choice.reason, "sha256:" + "0" * 64)


worse = st.fixed_dictionaries({"source": shares, "chosen": shares})
robustness = st.one_of(
    st.just({}),
    st.fixed_dictionaries({"reason": words}),
    st.fixed_dictionaries({
        "primary": st.just("accuracy"), "n": st.integers(1, 1000), "as_it_is": worse,
        "noise": st.lists(worse.map(lambda item: {"sigma": 0.1, **item}), max_size=2),
        "missing_channel": st.lists(worse.map(lambda item: {"channel": 3, **item}), max_size=2),
        "fgsm": st.fixed_dictionaries({"reason": words}) | worse.map(lambda item: {"epsilon": 0.1, **item}),
    }),
)  # fmt: skip


@st.composite
def reports(draw: st.DrawFn) -> Json:
    """A whole report."""
    task, classes = (
        draw(st.sampled_from(["classification", "regression"])),
        draw(st.lists(words, max_size=4, unique=True)),
    )
    gate, source = draw(gates), draw(qualities(task, classes))
    profiles = {}
    for name in draw(st.lists(words, max_size=2, unique=True)):
        board, absent = draw(boards), draw(st.lists(st.builds(NotBuilt, words, words), max_size=2))
        found = outcome(draw(st.just([]) | candidates(task, classes)), gate, board, name, absent)
        found = replace(found, warnings=tuple(draw(st.lists(words, max_size=2))), robustness=draw(robustness))
        profiles[name] = content.decided(found, vars(gate), content.board(board))
    return {
        "v": 1,
        "request": {
            "model": draw(words), "version": draw(words), "counter": draw(st.integers(1, 2**53)), "task": task,
            "classes": classes, "gate": vars(gate),
        },
        "inputs": draw(st.dictionaries(words, words, max_size=2)),
        "evidence": draw(st.dictionaries(words, words, max_size=1)),
        "tools": draw(st.dictionaries(words, words, max_size=2)),
        "evaluation": {
            "n": 10, "primary": source.primary, "skilled": source.skilled, "metrics": source.metrics,
            "per_class": source.per_class, "slices": [],
        },
        "profiles": profiles,
    }  # fmt: skip

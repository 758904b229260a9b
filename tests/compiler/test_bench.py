"""Timings taken on the board itself: from the release that carries every candidate to the build that takes them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from outrider_compiler import UsageError, bench, build, measured, publishing
from outrider_compiler.errors import UnsupportedModelError
from outrider_compiler.host import Host, this_host
from outrider_compiler.measured import Measured
from outrider_compiler.release import Release
from outrider_profiles import load
from outrider_protocol import signing
from tests.compiler.conftest import Kit

BOARD = load("x86-64")


def board() -> Host:
    """This machine without the CPU features that the profile does not promise: the board itself."""
    host = this_host()
    return replace(host, features=host.features - set(BOARD.int8.accelerated_by))


@pytest.fixture(scope="module")
def carrying(kit: Kit, tmp_path_factory: pytest.TempPathFactory) -> Release:
    """A release that carries its candidates."""
    out = tmp_path_factory.mktemp("bench") / "out"
    return build(kit.request(out, profiles=("x86-64",), embedding="embedding", for_bench=True))


@pytest.fixture(scope="module")
def timings(carrying: Release) -> Measured:
    """What the board measured."""
    return bench.bench(carrying, BOARD, board())


def test_every_candidate_travels_and_nobody_signs(carrying: Release, tmp_path: Path) -> None:
    """CMP-BEN-1: a release for the bench verifies, carries all candidates, and is refused by `sign`."""
    carrying.verify()
    signing.save_private(signing.generate(), tmp_path / "key.pem")
    with pytest.raises(UsageError, match="its latency was judged by nobody"):
        publishing.sign(carrying, tmp_path / "key.pem", None, publishing.utc_now())


def test_the_board_measures_them_all(carrying: Release, timings: Measured) -> None:
    """CMP-BEN-3: every candidate of the report is timed under its file's SHA-256, against fp32 in the same run."""
    listed = carrying.report()["profiles"]["x86-64"]["candidates"]
    assert set(timings.timings) == {item["sha256"] for item in listed}
    base = next(item["sha256"] for item in listed if item["name"] == "fp32")
    assert timings.timings[base].latency_ratio == 1.0
    assert all(item.latency_us > 0 and item.first_us > 0 and not item.proxy for item in timings.timings.values())
    assert sum(timings.timings[base].histogram["counts"]) >= 7


def test_a_build_takes_them_over(kit: Kit, carrying: Release, timings: Measured, tmp_path: Path) -> None:
    """CMP-BEN-3: with `--measured` the latencies are the board's and no proxies, and the lock knows the file."""
    (tmp_path / "board.json").write_bytes(timings.encode())
    request = kit.request(
        tmp_path / "out", profiles=("x86-64",), embedding="embedding", measured=(tmp_path / "board.json",)
    )
    made = build(request)
    for item in made.report()["profiles"]["x86-64"]["candidates"]:
        assert item["latency_us"] == timings.timings[item["sha256"]].latency_us
        assert (item["proxy"], item["measured_on"]) == ("", timings.timings[item["sha256"]].measured_on)
    lock = json.loads((made.directory / "outrider.lock").read_bytes())
    assert set(lock["evidence"]) == {"measured:x86-64"}
    again = build(replace(request, out=tmp_path / "again", measured=(), locked=made.directory / "outrider.lock"))
    assert again.index == made.index


def test_a_proxy_and_a_bare_release_are_refused(carrying: Release, release: Release) -> None:
    """CMP-BEN-2: another machine, a profile that is not there, and a release without candidates."""
    with pytest.raises(UsageError, match="measured on aarch64, the profile is x86_64"):
        bench.bench(carrying, BOARD, replace(board(), architecture="aarch64"))
    with pytest.raises(UsageError, match="has no artifact for raspberry-pi-5"):
        bench.bench(carrying, load("raspberry-pi-5"), board())
    with pytest.raises(UsageError, match="carries no candidates of x86-64"):
        bench.bench(release, BOARD, board())


def test_an_engine_that_answers_otherwise_is_refused(carrying: Release, monkeypatch: pytest.MonkeyPatch) -> None:
    """CMP-BEN-2: golden outputs that do not come out make every timing worthless."""
    inputs, outputs, meta = bench.golden(carrying, "x86-64")
    astray = {name: value + 0.5 for name, value in outputs.items()}
    monkeypatch.setattr(bench, "golden", lambda release, profile: (inputs, astray, meta))
    with pytest.raises(UnsupportedModelError, match="is not what it was where the release was built"):
        bench.bench(carrying, BOARD, board())


def test_files_that_say_nothing_are_refused(timings: Measured, tmp_path: Path) -> None:
    """CMP-BEN-4: no file, no timings, another profile, two files of one profile, or a proxy."""

    def written(name: str, item: Measured) -> Path:
        (tmp_path / name).write_bytes(item.encode())
        return tmp_path / name

    good = written("good.json", timings)
    first = next(iter(timings.timings))
    proxy = replace(timings, timings={first: replace(timings.timings[first], proxy="measured on a desk")})
    cases = [
        ((tmp_path / "gone.json",), "no measured timings"),
        ((written("none.json", replace(timings, timings={})),), "0 timings"),
        ((written("other.json", replace(timings, profile="armv7")),), "measured for armv7, which is not built"),
        ((good, written("twice.json", timings)), "a second file for x86-64"),
        ((written("proxy.json", proxy),), "a proxy itself: measured on a desk"),
    ]
    for paths, said in cases:
        with pytest.raises(UsageError, match=said):
            measured.load(paths, ("x86-64",))
    assert measured.load((good,), ("x86-64",))["x86-64"].timings == timings.timings

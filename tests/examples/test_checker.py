"""The demo's checker over a recorded run: docs/spec/demo.md."""

from __future__ import annotations

from pathlib import Path

import pytest

from examples.watch.checker.__main__ import CLAIMS, check, main
from examples.watch.checker.record import Record
from tests.examples.falsify import LIES


def failed(run: Path) -> list[str]:
    """The claims that do not hold."""
    return [claim for claim in CLAIMS if not check(Record(run), claim).ok]


def test_recorded_run_holds(unpacked: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """DEMO-CHK-1: a run in which everything was done holds every claim, each printed with value and threshold."""
    assert main([str(unpacked)]) == 0
    told = capsys.readouterr().out
    assert all(f"\n{claim:<4}ok" in f"\n{told}" for claim in CLAIMS)
    assert told.count("(demanded: ") == len(CLAIMS)


@pytest.mark.parametrize("claim", list(CLAIMS))
def test_one_lie_fails_one_claim(run: Path, claim: str) -> None:
    """DEMO-CHK-2: with one thing falsified, that claim fails and no other (D1 … D14)."""
    LIES[claim](run)
    assert failed(run) == [claim]


@pytest.mark.parametrize("claim", list(CLAIMS))
def test_what_is_missing_fails(tmp_path: Path, claim: str) -> None:
    """DEMO-CHK-3: where nothing was left behind, every claim fails with the missing thing named."""
    finding = check(Record(tmp_path), claim)
    assert not finding.ok
    assert finding.value


def test_exit_status(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """DEMO-CHK-4: a failing claim makes the exit status 1 and is named; wrong usage is 2."""
    LIES["D14"](run)
    assert main([str(run)]) == 1
    assert capsys.readouterr().out.rstrip().endswith("failed: D14")
    assert main([]) == 2

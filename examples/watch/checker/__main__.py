"""Check every claim of a run: `python -m examples.watch.checker RUN`. Exit status 1 when one fails."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from examples.watch.checker import compiled, drift, loop, models, rollouts, telemetry, trust
from examples.watch.checker.finding import Finding
from examples.watch.checker.record import Record
from examples.watch.errors import RecordError

FINDINGS = "findings.json"
CLAIMS: dict[str, Callable[[Record], Finding]] = {
    "D1": models.d1,
    "D2": compiled.d2,
    "D3": compiled.d3,
    "D4": compiled.d4,
    "D5": trust.d5,
    "D6": rollouts.d6,
    "D7": rollouts.d7,
    "D8": telemetry.d8,
    "D9": drift.d9,
    "D10": loop.d10,
    "D11": rollouts.d11,
    "D12": models.d12,
    "D13": drift.d13,
    "D14": loop.d14,
}


def check(record: Record, claim: str) -> Finding:
    """Check one claim; what the run left out is a failure of it."""
    try:
        return CLAIMS[claim](record)
    except (RecordError, KeyError, TypeError, ValueError) as error:
        return Finding(
            claim, "cannot be checked", ok=False, value=f"{type(error).__name__}: {error}", threshold="a record"
        )


def main(arguments: list[str]) -> int:
    """Print every finding and write them to the run; 0 when all hold, 1 when one fails, 2 on wrong usage."""
    if len(arguments) != 1 or not Path(arguments[0]).is_dir():
        print("usage: python -m examples.watch.checker RUN", file=sys.stderr)
        return 2
    record = Record(Path(arguments[0]))
    findings = [check(record, claim) for claim in CLAIMS]
    print("\n".join(finding.text() for finding in findings))
    (record.run / FINDINGS).write_text(json.dumps([asdict(finding) for finding in findings], indent=1) + "\n")
    failed = [finding.claim for finding in findings if not finding.ok]
    print(
        f"{len(findings) - len(failed)} of {len(findings)} claims hold"
        + (f"; failed: {' '.join(failed)}" if failed else "")
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

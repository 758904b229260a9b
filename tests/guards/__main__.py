"""Takes guards away one by one and says which of them a test notices.

    python -m tests.guards --list                     every guard
    python -m tests.guards                            all of them, after their tests passed with every guard in place
    python -m tests.guards --only TRU-6 SGN-21.other  those of a rule, or one
    python -m tests.guards --seed 1 --seconds 60      in an order that the seed gives, none begun after so long

Exit status 0 where all were noticed, 1 where one was not, or has moved. What this machine has not got the program for
is named as not tried.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from tests.guards.mutation import Copy, Result, Verdict, adopt_orphans, copied, try_without
from tests.guards.table import TABLE, Guard, guards, with_others

TOGETHER_S = 1800.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run; see the module."""
    options = _parser().parse_args(arguments)
    known = guards(options.table)
    chosen = [guard for guard in known.values() if not options.only or {guard.id, guard.rule} & set(options.only)]
    if options.list:
        print("\n".join(f"{guard.id:<40} {guard.file}  {guard.test}" for guard in chosen))
        return 0
    if not chosen:
        print(f"no guard is named {' or '.join(options.only)}")
        return 1
    adopt_orphans()
    with copied() as copy:
        if options.seconds is not None:
            random.Random(options.seed).shuffle(chosen)
        elif not options.quick and not _pass_unmutated(copy, chosen):
            return 1
        return _summary(_tried(copy, chosen, known, options.seconds), len(known))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.guards", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", nargs="+", metavar="ID", default=[], help="guards or rules")
    parser.add_argument("--seconds", type=float, metavar="S", help="a slice: begin none after so long")
    parser.add_argument("--seed", type=int, metavar="N", default=0, help="the order of a slice")
    parser.add_argument("--quick", action="store_true", help="do not run the tests unmutated first")
    parser.add_argument("--list", action="store_true", help="name the guards")
    parser.add_argument("--table", type=Path, default=TABLE, help=argparse.SUPPRESS)
    return parser


def _pass_unmutated(copy: Copy, chosen: Iterable[Guard]) -> bool:
    tests = sorted({guard.test for guard in chosen if guard.can_be_tried})
    began_s = time.monotonic()
    status, said = copy.pytest(tests, TOGETHER_S)
    if status != 0:
        print(f"{said}\nwith every guard in place the tests do not pass: nothing can be said of the guards")
        return False
    print(f"{len(tests)} tests pass with every guard in place ({time.monotonic() - began_s:.0f} s)", flush=True)
    return True


def _tried(
    copy: Copy, chosen: Sequence[Guard], known: dict[str, Guard], seconds: float | None
) -> list[tuple[Guard, Result]]:
    began_s, found = time.monotonic(), []
    for guard in chosen:
        start_s = time.monotonic()
        if seconds is not None and start_s - began_s > seconds:
            break
        result = try_without(copy, with_others(guard, known))
        found.append((guard, result))
        print(
            f"{result.verdict.value:<12} {guard.id:<40} {time.monotonic() - start_s:5.1f} s  {guard.test}", flush=True
        )
    return found


def _summary(found: Sequence[tuple[Guard, Result]], known: int) -> int:
    left = [guard for guard, result in found if result.verdict is Verdict.NOT_TRIED]
    passed = {Verdict.NOTICED, Verdict.NOT_TRIED}
    missed = [(guard, result) for guard, result in found if result.verdict not in passed]
    for guard, result in missed:
        print(f"\n---- {guard.id}: {result.verdict.value}\n{result.said}")
    noticed = len(found) - len(missed) - len(left)
    print(f"\n{noticed} of {len(found)} guards noticed ({known} in the table)")
    for program in sorted({guard.needs for guard in left}):
        print(f"not tried, because there is no {program} here: {', '.join(g.id for g in left if g.needs == program)}")
    for guard, result in missed:
        print(f"{result.verdict.value}: {guard.id}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())

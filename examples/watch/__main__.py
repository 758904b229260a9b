"""`make demo`: tell the story, then let the checker judge what it left behind.

Usage: `python -m examples.watch [--seed 0] [--keep] [--break D5]`
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

from examples.watch.errors import WatchError
from examples.watch.story import story
from examples.watch.story.cast import Cast
from examples.watch.story.plan import ROOT, Plan
from examples.watch.story.processes import Processes, command, environment
from examples.watch.story.saboteur import CLAIMS, WHAT
from examples.watch.story.summary import summary


def main() -> int:
    """0 when every claim holds, 1 otherwise."""
    parser = argparse.ArgumentParser(prog="make demo", description="The whole loop on real data.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", action="store_true", help="leave everything running and print its address")
    parser.add_argument("--break", dest="broken", choices=CLAIMS, help="break one thing on purpose")
    asked = parser.parse_args()
    name = f"seed{asked.seed}" + (f"-{asked.broken}" if asked.broken else "")
    plan = Plan(ROOT / ".demo" / name, asked.seed, asked.broken or "")
    plan.begin()
    processes = Processes(plan.logs)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that everything is stopped on the way out
    told = False
    try:
        with ThreadPoolExecutor(12) as pool:
            status = _tell(Cast.of(plan, processes, pool))
        told = True
    finally:
        if not (told and asked.keep):
            processes.stop_all()
    return status


def _tell(cast: Cast) -> int:
    if cast.plan.broken:
        cast.tell.say(f"on purpose: {WHAT[cast.plan.broken]}")
    ended = True
    try:
        story.tell(cast)
    except WatchError as error:
        ended = False
        cast.tell.say(f"the story ended early: {error}\n{' ' * 10}{error.hint}")
    judged = subprocess.run(
        command("python", "-m", "examples.watch.checker", cast.plan.root), cwd=ROOT, env=environment(), check=False
    )
    print(summary(cast), flush=True)
    return judged.returncode if ended or judged.returncode else 1


if __name__ == "__main__":
    sys.exit(main())

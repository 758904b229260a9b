"""A process whose clock says another time: libfaketime where it is installed, else Python's own `time` alone.

The agent reads its clock through `time.time` and `time.time_ns`, and holds certificates against that itself (OpenSSL's
own time check is off), so both ways are the whole of what it sees. Neither touches the monotonic clock.
"""

from __future__ import annotations

import datetime as dt
from pathlib import Path

FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1")
# libfaketime's own wait for an absolute monotonic time fails; a sleep that selects does not need it.
_SLEEP = "import select, time\ntime.sleep = lambda s: select.select([], [], [], s) and None\n"
_SHIFT = (
    "import time\nshift, was, was_ns = {shift}, time.time, time.time_ns\n"
    "time.time = lambda: was() + shift\ntime.time_ns = lambda: was_ns() + shift * 10**9\n"
)


def clock_at(moment: dt.datetime, folder: Path) -> dict[str, str]:
    """Environment variables for a process that starts at `moment` (UTC); `folder` is on its path from then on."""
    folder.mkdir(exist_ok=True)
    shift = int((moment - dt.datetime.now(dt.UTC)).total_seconds())
    is_there = FAKETIME.exists()
    (folder / "sitecustomize.py").write_text(_SLEEP if is_there else _SHIFT.format(shift=shift))
    faked = {"LD_PRELOAD": str(FAKETIME), "FAKETIME": f"{shift:+d}", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
    return {"PYTHONPATH": str(folder), **(faked if is_there else {})}

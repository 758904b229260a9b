"""The signer process: `python -m outrider_fleet.signing --home DIR [--leash]`."""

import argparse
import logging
import signal
import sys
import threading
from pathlib import Path

from outrider_fleet.errors import FleetError
from outrider_fleet.processes.leash import on_parent_end
from outrider_fleet.signing.server import serve
from outrider_protocol.errors import ProtocolError


def main() -> int:
    """Run the signer until SIGTERM (or until standard input ends, with `--leash`); exit status 1 on an error."""
    parser = argparse.ArgumentParser(prog="python -m outrider_fleet.signing", description=__doc__)
    parser.add_argument("--home", type=Path, required=True, help="the fleet server's home")
    parser.add_argument("--leash", action="store_true", help="end when standard input ends")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    if arguments.leash:
        on_parent_end(stop.set)
    try:
        serve(arguments.home.absolute(), stop)
    except (FleetError, ProtocolError) as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n{error.hint}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

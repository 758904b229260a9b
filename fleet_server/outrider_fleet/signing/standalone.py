"""The signer by itself: served until SIGTERM, or until standard input ends."""

import logging
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from outrider_fleet.errors import FleetError
from outrider_fleet.processes.leash import on_parent_end
from outrider_fleet.signing import peers
from outrider_fleet.signing.server import serve
from outrider_protocol.errors import ProtocolError


def run(home: Path, clients: Sequence[str], *, leash: bool = False) -> int:
    """Serve the signer of `home` for this user and `clients`; returns the exit status, 1 on an error."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("tuf").setLevel(logging.WARNING)  # it tells of every root key that did not sign
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    if leash:
        on_parent_end(stop.set)
    try:
        serve(home.absolute(), stop, clients=peers.uids(clients))
    except (FleetError, ProtocolError) as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n{error.hint}\n")
        return 1
    return 0

"""The training runner: `python -m outrider_fleet.training --api URL --token-file F --home DIR`."""

import argparse
import logging
import os
import signal
import sys
import threading
from pathlib import Path

from outrider_fleet.errors import FleetError
from outrider_fleet.processes.leash import on_parent_end
from outrider_fleet.training import config
from outrider_fleet.training.api import Api
from outrider_fleet.training.errors import RunnerConfigError
from outrider_fleet.training.runner import Runner


def main() -> int:
    """Take runs until SIGTERM (or until standard input ends, with `--leash`); exit status 1 on an error."""
    arguments = _parser().parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    stop = threading.Event()
    if arguments.leash:
        on_parent_end(_terminate)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: _stop(stop))
    try:
        runner = Runner(
            Api(arguments.api, _token(arguments.token_file), ca=arguments.ca),
            config.read(arguments.config or arguments.home / "training.toml"),
            arguments.home.absolute(),
        )
        if arguments.once:
            runner.run_once()
        else:
            runner.work(stop)
    except FleetError as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n{error.hint}\n")
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m outrider_fleet.training", description=__doc__)
    parser.add_argument("--api", required=True, help="the fleet server, https://host or http://127.0.0.1:port")
    parser.add_argument("--token-file", type=Path, required=True, help="file with a token of kind `runner`")
    parser.add_argument("--home", type=Path, required=True, help="where runs/ is kept")
    parser.add_argument("--config", type=Path, help="default: training.toml in the home")
    parser.add_argument("--ca", type=Path, help="authority of the server's certificate, PEM")
    parser.add_argument("--once", action="store_true", help="take at most one run, then end")
    parser.add_argument("--leash", action="store_true", help="end when standard input ends")
    return parser


def _token(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError as error:
        raise RunnerConfigError(f"{path}: {error.strerror}") from error


def _stop(stop: threading.Event) -> None:
    """Leave at once, also in the middle of a step: `SystemExit` ends the step's processes on its way out."""
    stop.set()
    raise SystemExit(0)


def _terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)  # to the process: its main thread takes it


if __name__ == "__main__":
    sys.exit(main())

"""The signer process: `python -m outrider_fleet.signing --home DIR [--client USER …] [--leash]`."""

import argparse
import sys
from pathlib import Path

from outrider_fleet.signing.standalone import run


def main() -> int:
    """Run the signer; exit status 1 on an error."""
    parser = argparse.ArgumentParser(prog="python -m outrider_fleet.signing", description=__doc__)
    parser.add_argument("--home", type=Path, required=True, help="the fleet server's home")
    parser.add_argument("--leash", action="store_true", help="end when standard input ends")
    parser.add_argument("--client", action="append", default=[], help="a user beside this one that is answered")
    arguments = parser.parse_args()
    return run(arguments.home, arguments.client, leash=arguments.leash)


if __name__ == "__main__":
    sys.exit(main())

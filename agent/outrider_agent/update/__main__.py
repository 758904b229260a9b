"""`python -m outrider_agent.update`: started by the supervisor, for one order."""

from __future__ import annotations

import logging
import os
import sys

from outrider_agent.control import Channel
from outrider_agent.durable import Durable
from outrider_agent.errors import AgentError, ControlError
from outrider_agent.paths import Paths
from outrider_agent.update.process import Update


def main() -> int:
    """Run one task; 0 when an answer was given or the supervisor has gone."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s update %(levelname)s %(message)s")
    os.umask(0o077)
    try:
        Update(Paths.from_environment(), Channel.from_environment(), Durable()).run()
    except ControlError as error:
        logging.getLogger(__name__).warning("%s", error)
    except AgentError as error:
        logging.getLogger(__name__).error("%s (%s)", error, error.hint)
        return error.exit_status
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""The server put together: a home is made once (`initialise`), then served (`serve`) until SIGTERM."""

from outrider_fleet.server.initialise import initialise
from outrider_fleet.server.serve import serve

__all__ = ["initialise", "serve"]

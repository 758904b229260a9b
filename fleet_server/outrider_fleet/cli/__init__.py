"""`outrider-fleet`: the operator's command line. Everything but `init` and `up` is a client of the HTTP interface.

Exit statuses: 0 done · 1 the server or a part of it is away · 2 usage · 3 refused by a rule · 4 not found or conflict ·
5 not allowed.
"""

from outrider_fleet.cli.main import main

__all__ = ["main"]

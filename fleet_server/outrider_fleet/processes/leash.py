"""A child that ends with its parent: however the parent dies, the kernel closes its end of the pipe.

1. The parent starts the child with `stdin=PIPE` and keeps the pipe; the child calls `on_parent_end`.
"""

import os
import threading
from collections.abc import Callable


def on_parent_end(action: Callable[[], None]) -> threading.Thread:
    """Call `action` in a thread as soon as standard input ends."""

    def watch() -> None:
        while os.read(0, 4096):  # unbuffered: a buffer's lock would hold up the end of the process
            pass
        action()

    thread = threading.Thread(target=watch, name="leash", daemon=True)
    thread.start()
    return thread

"""What is printed while the story runs: a line a step, with the time since the start."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class Teller:
    """Prints progress; safe to use from several threads. `took_s` keeps how long each stage took."""

    began_s: float = field(default_factory=time.monotonic)
    took_s: dict[str, float] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def say(self, text: str) -> None:
        """One line."""
        with self._lock:
            sys.stdout.write(f"{time.monotonic() - self.began_s:6.1f} s  {text}\n")
            sys.stdout.flush()

    @contextmanager
    def stage(self, title: str) -> Iterator[None]:
        """A stage of the story: its title now, its duration kept."""
        self.say(f"── {title}")
        began_s = time.monotonic()
        try:
            yield
        finally:
            self.took_s[title] = time.monotonic() - began_s

"""LiteRT's conversion of a torch source, begun while torch exports the same source on the other core.

Most of the converter's time are its imports. What goes wrong here is told when candidates are built: they try again.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from outrider_compiler.candidates import litert
from outrider_compiler.errors import SourceError
from outrider_profiles import Profile

if TYPE_CHECKING:
    from outrider_compiler.importers.torch_source import TorchSource

Begin = Callable[["TorchSource"], None]


class Conversion:
    """Begun at most once, and over when the block is left; `folder` takes `litert.tflite`."""

    def __init__(self, profiles: tuple[Profile, ...], folder: Path) -> None:
        self._wanted = any(profile.engine.format == "tflite" for profile in profiles) and not litert.missing_packages()
        self._folder, self._pool = folder, ThreadPoolExecutor(1)
        self._running: Future[Any] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown()

    def begin(self, source: TorchSource) -> None:
        """Start, where a profile wants it and the extra is installed."""
        if self._wanted:
            self._running = self._pool.submit(litert.convert, source, self._folder)

    def wait(self) -> None:
        """Until it is over; raises nothing."""
        if self._running is not None:
            with suppress(SourceError):
                self._running.result()

"""Preprocessing in front of a model whose own file cannot hold it: the protocol's executor, as on the device."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from outrider_compiler import engines
from outrider_compiler.data import Feeds
from outrider_protocol.prepare import Executor
from outrider_protocol.preprocess import Preprocess


def prepared(document: Preprocess | None, feeds: Feeds) -> Feeds:
    """Feeds as the model itself takes them; unchanged without a document."""
    if document is None:
        return feeds
    name = document.raw.name
    return {**feeds, name: Executor(document)(feeds[name].astype(document.raw.dtype, copy=False))}


class PreparingRunner:
    """A `Runner` that takes raw samples, and prepares them as a part of every inference."""

    def __init__(self, runner: engines.Runner, document: Preprocess) -> None:
        self._runner, self._name, self._execute = runner, document.raw.name, Executor(document)
        self.inputs = tuple(
            replace(document.raw, shape=(spec.shape[0], *document.raw.shape[1:])) if spec.name == self._name else spec
            for spec in runner.inputs
        )
        self.outputs, self.load_ms = runner.outputs, runner.load_ms

    def run(self, feeds: Feeds) -> Feeds:
        """See `Runner`; prepared a batch at a time, so that large sets stay raw."""
        n = len(next(iter(feeds.values())))
        parts = [
            self._runner.run(self._prepared(engines.rows(feeds, start, start + engines.BATCH)))
            for start in range(0, n, engines.BATCH)
        ]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def once(self, feeds: Feeds) -> None:
        """See `Runner`."""
        self._runner.once(self._prepared(feeds))

    def _prepared(self, feeds: Feeds) -> Feeds:
        return {**feeds, self._name: self._execute(feeds[self._name])}

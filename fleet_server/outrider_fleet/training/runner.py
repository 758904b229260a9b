"""Performs runs: claim, fetch, train, build, sign, publish, finish.

1. Only runs that the server created can be claimed; the provenance names run, snapshot and inputs.
2. The snapshot's digest is checked before anything reads it.
3. The training command sees neither the token nor the pipeline's key.
4. A failure ends the run with error class, hint and the last lines of the log; nothing is published.
5. A runner whose claim was taken over stops and reports nothing; a killed one is simply taken over.

`{out}/training.json`, written by the training command: `{"inputs": [recording, …], "figures": {name: number}}`.
"""

import logging
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from outrider_fleet.errors import FleetError
from outrider_fleet.training import steps
from outrider_fleet.training.api import Api
from outrider_fleet.training.claim import Claim, Workspace
from outrider_fleet.training.config import ModelConfig, RunnerConfig
from outrider_fleet.training.errors import ApiError, LeaseLostError, ResultMissingError
from outrider_fleet.training.execute import Step, execute
from outrider_protocol import canonical, limits
from outrider_protocol.errors import ProtocolError
from outrider_protocol.fields import Fields

_log: Final = logging.getLogger(__name__)
RESULT_BYTES: Final = 4 * limits.MIB


@dataclass(frozen=True)
class Trained:
    """What the training command says about itself."""

    inputs: list[str]
    figures: dict[str, float]


class Runner:
    """Takes one run after the other."""

    def __init__(self, api: Api, config: RunnerConfig, home: Path) -> None:
        self._api, self._config, self._home = api, config, home

    def work(self, stop: threading.Event) -> None:
        """Run until `stop` is set; an absent server is asked again."""
        while not stop.is_set():
            try:
                worked = self.run_once()
            except ApiError as error:
                _log.warning("%s (%s)", error, error.hint)
                worked = False
            if not worked:
                stop.wait(self._config.poll_s)

    def run_once(self) -> bool:
        """Claim and perform one run; False when there is none. Raises `ApiError`."""
        claim = self._api.claim(sorted(self._config.models))
        if claim is None:
            return False
        _log.info("run %s: %s %s from %s", claim.run, claim.model, claim.version, claim.snapshot)
        try:
            self._perform(claim)
        except LeaseLostError as error:
            _log.warning("%s", error)
        except (FleetError, ProtocolError, OSError) as error:
            self._report(claim, error)
        return True

    def _perform(self, claim: Claim) -> None:
        model = self._config.models[claim.model]
        workspace = Workspace.of(self._home, claim)
        self._api.progress(claim, "fetching the snapshot", 0.0)
        self._api.fetch_snapshot(claim.snapshot, workspace.snapshot)
        trained = self._train(claim, model, workspace)
        workspace.provenance.write_bytes(canonical.encode(provenance(claim, trained)))
        self._step(claim, workspace, "build", steps.build(self._config.compiler, claim, model, workspace), 0.5)
        current = self._api.role_metadata(claim.model)
        if current is not None:
            workspace.current_metadata.write_bytes(current)
        sign = steps.sign(self._config.compiler, model, workspace, has_current=current is not None)
        self._step(claim, workspace, "sign", sign, 0.8, **steps.key_secrets(os.environ))
        publish = steps.publish(self._config.compiler, self._api.url, workspace)
        self._step(claim, workspace, "publish", publish, 0.9, OUTRIDER_TOKEN=self._api.token)
        self._api.succeed(claim, trained.inputs, trained.figures)

    def _train(self, claim: Claim, model: ModelConfig, workspace: Workspace) -> Trained:
        self._step(claim, workspace, "train", steps.train(claim, model, workspace), 0.1)
        for name in (model.model, model.calibration, model.evaluation, "training.json"):
            if not (workspace.out / name).is_file():
                raise ResultMissingError(f"the training command left out {name}")
        return read_trained((workspace.out / "training.json").read_bytes())

    def _step(
        self, claim: Claim, workspace: Workspace, name: str, argv: Sequence[str], ratio: float, **secrets: str
    ) -> None:
        model = self._config.models[claim.model]
        timeout_s = model.train_timeout_s if name == "train" else model.build_timeout_s
        self._api.progress(claim, name, ratio)
        step = Step(
            name,
            argv,
            model.directory,
            steps.environment(os.environ, **secrets),
            workspace.log(name),
            timeout_s,
            self._config.beat_s,
        )
        execute(step, self._beat(claim, name, ratio))

    def _beat(self, claim: Claim, name: str, ratio: float) -> Callable[[str], None]:
        def beat(line: str) -> None:
            try:
                self._api.progress(claim, f"{name}: {line}", ratio)
            except ApiError as error:  # the server is away: go on, and try at the next beat
                _log.warning("%s", error)

        return beat

    def _report(self, claim: Claim, error: FleetError | ProtocolError | OSError) -> None:
        hint = getattr(error, "hint", "")
        text = f"{type(error).__name__}: {error}\n{hint}".strip()
        _log.error("run %s failed: %s", claim.run, text)
        try:
            self._api.fail(claim, text)
        except LeaseLostError as lost:
            _log.warning("%s", lost)


def provenance(claim: Claim, trained: Trained) -> dict[str, object]:
    """The content of run.json: what this release is made from."""
    return {
        "v": 1,
        "run": claim.run,
        "model": claim.model,
        "version": claim.version,
        "snapshot": claim.snapshot,
        "base": f"{claim.model}/{claim.base_version}" if claim.base_version else None,
        "inputs": trained.inputs,
    }


def read_trained(data: bytes) -> Trained:
    """Read training.json; raises `MalformedError`."""
    fields = Fields(canonical.decode(data, RESULT_BYTES, "training.json"), "training.json")
    return Trained(list(fields.texts("inputs")), fields.numbers("figures"))

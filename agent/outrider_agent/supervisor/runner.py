"""Performs what the execution machine decides: save, then act.

1. The new stage is in update.json before any effect of it happens.
2. A report is an event in the outbox: durable too, and repeated after every start.
3. Events that a stage does not accept are refused loudly by the machine; `offer` is for what the outside world says at
   any time (a worker's death, a traffic count), where a late word is normal.
4. Where update.json is lost (`lost` says why), what served last goes on serving and no execution begins.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol

from outrider_agent.supervisor.machine import ENDS, Effect, Event, Stage, accepts, reported, step
from outrider_agent.supervisor.state import Execution, Release, StateFile, UpdateState
from outrider_protocol.messages import ExecutionReport
from outrider_protocol.trust import Floors


class Actions(Protocol):
    """What the runner needs done; each returns at once and answers later by an event."""

    def report(self, body: ExecutionReport) -> None: ...
    def await_order(self) -> None: ...
    def stop_update(self) -> None: ...
    def start_shadow(self, execution: Execution) -> None: ...
    def stop_shadow(self) -> None: ...
    def start_candidate(self, execution: Execution) -> None: ...
    def swap(self, execution: Execution) -> None: ...
    def promote(self, state: UpdateState) -> None: ...
    def roll_back(self, state: UpdateState, *, keep_without_current: bool) -> None: ...
    def discard_candidate(self, state: UpdateState) -> None: ...


class Runner:
    """Owns update.json and the one execution in it."""

    def __init__(self, file: StateFile, actions: Actions) -> None:
        self._file, self._actions = file, actions
        recalled = file.recall()
        self.state, self.lost = recalled.state, recalled.lost

    @property
    def execution(self) -> Execution | None:
        """The last execution, ended or not."""
        return self.state.execution

    @property
    def busy(self) -> bool:
        """Whether an execution is under way."""
        return self.state.execution is not None and self.state.execution.stage not in ENDS

    def start(self) -> None:
        """Count this start; call `resume` when the actions can be taken."""
        self._save(replace(self.state, starts=self.state.starts + 1))

    def resume(self) -> None:
        """Go on where the last process stopped."""
        if self.state.execution is not None:
            self.feed(Event.RESTARTED)

    def accept(self, execution: Execution, floors: Floors) -> None:
        """A verified order: its floors and its execution become durable together."""
        if self.busy or self.lost is not None:
            raise AssertionError("an execution must end, and the state be known, before the next begins")
        self._save(replace(self.state, execution=execution, floors=floors))
        self._report()

    def recognise(self, execution: Execution, floors: Floors) -> None:
        """The same order came in another envelope: remember that one."""
        self._save(replace(self.state, execution=execution, floors=floors))

    def set_parameters(self, parameters: dict[str, float]) -> None:
        """The artifact's own defaults are known now; saved with the next step."""
        if self.state.execution is not None:
            self.state = replace(self.state, execution=replace(self.state.execution, parameters=parameters))

    def offer(self, event: Event, detail: dict[str, Any] | None = None) -> bool:
        """Feed the event where the stage accepts it; returns whether it did."""
        if self.state.execution is None or not accepts(self.state.execution.stage, event):
            return False
        self.feed(event, detail)
        return True

    def feed(self, event: Event, detail: dict[str, Any] | None = None) -> None:
        """Take one step: decide, save, act."""
        execution = self.state.execution
        if execution is None:
            raise AssertionError(f"{event.value} without an execution")
        stage, effects = step(execution.stage, event)
        moved = replace(execution, stage=stage, detail=detail if detail is not None else self._detail(execution, stage))
        self._save(_bookkeeping(replace(self.state, execution=moved), effects))
        for effect in effects:
            self._perform(effect)

    def _detail(self, execution: Execution, stage: Stage) -> dict[str, Any]:
        return execution.detail if stage in {execution.stage, Stage.ROLLED_BACK, Stage.ROLLBACK_FAILED} else {}

    def _save(self, state: UpdateState) -> None:
        if self.lost is None:
            self._file.save(state)
        else:
            self._file.remember(state)
        self.state = state

    def _perform(self, effect: Effect) -> None:
        execution = self.state.execution
        if execution is None:
            return
        simple: dict[Effect, Callable[[], None]] = {
            Effect.REPORT: self._report,
            Effect.AWAIT_ORDER: self._actions.await_order,
            Effect.STOP_UPDATE: self._actions.stop_update,
            Effect.START_SHADOW: lambda: self._actions.start_shadow(execution),
            Effect.STOP_SHADOW: self._actions.stop_shadow,
            Effect.START_CANDIDATE: lambda: self._actions.start_candidate(execution),
            Effect.SWAP: lambda: self._actions.swap(execution),
            Effect.PROMOTE: lambda: self._actions.promote(self.state),
            Effect.ROLL_BACK: self._roll_back,
            Effect.DISCARD_CANDIDATE: self._discard,
        }
        simple[effect]()

    def _roll_back(self) -> None:
        execution = self.state.execution
        superseded = execution is not None and execution.stage is Stage.ROLLING_BACK_SUPERSEDED
        self._actions.roll_back(self.state, keep_without_current=superseded)

    def _discard(self) -> None:
        self._actions.discard_candidate(self.state)

    def _report(self) -> None:
        if self.state.execution is not None:
            self._actions.report(report_of(self.state.execution))


def _bookkeeping(state: UpdateState, effects: tuple[Effect, ...]) -> UpdateState:
    """Who is candidate and who is current, saved together with the stage."""
    execution = state.execution
    if Effect.PROMOTE in effects:
        return state.promoted()
    if execution is not None and {Effect.START_CANDIDATE, Effect.START_SHADOW} & set(effects):
        return replace(state, candidate=execution.target)
    if Effect.DISCARD_CANDIDATE in effects:
        return replace(state, candidate=None)
    return state


def report_of(execution: Execution) -> ExecutionReport:
    """What the server is told of an execution."""
    return ExecutionReport(
        epoch=execution.epoch,
        seq=execution.seq,
        model=execution.target.model,
        release=execution.target.release,
        digest=execution.target.digest,
        state=reported(execution.stage).value,
        detail=execution.detail,
    )


def release_of(order: dict[str, Any]) -> Release:
    """The release that an accepted order names (`order` is `Order.view()`)."""
    return Release(order["model"], order["release"], order["counter"], order["manifest"])

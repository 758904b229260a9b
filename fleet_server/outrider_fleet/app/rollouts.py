"""Rollouts at work: the engine's steps within one transaction, and what follows from them.

1. A rollout is read once in a transaction, stepped as often as needed, and written at the end (`flush`).
2. Orders that follow are signed and stored in the same transaction: a killed server goes on exactly there.
3. Every step but the exposure of devices, which the orders tell, is in the audit log: by whom, or by the engine.
4. A device that deviates from a fleet that took a release counts as drifted, and somebody is asked to look at it.
5. A device's earlier unfinished execution of the same model is superseded by the new order.
"""

from sqlalchemy import Connection

from outrider_fleet.app import orders, rollout_rows
from outrider_fleet.app.fleet import Change, Fleet
from outrider_fleet.app.orders import Wish
from outrider_fleet.domain.execution import Report
from outrider_fleet.domain.rollout import step
from outrider_fleet.domain.rollout_state import (
    Acted,
    Action,
    Deviating,
    Effect,
    Event,
    Expose,
    Joined,
    Note,
    Reported,
    Restore,
    Restored,
    Rollout,
    Tick,
)
from outrider_fleet.errors import ConflictError
from outrider_fleet.store import drift, releases, rollouts, sql
from outrider_fleet.store.sql import Row
from outrider_fleet.store.tables import executions
from outrider_protocol.execution import State


class Rollouts:
    """The rollouts that one change touches, on behalf of `actor`."""

    def __init__(self, fleet: Fleet, change: Change, actor: str = "engine") -> None:
        self._fleet, self._change, self._actor = fleet, change, actor
        self._before: dict[str, Rollout] = {}
        self._now: dict[str, Rollout] = {}
        self._effects: list[tuple[str, Effect]] = []

    def get(self, rollout: str) -> Rollout:
        """The present state."""
        if rollout not in self._now:
            self._before[rollout] = self._now[rollout] = rollout_rows.load(self._change.connection, rollout)
        return self._now[rollout]

    def step(self, rollout: str, event: Event) -> None:
        """Step one rollout."""
        stepped, effects = step(self.get(rollout), event, self._change.now_ms)
        self._now[rollout] = stepped
        self._effects += [(rollout, effect) for effect in effects]

    def tick(self, rollout: str) -> None:
        """Let time pass, and take in who has come into the group."""
        row = rollouts.get(self._change.connection, rollout)
        if row is not None and row["state"] in rollouts.OPEN:
            fresh = tuple(rollout_rows.newcomers(self._change.connection, row, self.get(rollout)))
            if fresh:
                self.step(rollout, Joined(fresh))
        self.step(rollout, Tick())

    def flush(self) -> None:
        """Write every state, then do what follows, until nothing follows any more."""
        self._save()
        while self._effects:
            effects, self._effects = self._effects, []
            self._perform(effects)
            self._save()

    def _save(self) -> None:
        for rollout, state in list(self._now.items()):
            if state != self._before[rollout]:
                rollout_rows.save(self._change.connection, self._before[rollout], state, self._change.now_ms)
                self._before[rollout] = state
                self._change.touch("rollouts", "devices")

    def _perform(self, effects: list[tuple[str, Effect]]) -> None:
        wishes: list[Wish] = []
        for rollout, effect in effects:
            if isinstance(effect, Note):
                self._note(rollout, effect)
            elif isinstance(effect, Expose):
                wishes.append(self._exposed(rollout, effect))
            elif isinstance(effect, Deviating):
                self._doubt(rollout, effect)
            else:
                wishes += self._restored(rollout, effect)
        orders.issue(self._fleet, self._change, wishes, self._actor)

    def _note(self, rollout: str, note: Note) -> None:
        state = self._now[rollout]
        rollout_rows.record(self._change.connection, state, note, self._change.now_ms)
        if note.kind != "exposed":
            detail = {"text": note.text, "phase": state.phase, "exposed": state.exposed}
            self._change.audit(self._actor, f"rollout.{note.kind}", rollout, detail)

    def _exposed(self, rollout: str, effect: Expose) -> Wish:
        execution = self._execution(rollout, effect.device)
        artifact = releases.artifact(self._change.connection, execution["digest"])
        if artifact is None:
            raise ConflictError(f"{effect.device}: artifact {execution['digest']} is gone")
        self._supersede_earlier(effect.device, execution)
        return Wish(effect.device, artifact, execution["id"], self.get(rollout).plan.parameters)

    def _doubt(self, rollout: str, effect: Deviating) -> None:
        model = self._execution(rollout, effect.device)["model"]
        drift.doubt(self._change.connection, effect.device, model, effect.text, self._change.now_ms)
        self._change.touch("drift")

    def _execution(self, rollout: str, device: str) -> Row:
        row = sql.find(self._change.connection, executions, rollout=rollout, device=device, purpose="rollout")
        if row is None:
            raise ConflictError(f"{rollout}: {device} has no execution")
        return row

    def _supersede_earlier(self, device: str, execution: Row) -> None:
        for earlier in rollouts.pending_of_device(self._change.connection, device, execution["model"]):
            if earlier["id"] == execution["id"]:
                continue
            ended = {"state": "superseded", "updated_ms": self._change.now_ms, "ended_ms": self._change.now_ms}
            if earlier["purpose"] == "restore" or earlier["rollout"] is None:
                rollouts.update_execution(self._change.connection, earlier["id"], ended)
            else:
                self.step(earlier["rollout"], Reported(device, Report(State.SUPERSEDED)))

    def _restored(self, rollout: str, effect: Restore) -> list[Wish]:
        """Order the device's former release again; without one, take the order off the broker."""
        execution = self._execution(rollout, effect.device)
        former = rollouts.former_release(self._change.connection, effect.device, execution["model"], execution["id"])
        artifact = releases.artifact(self._change.connection, former["digest"]) if former else None
        number = sql.insert(self._change.connection, executions, self._restore_row(execution, artifact))
        if artifact is None:
            orders.withdraw(self._change, effect.device)
            self.step(rollout, Restored(effect.device))
            return []
        return [Wish(effect.device, artifact, number, {})]

    def _restore_row(self, execution: Row, artifact: Row | None) -> Row:
        now_ms = self._change.now_ms
        return {
            "rollout": execution["rollout"],
            "device": execution["device"],
            "purpose": "restore",
            "model": execution["model"],
            "version": artifact["version"] if artifact else execution["version"],
            "digest": artifact["digest"] if artifact else None,
            "profile": execution["profile"],
            "state": "notified" if artifact else "canceled",
            "created_ms": now_ms,
            "ordered_ms": now_ms if artifact else None,
            "updated_ms": now_ms,
            "ended_ms": None if artifact else now_ms,
        }


def act(fleet: Fleet, rollout: str, action: Action, reason: str, actor: str) -> None:
    """What an operator does to a rollout; raises `UnknownError` or `IllegalActionError`."""
    with fleet.change() as change:
        session = Rollouts(fleet, change, actor)
        session.step(rollout, Acted(action, f"{reason} ({actor})" if reason else f"by {actor}"))
        session.flush()


def tick(fleet: Fleet) -> None:
    """Let time pass for every rollout that time can change."""
    with fleet.look() as connection:
        lively = rollouts.lively(connection)
        due = [rollout for rollout in lively if _moves(fleet, connection, rollout)]
    if due:
        with fleet.change() as change:
            session = Rollouts(fleet, change)
            for rollout in due:
                session.tick(rollout)
            session.flush()


def _moves(fleet: Fleet, connection: Connection, rollout: str) -> bool:
    """Whether a tick would change anything: most do not, and need no transaction."""
    state, row = rollout_rows.load(connection, rollout), rollouts.get(connection, rollout)
    if row is not None and row["state"] in rollouts.OPEN and any(rollout_rows.newcomers(connection, row, state)):
        return True
    stepped, effects = step(state, Tick(), fleet.clock_ms())
    return bool(effects) or stepped != state

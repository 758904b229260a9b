"""Rollouts, executions and orders."""

from typing import Any, Final

from sqlalchemy import Connection, Select, and_, or_, select

from outrider_fleet.store import sql
from outrider_fleet.store.sql import Row
from outrider_fleet.store.tables import execution_events, executions, orders, rollout_events, rollouts

OPEN: Final = ("proposed", "running", "paused")


def get(connection: Connection, rollout: str) -> Row | None:
    """A rollout's row."""
    return sql.find(connection, rollouts, id=rollout)


def listed(connection: Connection, *, after: str | None = None, limit: int = sql.PAGE) -> list[Row]:
    """Rollouts, newest first."""
    return sql.page(connection, select(rollouts), rollouts.c.id, after=after, limit=limit, newest_first=True)


def lively(connection: Connection) -> list[str]:
    """Ids of rollouts that time or reports can still change."""
    pending = select(executions.c.rollout).where(executions.c.ordered_ms.is_not(None), executions.c.ended_ms.is_(None))
    chosen = select(rollouts.c.id).where(or_(rollouts.c.state.in_((*OPEN, "rolling_back")), rollouts.c.id.in_(pending)))
    return [str(row["id"]) for row in sql.rows(connection, chosen.order_by(rollouts.c.id))]


def open_of_model(connection: Connection, model: str) -> list[str]:
    """Ids of the open rollouts of a model."""
    chosen = select(rollouts.c.id).where(rollouts.c.model == model, rollouts.c.state.in_(OPEN))
    return [str(row["id"]) for row in sql.rows(connection, chosen.order_by(rollouts.c.id))]


def events(connection: Connection, rollout: str) -> list[Row]:
    """What happened to a rollout, in order."""
    chosen = select(rollout_events).where(rollout_events.c.rollout == rollout)
    return sql.rows(connection, chosen.order_by(rollout_events.c.id))


def executions_of(connection: Connection, rollout: str, purpose: str = "rollout") -> list[Row]:
    """The executions of a rollout, by device."""
    chosen = select(executions).where(executions.c.rollout == rollout, executions.c.purpose == purpose)
    return sql.rows(connection, chosen.order_by(executions.c.device))


def execution(connection: Connection, device: str, epoch: int, seq: int) -> Row | None:
    """The execution of an order."""
    return sql.find(connection, executions, device=device, epoch=epoch, seq=seq)


def update_execution(connection: Connection, number: int, values: dict[str, Any]) -> None:
    """Change columns of an execution."""
    sql.change(connection, executions, executions.c.id == number, values)


def pending_of_device(connection: Connection, device: str, model: str) -> list[Row]:
    """A device's ordered executions without an end."""
    chosen = select(executions).where(
        executions.c.device == device,
        executions.c.model == model,
        executions.c.ordered_ms.is_not(None),
        executions.c.ended_ms.is_(None),
    )
    return sql.rows(connection, chosen)


def former_release(connection: Connection, device: str, model: str, before: int) -> Row | None:
    """The execution by which the device's last proven release came, before execution `before`; None without one."""
    chosen = select(executions).where(
        executions.c.device == device,
        executions.c.model == model,
        executions.c.id < before,
        executions.c.state.in_(("succeeded", "already_installed")),
        executions.c.digest.is_not(None),
    )
    return sql.one(connection, chosen.order_by(executions.c.id.desc()).limit(1))


def last_order(connection: Connection, device: str) -> Row | None:
    """A device's desired state: its highest (epoch, seq), also if withdrawn."""
    return sql.one(connection, _newest_order(device))


def _newest_order(device: str) -> Select[Any]:
    chosen = select(orders).where(orders.c.device == device)
    return chosen.order_by(orders.c.epoch.desc(), orders.c.seq.desc()).limit(1)


def devices_with_orders(connection: Connection) -> list[str]:
    """Everybody who was ever ordered something."""
    return [str(row["device"]) for row in sql.rows(connection, select(orders.c.device).distinct())]


def withdraw(connection: Connection, device: str, epoch: int, seq: int, now_ms: int) -> None:
    """Remember that an order is no longer published."""
    sql.change(
        connection,
        orders,
        and_(orders.c.device == device, orders.c.epoch == epoch, orders.c.seq == seq),
        {"withdrawn_ms": now_ms},
    )


def device_history(connection: Connection, device: str, limit: int = 50) -> list[Row]:
    """A device's latest executions, newest first."""
    chosen = select(executions).where(executions.c.device == device)
    return sql.rows(connection, chosen.order_by(executions.c.id.desc()).limit(limit))


def reports(connection: Connection, device: str, epoch: int, seq: int) -> list[Row]:
    """Every report on one order, as received."""
    key = and_(execution_events.c.device == device, execution_events.c.epoch == epoch, execution_events.c.seq == seq)
    return sql.rows(connection, select(execution_events).where(key).order_by(execution_events.c.id))

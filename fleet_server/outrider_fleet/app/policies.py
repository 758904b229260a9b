"""A model's policy: how far it may go alone, when drift is worth a run, when a device is cleared, how to roll out."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import Connection

from outrider_fleet.app.fleet import Fleet
from outrider_fleet.domain import autonomy, plan
from outrider_fleet.domain.autonomy import Autonomy
from outrider_fleet.domain.clearing import LabelledCheck
from outrider_fleet.domain.drift_policy import DriftPolicy
from outrider_fleet.errors import InvalidRequestError
from outrider_fleet.store import drift, sql
from outrider_fleet.store.tables import policies
from outrider_protocol import ids

_SPEC: Final = ("drift", "labelled_check", "rollout")


@dataclass(frozen=True)
class Policy:
    """Parsed; `rollout` is {group, phases, gates, parameters}, empty where none was set."""

    autonomy: Autonomy = Autonomy.PROPOSE
    drift: DriftPolicy = field(default_factory=DriftPolicy)
    labelled_check: LabelledCheck = field(default_factory=LabelledCheck)
    rollout: dict[str, Any] = field(default_factory=dict)

    @property
    def group(self) -> str:
        """Whom the rollout is for."""
        return str(self.rollout.get("group", "all"))

    @property
    def rollout_spec(self) -> dict[str, Any]:
        """How, as `domain.plan` reads it."""
        return {name: value for name, value in self.rollout.items() if name != "group"}

    def json(self) -> dict[str, Any]:
        """The JSON form."""
        return {
            "autonomy": self.autonomy.value,
            "drift": self.drift.json(),
            "labelled_check": self.labelled_check.json(),
            "rollout": self.rollout,
        }


def of(connection: Connection, model: str) -> Policy:
    """A model's policy, or the defaults."""
    row = drift.policy(connection, model)
    return Policy() if row is None else _parse(row["autonomy"], row["spec"])


def set_policy(fleet: Fleet, model: str, value: Mapping[str, Any], actor: str) -> Policy:
    """Replace the parts given; raises `InvalidRequestError`."""
    unknown = sorted(set(value) - {"autonomy", *_SPEC})
    if unknown:
        raise InvalidRequestError(f"policy: unknown field {unknown[0][:40]!r}")
    with fleet.change() as change:
        present = drift.policy(change.connection, ids.model_name(model))
        spec = {**(present["spec"] if present else {}), **{name: value[name] for name in _SPEC if name in value}}
        level = value.get("autonomy", present["autonomy"] if present else "propose")
        parsed = _parse(level, spec)
        row = {"model": model, "autonomy": parsed.autonomy.value, "spec": spec, "updated_ms": change.now_ms}
        sql.put(change.connection, policies, row)
        change.audit(actor, "policy.set", model, {"autonomy": parsed.autonomy.value})
        change.touch("drift")
    return parsed


def _parse(level: object, spec: Mapping[str, Any]) -> Policy:
    rollout = spec.get("rollout") or {}
    parts = {name: spec.get(name) or {} for name in _SPEC}
    if not all(isinstance(part, Mapping) for part in parts.values()):
        raise InvalidRequestError("policy: drift, labelled_check and rollout are objects")
    policy = Policy(
        autonomy.parse(level),
        DriftPolicy.parse(parts["drift"]),
        LabelledCheck.parse(parts["labelled_check"]),
        dict(rollout),
    )
    if rollout:
        plan.parse(policy.rollout_spec)
    return policy

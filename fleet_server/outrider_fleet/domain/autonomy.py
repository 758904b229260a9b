"""How far a model may go without a person.

    level      a run that the policy asks for     the rollout of its release
    propose    waits for `run approve`            waits for `rollout approve`
    approve    starts by itself                   waits for `rollout approve`
    automatic  starts by itself                   starts by itself

A rollout starts without a person only for a run that the server itself started.

>>> Autonomy("approve").starts_runs, Autonomy("approve").starts_rollouts
(True, False)
"""

from enum import Enum, unique

from outrider_fleet.errors import InvalidRequestError


@unique
class Autonomy(Enum):
    """The level; `propose` is the default."""

    PROPOSE = "propose"
    APPROVE = "approve"
    AUTOMATIC = "automatic"

    @property
    def starts_runs(self) -> bool:
        """Whether a training run starts without a person."""
        return self is not Autonomy.PROPOSE

    @property
    def starts_rollouts(self) -> bool:
        """Whether the rollout of such a run's release starts without a person."""
        return self is Autonomy.AUTOMATIC


def parse(value: object) -> Autonomy:
    """Read a level; raises `InvalidRequestError`."""
    try:
        return Autonomy(value)
    except ValueError:
        raise InvalidRequestError(f"autonomy: {value!r} is not one of propose, approve, automatic") from None

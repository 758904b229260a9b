"""Every error the agent raises, in one tree.

Callers branch on the class, never on the text; `hint` is the sentence the operator sees, `exit_status` what a command
ends with: 2 bad input, 3 refused by a rule of trust, 4 the outside world failed, 5 a fault here.
"""

from __future__ import annotations


class AgentError(Exception):
    """Root of all errors the agent raises on purpose."""

    hint: str = ""
    exit_status: int = 5

    def __init__(self, message: str = "", hint: str | None = None) -> None:
        super().__init__(message)
        if hint is not None:
            self.hint = hint


class ConfigError(AgentError):
    """agent.toml (or what stands beside it) is wrong: the operator must change it."""

    hint = "Correct the named key; docs/spec/agent.md lists every key with its default."
    exit_status = 2


class InputError(AgentError):
    """A file or argument given by a person cannot be used."""

    exit_status = 2


class NotEnrolledError(AgentError):
    """This device has no identity yet."""

    hint = "Run `outrider-agent enrol --server URL --token TOKEN --device ID --profile NAME --trust-root FILE` first."
    exit_status = 2


class EnrolmentError(AgentError):
    """The server refused the enrolment, or what it answered cannot be trusted."""

    hint = "Nothing was written: ask the fleet's operator whether this is the fleet's server."
    exit_status = 3


class TransientError(AgentError):
    """The outside world failed (network, disk, time): try again later."""

    exit_status = 4


class UnreachableError(TransientError):
    """Nobody answers at an address."""

    hint = "Check the address and whether the other side runs, then try again."


class ControlError(AgentError):
    """The channel between supervisor and child is closed or broken: end the child."""

    hint = "The other process ended; the supervisor starts what is needed again."


class DurableError(AgentError):
    """A file that must survive could not be written: nothing was changed."""

    hint = "Check free space and permissions of the agent's directory."
    exit_status = 4


class StateError(AgentError):
    """A file of this device's own state is missing or damaged: the agent does not guess what it trusted."""

    hint = "What runs goes on running, updates stop: enrol this device again (`outrider-agent enrol --again`)."


class OutboxError(AgentError):
    """The outbox was used against its rules: a fault in the agent."""

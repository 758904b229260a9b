"""The bodies of requests; unknown fields are refused. What is inside plans and policies the domain parses."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from outrider_protocol import canonical


class Body(BaseModel):
    """Strict in names, strict in types; every value can be written as JSON again: no NaN, no half characters."""

    model_config = ConfigDict(extra="forbid", strict=True, protected_namespaces=())

    @model_validator(mode="before")
    @classmethod
    def _can_be_written(cls, value: Any) -> Any:
        canonical.encode(value)
        return value


class TokenBody(Body):
    """Make a token."""

    kind: str
    name: str = Field(default="", max_length=200)
    device: str | None = None
    ttl_s: float | int | None = None


class DecommissionBody(Body):
    """Whether to wait until the device has erased itself."""

    wait: bool = True


class GroupBody(Body):
    """Make a group."""

    name: str
    kind: Literal["static", "dynamic"] = "static"
    devices: list[str] | None = None
    query: dict[str, str] | None = None


class ReleaseBody(Body):
    """Publish a release: texts exactly as they were signed."""

    model: str | None = None
    version: str | None = None
    metadata: str = Field(max_length=131_072)
    index: str = Field(max_length=4_194_304)
    provenance: dict[str, Any] | None = None


class AirGapBody(Body):
    """Export for these devices; for every device with a live order where none is named."""

    devices: list[str] = Field(default_factory=list, max_length=10_000)


class RolloutBody(Body):
    """Start a rollout."""

    model: str
    version: str
    group: str = "all"
    phases: list[dict[str, Any]]
    gates: dict[str, Any] = Field(default_factory=dict)
    parameters: dict[str, Any] = Field(default_factory=dict)
    execution_timeout_s: float | int | None = None

    def spec(self) -> dict[str, Any]:
        """What `domain.plan` reads."""
        value: dict[str, Any] = {"phases": self.phases, "gates": self.gates, "parameters": self.parameters}
        if self.execution_timeout_s is not None:
            value["execution_timeout_s"] = self.execution_timeout_s
        return value


class ReasonBody(Body):
    """Why an operator acts."""

    reason: str = Field(default="", max_length=500)


class ReopenBody(Body):
    """Why a cut audit log goes on."""

    reason: str = Field(min_length=1, max_length=500)


class LabelsBody(Body):
    """Labels from people."""

    model: str
    labels: list[dict[str, Any]]


class ModelBody(Body):
    """A model."""

    model: str


class ClaimBody(Body):
    """Claim a run of one of these models (any without)."""

    models: list[str] | None = None


class ProgressBody(Body):
    """A sign of life."""

    fence: int
    text: str = Field(max_length=2000)
    ratio: float | None = None


class FinishBody(Body):
    """The end of a run."""

    fence: int
    state: Literal["succeeded", "failed"]
    figures: dict[str, Any] | None = None
    inputs: list[str] | None = None
    error: str | None = None

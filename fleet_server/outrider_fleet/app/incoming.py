"""What devices send, parsed: pure, before anything is looked up or stored.

1. The topic says who sent it; its shard is checked.
2. A batch whose envelope reads but whose body does not is kept as `Refused`: it is acknowledged, so that one broken
   batch cannot block a device for ever.
3. Anything else that does not parse is dropped with a reason.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from outrider_protocol import telemetry, topics
from outrider_protocol.errors import MalformedError, ProtocolError
from outrider_protocol.messages import Presence, RenewRequest, ReportedState
from outrider_protocol.telemetry import Batch
from outrider_protocol.tensors import split_header


@dataclass(frozen=True)
class PresenceIn:
    """A device came or went."""

    device: str
    presence: Presence


@dataclass(frozen=True)
class StateIn:
    """What a device says of itself."""

    device: str
    state: ReportedState


@dataclass(frozen=True)
class BatchIn:
    """One telemetry batch; `refused` is the reason where its body cannot be read."""

    device: str
    batch: Batch
    refused: str = ""


@dataclass(frozen=True)
class RenewIn:
    """A device asks for its next certificate."""

    device: str
    request: RenewRequest


Incoming = PresenceIn | StateIn | BatchIn | RenewIn


def parse(topic: str, payload: bytes) -> Incoming | None:
    """Read one message; None for an empty one (a deleted retained message). Raises a `ProtocolError`."""
    device, leaf = topics.parse(topic)
    if not payload:
        return None
    if leaf == "presence":
        return PresenceIn(device, Presence.decode(payload))
    if leaf == "state":
        return StateIn(device, ReportedState.decode(payload))
    if leaf == "renew":
        return RenewIn(device, _of(device, RenewRequest.decode(payload)))
    return _batch(device, leaf, payload)


def _of(device: str, request: RenewRequest) -> RenewRequest:
    if request.device != device:
        raise MalformedError(f"{device}: a request for {request.device}")
    return request


def _batch(device: str, stream: str, payload: bytes) -> BatchIn:
    try:
        batch, refused = telemetry.decode(payload), ""
    except ProtocolError as error:
        batch, refused = _envelope_only(payload), str(error)
    if batch.stream != stream:
        raise MalformedError(f"{device}: a batch of stream {batch.stream} on topic {stream}")
    return BatchIn(device, batch, refused)


def _envelope_only(payload: bytes) -> Batch:
    plain = telemetry.encode_body("windows", {}, {})
    _, rest = split_header(payload, telemetry.MAGIC, "batch")
    envelope = payload[: len(payload) - len(rest)]
    return telemetry.decode(envelope + plain)


def devices_of(messages: Sequence[Incoming]) -> list[str]:
    """Who sent something."""
    return list(dict.fromkeys(message.device for message in messages))

"""An order: the signed desired state of one device.

1. It travels as a DSSE envelope of type `TYPE`, signed by the fleet's director.
2. It names one artifact by digest and length, and one device by id and key.
3. `exp_ms − iat_ms` is at most 30 days; expiry limits acceptance, never running.
4. `parameters` are numbers; which names and ranges are allowed stands in the signed artifact.
5. `action` is "run", or "remove": the device erases what it has. An order to remove says so in `crit`; one to run does
   not name its action: its bytes are those of the first version.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Final

from outrider_protocol import canonical, ids, limits
from outrider_protocol.errors import MalformedError, UnsupportedError
from outrider_protocol.fields import VERSION, Fields

ACTIONS: Final = ("run", "remove")
TYPE: Final = "application/vnd.outrider.order.v1+json"


@dataclass(frozen=True)
class Audience:
    """The one device that an order is for; `key_sha256` is the hex SHA-256 of its SubjectPublicKeyInfo (DER)."""

    device: str
    key_sha256: str


@dataclass(frozen=True)
class Order:
    """What one device shall run. Times in ms UTC, `manifest_bytes` the length of the OCI manifest."""

    aud: Audience
    fleet: str
    epoch: int
    seq: int
    iat_ms: int
    exp_ms: int
    model: str
    release: str
    counter: int
    profile: str
    manifest: str
    manifest_bytes: int
    parameters: dict[str, float] = field(default_factory=dict)
    action: str = "run"

    @property
    def target(self) -> str:
        """The TUF target name of the artifact."""
        return ids.target_path(self.model, self.release, self.profile)

    def encode(self) -> bytes:
        """The canonical payload of the envelope."""
        value = {"v": VERSION, **asdict(self)}
        if self.action == "run":
            del value["action"]
        else:
            value["crit"] = ["action"]
        return canonical.encode(value)

    @classmethod
    def decode(cls, payload: bytes) -> Order:
        """Parse a payload whose signature was verified; `MalformedError` names the field."""
        fields = Fields(canonical.decode(payload, limits.ORDER_BYTES, "order"), "order").versioned(_KNOWN)
        order = cls(
            aud=Audience(ids.device_id(fields.object("aud").text("device")), fields.object("aud").text("key_sha256")),
            fleet=fields.text("fleet"),
            epoch=fields.integer("epoch", low=1),
            seq=fields.integer("seq", low=1),
            iat_ms=fields.integer("iat_ms"),
            exp_ms=fields.integer("exp_ms"),
            model=ids.model_name(fields.text("model")),
            release=ids.version(fields.text("release")),
            counter=fields.integer("counter", low=1),
            profile=ids.profile_name(fields.text("profile")),
            manifest=ids.digest(fields.text("manifest")),
            manifest_bytes=fields.integer("manifest_bytes", low=2, high=limits.MANIFEST_BYTES),
            parameters=fields.numbers("parameters"),
            action=fields.optional_text("action") or "run",
        )
        if order.action not in ACTIONS:
            raise UnsupportedError(f"order: the action {order.action[:40]!r} is not known here")
        if not 0 < order.exp_ms - order.iat_ms <= limits.ORDER_LIFETIME_MS:
            raise MalformedError("order: exp_ms must lie within 30 days after iat_ms")
        return order

    def view(self) -> dict[str, Any]:
        """A JSON view for logs and pages."""
        return asdict(self)


_KNOWN: Final = frozenset({"v", "crit", *Order.__dataclass_fields__})

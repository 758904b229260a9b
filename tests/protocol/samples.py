"""One example of every document: what the golden vectors hold and the property tests start from."""

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from outrider_protocol import manifest, messages, signing, statistics, telemetry, tensors
from outrider_protocol.director import DIRECTOR_TARGET, FLOORS_TARGET, Director, Floors
from outrider_protocol.errors import ProtocolError
from outrider_protocol.execution import State
from outrider_protocol.order import Audience, Order
from outrider_protocol.preprocess import Layout, Normalise, Preprocess, Resize, Scale, Window

NOW_MS: Final = 1_790_000_000_000
OUTBOX: Final = "00112233aabbccdd"
DIGEST: Final = "sha256:" + "ab" * 32
KEY: Final = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))

ACK = messages.Ack(OUTBOX, "bulk", 7)
PRESENCE = messages.Presence(3, online=True)
ATTEST = messages.Attestation(DIGEST, "cd" * 32, 4242, 17)
STATE = messages.ReportedState(
    session=3,
    agent_version="0.1.0",
    profile="raspberry-pi-5",
    model="har",
    version="1.0",
    digest=DIGEST,
    execution=messages.ExecutionRef(1, 5, State.PROBATION.value),
    attest=ATTEST,
    phase="baseline",
    floors={"epoch": 1, "seq": 5},
    outbox={"bulk": 2, "event": 0},
    streams={"bulk": 8, "event": 3},
    outbox_id=OUTBOX,
    at_ms=NOW_MS,
    clock_ok=True,
)
EXECUTION = messages.ExecutionReport(1, 5, "har", "1.0", DIGEST, State.SUCCEEDED.value, {"attest": {"answered": 17}})
DRIFT = messages.DriftReport("har", DIGEST, "alarm", 163, 115, 5.25, 0.5, ("channels", "embedding"))
EVENT = messages.Event("execution", NOW_MS, clock_ok=True, body=EXECUTION.body())
ONLINE = messages.TrustOnline(1, "{}", "{}", "{}", {DIRECTOR_TARGET: "{}", FLOORS_TARGET: "{}"})
ENROL = messages.EnrolRequest("token.ab", "dev-1", "raspberry-pi-5", "-----BEGIN", {"cores": 4})
ENROLLED = messages.EnrolResponse("dev-1", "demo", "cert", "ca", "127.0.0.1", 8883, "{}")
RENEW = messages.RenewRequest("dev-1", "-----BEGIN")
RENEWAL = messages.Renewal("issued", "cert")
MESSAGES: Final = (ACK, PRESENCE, STATE, EVENT, ONLINE, ENROL, ENROLLED, RENEW, RENEWAL)

DIRECTOR = Director("demo", 1, (signing.public_bytes(KEY).hex(),))
FLOORS = Floors({"har": 2})
ORDER = Order(
    aud=Audience("dev-1", "ef" * 32),
    fleet="demo",
    epoch=1,
    seq=5,
    iat_ms=NOW_MS,
    exp_ms=NOW_MS + 86_400_000,
    model="har",
    release="1.0",
    counter=3,
    profile="raspberry-pi-5",
    manifest=DIGEST,
    manifest_bytes=2000,
    parameters={"shadow_windows": 24, "shadow_disagreement_max": 0.3},
)
REMOVAL = replace(ORDER, seq=6, parameters={}, action="remove")
ENVELOPE: Final = signing.sign_order(ORDER, [KEY])

MODEL_BYTES: Final = bytes(range(256)) * 1000
LAYER = manifest.device_layer(manifest.Role.MODEL, "model.onnx", MODEL_BYTES)
CONFIG = manifest.Config(
    model="har",
    version="1.0",
    counter=3,
    profile="raspberry-pi-5",
    engine="onnxruntime",
    precision="int8-static",
    inputs=(manifest.TensorSpec("x", "float32", (-1, 100, 6)),),
    outputs=(manifest.TensorSpec("probabilities", "float32", (-1, 7)),),
    probabilities="probabilities",
    classes=("a", "b"),
)
MANIFEST = manifest.Manifest(
    manifest.Descriptor(manifest.CONFIG_TYPE, DIGEST, 300), (LAYER,), {manifest.MODEL: "har", manifest.RELEASE: "1.0"}
)
INDEX = manifest.Index(
    "har", "1.0", 3, {"raspberry-pi-5": manifest.artifact_descriptor(MANIFEST.encode(), "raspberry-pi-5")}
)
STATISTICS = statistics.ReferenceStatistics(
    classes=("a", "b"),
    n=10,
    class_counts=(10, 0),
    bins=(statistics.Bins("x0", (0.0, 1.0), (3, 4, 3)),),
    embedding=statistics.Gaussian(((0.5, 1.5), ()), ((1.0, 0.0), (0.0, 1.0))),
    channels=None,
    scores={"confidence": ((0.5, 0.9), ())},
    accuracy=0.85,
)
PREPROCESS = Preprocess(
    manifest.TensorSpec("x", "uint8", (-1, 48, 36, 3)),
    (
        Window(40),
        Resize(32, 24, "linear", "NHWC"),
        Layout("NHWC", "NCHW"),
        Scale(1 / 255, -0.5),
        Normalise((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), 1),
    ),
)
TENSORS = ({"input:x": tensors.Tensor("f4", (2, 2), bytes(range(16)))}, {"rtol": 0.001})
BODY: Final = telemetry.encode_body(
    "predictions",
    {"model": "har", "version": "1.0", "digest": DIGEST, "clock_ok": True},
    {"at_ms": ("i8", bytes(16)), "klass": ("i2", bytes(4)), "confidence": ("f4", bytes(8))},
)
BATCH: Final = telemetry.wrap(OUTBOX, "bulk", 7, 5, BODY)
EVENT_BATCH: Final = telemetry.wrap(OUTBOX, "event", 2, 1, telemetry.event_body(EVENT))


def read_or_refuse(read: Callable[[bytes], object], data: bytes) -> None:
    """Pass when `data` is read, or refused by a named error that has a hint; any other exception escapes."""
    try:
        read(data)
    except ProtocolError as error:
        refused = error
    else:
        return
    assert refused.hint

"""Upper bounds, checked before anything is parsed or allocated. All sizes in bytes."""

from typing import Final

KIB: Final = 1024
MIB: Final = 1024 * KIB

CHUNK_BYTES: Final = 120 * KIB  # fits AWS IoT Core's 128 KB message
MESSAGE_BYTES: Final = 128 * KIB  # any one MQTT message
CONTROL_BYTES: Final = 64 * KIB  # presence, state, ack, event
ORDER_BYTES: Final = 16 * KIB  # DSSE envelope of one order
ROOT_BYTES: Final = 64 * KIB  # one TUF root
TRUST_ONLINE_BYTES: Final = 128 * KIB  # timestamp + snapshot + targets + fleet files
ROLE_BYTES: Final = 128 * KIB  # one delegated targets role
ROLE_TARGETS: Final = 96  # artifacts that a pipeline lists in its role
BUNDLE_GZIP_BYTES: Final = 8 * KIB  # aim: what a device needs for one model family, compressed
DIRECTOR_BYTES: Final = 16 * KIB
MANIFEST_BYTES: Final = 1 * MIB
INDEX_BYTES: Final = 4 * MIB
CONFIG_BYTES: Final = 256 * KIB
STATISTICS_BYTES: Final = 8 * MIB
GOLDEN_BYTES: Final = 64 * MIB
PREPROCESS_BYTES: Final = 64 * KIB
PREPROCESS_CHANNELS: Final = 1024  # means and standard deviations of one normalisation
SAMPLE_VALUES: Final = 16 * MIB  # values of one sample, before and after every preprocessing step
LAYER_BYTES: Final = 2048 * MIB
LAYERS: Final = 64  # layers of one manifest
BATCH_BYTES: Final = CHUNK_BYTES  # one telemetry batch on the wire
BATCH_INFLATED_BYTES: Final = 4 * MIB
ENROL_BYTES: Final = 64 * KIB
AUDIT_ENTRY_BYTES: Final = 64 * KIB
AUDIT_HEAD_BYTES: Final = 32 * KIB
JSON_DEPTH: Final = 32
ROOT_ROTATIONS: Final = 256
ORDER_LIFETIME_MS: Final = 30 * 24 * 3600 * 1000
SEQ_MAX: Final = 2**53 - 1  # exact in every JSON reader

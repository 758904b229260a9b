"""Every table and column of the fleet database; docs/spec/store.md is the same list in words.

1. Times are int64 milliseconds UTC (`_ms`); digests are `sha256:<64 hex>`; JSON columns hold objects or lists.
2. SQL stays clean for PostgreSQL: no implicit rowid, no type affinity, no `INSERT OR …` outside the dialect's upsert.
3. Append-only: batches, predictions, samples, labels, *_events, snapshots, snapshot_rows, lineage, audit, audit_heads.
"""

from typing import Final

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
)

metadata: Final = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    }
)
Ms = BigInteger
Serial = BigInteger().with_variant(Integer, "sqlite")


def _text(name: str, *, null: bool = False, default: str | None = None) -> Column[str]:
    return Column(name, Text, nullable=null, server_default=default)


def _int(name: str, *, null: bool = False, default: str | None = None) -> Column[int]:
    return Column(name, BigInteger, nullable=null, server_default=default)


def _json(name: str, *, null: bool = False) -> Column[object]:
    return Column(name, JSON, nullable=null)


def _serial() -> Column[int]:
    return Column("id", Serial, primary_key=True, autoincrement=True)


settings = Table("settings", metadata, Column("key", Text, primary_key=True), _text("value"))
counters = Table("counters", metadata, Column("name", Text, primary_key=True), _int("value"))

devices = Table(
    "devices",
    metadata,
    Column("device", Text, primary_key=True),
    _text("profile"),
    _text("state"),
    _text("pseudonym"),
    _int("enrolled_ms"),
    _json("facts"),
    _int("session", default="0"),
    _int("online", default="0"),
    _int("seen_ms", null=True),
    _text("agent_version", null=True),
    _text("outbox_id", null=True),
    _text("model", null=True),
    _text("version", null=True),
    _text("digest", null=True),
    _text("phase", default="none"),
    _text("attest_digest", null=True),
    _text("attest_model_sha256", null=True),
    _int("attest_answered", null=True),
    _int("floor_epoch", default="0"),
    _int("floor_seq", default="0"),
    _json("reported", null=True),
    _int("reported_ms", null=True),
)
device_keys = Table(
    "device_keys",
    metadata,
    _text("device"),
    _text("key_sha256"),
    _text("certificate_pem"),
    _int("issued_ms"),
    _int("expires_ms"),
    _int("revoked_ms", null=True),
    PrimaryKeyConstraint("device", "issued_ms"),
)
renewals = Table(
    "renewals",
    metadata,
    Column("device", Text, primary_key=True),
    _text("key_sha256"),
    _int("asked_ms"),
    _int("approved_ms", null=True),
    _text("approved_by", null=True),
)
erasures = Table(
    "erasures",
    metadata,
    _text("kind"),
    _text("id"),
    _int("at_ms"),
    PrimaryKeyConstraint("kind", "id"),
)
tokens = Table(
    "tokens",
    metadata,
    Column("token_sha256", Text, primary_key=True),
    _text("kind"),
    _text("name"),
    _text("device", null=True),
    _int("created_ms"),
    _int("expires_ms", null=True),
    _int("used_ms", null=True),
    _text("used_by", null=True),
    _int("revoked_ms", null=True),
)
groups = Table(
    "groups",
    metadata,
    Column("name", Text, primary_key=True),
    _text("kind"),
    _json("query", null=True),
    _int("created_ms"),
)
group_members = Table(
    "group_members",
    metadata,
    Column("name", Text, ForeignKey("groups.name"), nullable=False),
    Column("device", Text, ForeignKey("devices.device"), nullable=False),
    PrimaryKeyConstraint("name", "device"),
)

blobs = Table(
    "blobs",
    metadata,
    Column("digest", Text, primary_key=True),
    _int("size"),
    _int("created_ms"),
    _int("published_ms", null=True),
)
releases = Table(
    "releases",
    metadata,
    _text("model"),
    _text("version"),
    _int("counter"),
    _text("state"),
    _int("role_version"),
    _text("role_metadata"),
    _text("index_json"),
    _json("provenance", null=True),
    _text("run", null=True),
    _text("created_by"),
    _int("created_ms"),
    PrimaryKeyConstraint("model", "version"),
    UniqueConstraint("model", "counter"),
)
artifacts = Table(
    "artifacts",
    metadata,
    Column("digest", Text, primary_key=True),
    _text("model"),
    _text("version"),
    _text("profile"),
    _int("manifest_bytes"),
    _text("engine"),
    _text("precision"),
    _text("model_sha256"),
    _int("model_bytes"),
    Column("reference_accuracy", Float, nullable=True),
    _json("config"),
    _json("layers"),
    UniqueConstraint("model", "version", "profile"),
)

rollouts = Table(
    "rollouts",
    metadata,
    Column("id", Text, primary_key=True),
    _text("model"),
    _text("version"),
    _text("group_name"),
    _text("state"),
    _int("phase"),
    _int("phase_entered_ms", null=True),
    _json("spec"),
    _text("verdict"),
    _text("why"),
    _text("created_by"),
    _text("run", null=True),
    _int("created_ms"),
    _int("updated_ms"),
    _int("ended_ms", null=True),
    Index(None, "state"),
)
rollout_events = Table(
    "rollout_events",
    metadata,
    _serial(),
    _text("rollout"),
    _int("at_ms"),
    _text("kind"),
    _int("phase"),
    _int("exposed"),
    _text("text"),
    _json("detail", null=True),
    Index(None, "rollout", "id"),
)
executions = Table(
    "executions",
    metadata,
    _serial(),
    _text("rollout", null=True),
    _text("device"),
    _text("purpose"),
    _int("epoch", null=True),
    _int("seq", null=True),
    _int("phase", null=True),
    _text("model"),
    _text("version"),
    _text("digest", null=True),
    _text("profile"),
    _text("state"),
    _text("error", null=True),
    _text("hint", null=True),
    _int("shadow_n", default="0"),
    _int("shadow_disagree", default="0"),
    _int("drifted", default="0"),
    _text("attest_digest", null=True),
    _int("attest_answered", null=True),
    Column("latency_us", Float, nullable=True),
    _int("created_ms"),
    _int("ordered_ms", null=True),
    _int("updated_ms"),
    _int("ended_ms", null=True),
    UniqueConstraint("device", "epoch", "seq"),
    Index(None, "rollout", "device"),
)
execution_events = Table(
    "execution_events",
    metadata,
    _serial(),
    _text("device"),
    _int("epoch"),
    _int("seq"),
    _text("state"),
    _json("detail"),
    _int("at_ms"),
    _int("clock_ok"),
    _int("received_ms"),
    _int("applied"),
    Index(None, "device", "epoch", "seq"),
)
orders = Table(
    "orders",
    metadata,
    _text("device"),
    _int("epoch"),
    _int("seq"),
    _int("execution", null=True),
    _text("model"),
    _text("version"),
    _text("digest"),
    Column("envelope", LargeBinary, nullable=False),
    _int("iat_ms"),
    _int("exp_ms"),
    _int("withdrawn_ms", null=True),
    PrimaryKeyConstraint("device", "epoch", "seq"),
)

streams = Table(
    "streams",
    metadata,
    _text("device"),
    _text("outbox_id"),
    _text("stream"),
    _int("committed_seq"),
    _int("updated_ms"),
    PrimaryKeyConstraint("device", "outbox_id", "stream"),
)
batches = Table(
    "batches",
    metadata,
    _text("device"),
    _text("outbox_id"),
    _text("stream"),
    _int("seq"),
    _int("prev"),
    _text("kind"),
    _int("n"),
    _int("received_ms"),
    PrimaryKeyConstraint("device", "outbox_id", "stream", "seq"),
    sqlite_with_rowid=False,
)
gaps = Table(
    "gaps",
    metadata,
    _text("device"),
    _text("outbox_id"),
    _text("stream"),
    _int("after_seq"),
    _int("before_seq"),
    _int("declared_ms"),
    PrimaryKeyConstraint("device", "outbox_id", "stream", "before_seq"),
)
predictions = Table(
    "predictions",
    metadata,
    _text("device"),
    _text("outbox_id"),
    _int("seq"),
    _int("idx"),
    _int("at_ms"),
    _text("digest"),
    _int("klass"),
    Column("confidence", Float, nullable=False),
    PrimaryKeyConstraint("device", "outbox_id", "seq", "idx"),
    Index(None, "device", "digest"),
    sqlite_with_rowid=False,
)
windows = Table(
    "windows",
    metadata,
    _text("device"),
    _text("outbox_id"),
    _int("seq"),
    _text("model"),
    _text("digest"),
    _int("n"),
    Column("counts", LargeBinary, nullable=False),
    Column("class_counts", LargeBinary, nullable=False),
    Column("evidence", Float, nullable=False),
    _int("received_ms"),
    PrimaryKeyConstraint("device", "outbox_id", "seq"),
)
samples = Table(
    "samples",
    metadata,
    Column("prediction_id", Text, primary_key=True),
    _text("device"),
    _text("model"),
    _text("version"),
    _text("digest"),
    _text("reason"),
    _text("dtype"),
    _json("shape"),
    Column("x", LargeBinary, nullable=False),
    _int("received_ms"),
    Index(None, "model", "device"),
)
labels = Table(
    "labels",
    metadata,
    Column("prediction_id", Text, primary_key=True),
    _text("device"),
    _text("outbox_id"),
    _int("seq"),
    _int("idx"),
    _text("model"),
    _int("klass"),
    _text("label"),
    _text("source"),
    _text("use"),
    _text("created_by"),
    _int("created_ms"),
    Index(None, "device"),
)

drift_status = Table(
    "drift_status",
    metadata,
    _text("device"),
    _text("model"),
    _text("digest"),
    _text("phase"),
    _int("drifted"),
    _int("since_ms"),
    _text("cleared_by", null=True),
    _int("cleared_ms", null=True),
    _text("cleared_digest", null=True),
    Column("estimated_accuracy", Float, nullable=True),
    Column("evidence", Float, nullable=False, server_default="0"),
    PrimaryKeyConstraint("device", "model"),
)
drift_events = Table(
    "drift_events",
    metadata,
    _serial(),
    _text("device"),
    _text("model"),
    _text("digest"),
    _text("phase"),
    Column("score", Float, nullable=False),
    _int("window_index"),
    _int("baseline_n"),
    Column("estimated_accuracy", Float, nullable=True),
    _json("top"),
    _int("at_ms"),
    _int("received_ms"),
    Index(None, "model", "device"),
)
maintenance_events = Table(
    "maintenance_events",
    metadata,
    _serial(),
    _text("device"),
    _text("model"),
    _text("text"),
    _int("created_ms"),
    _int("closed_ms", null=True),
)
policies = Table(
    "policies", metadata, Column("model", Text, primary_key=True), _text("autonomy"), _json("spec"), _int("updated_ms")
)
snapshots = Table(
    "snapshots",
    metadata,
    Column("digest", Text, primary_key=True),
    _text("model"),
    _text("file"),
    _int("n"),
    _json("sources"),
    _text("created_by"),
    _int("created_ms"),
)
snapshot_rows = Table(
    "snapshot_rows",
    metadata,
    _text("snapshot"),
    _text("prediction_id"),
    _text("label"),
    _text("source"),
    PrimaryKeyConstraint("snapshot", "prediction_id"),
)
runs = Table(
    "runs",
    metadata,
    Column("id", Text, primary_key=True),
    _text("model"),
    _text("state"),
    _text("requested_by"),
    _json("reason"),
    _text("snapshot"),
    _text("base_version"),
    _text("version"),
    _int("counter"),
    _text("claimed_by", null=True),
    _int("claimed_ms", null=True),
    _int("fence", default="0"),
    _json("progress", null=True),
    _json("result", null=True),
    _json("inputs", null=True),
    _text("rollout", null=True),
    _int("created_ms"),
    _int("updated_ms"),
    _int("finished_ms", null=True),
    Index(None, "model", "created_ms"),
)
lineage = Table(
    "lineage",
    metadata,
    _text("child_kind"),
    _text("child_id"),
    _text("parent_kind"),
    _text("parent_id"),
    _int("at_ms"),
    PrimaryKeyConstraint("child_kind", "child_id", "parent_kind", "parent_id"),
    Index(None, "parent_kind", "parent_id"),
)
audit = Table(
    "audit",
    metadata,
    _serial(),
    _int("at_ms"),
    _text("actor"),
    _text("token", null=True),
    _text("action"),
    _text("object"),
    _text("request_sha256", null=True),
    _json("detail", null=True),
    _text("prev"),
    _text("hash"),
)
audit_heads = Table(
    "audit_heads",
    metadata,
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    _text("hash"),
    _int("at_ms"),
    _text("envelope"),
)
idempotency = Table(
    "idempotency",
    metadata,
    _text("actor"),
    _text("key"),
    _text("request_sha256"),
    _json("response"),
    _int("created_ms"),
    PrimaryKeyConstraint("actor", "key"),
)

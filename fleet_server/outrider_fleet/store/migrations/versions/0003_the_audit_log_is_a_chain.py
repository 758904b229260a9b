"""The audit log is a chain: what was there before is taken into it as it stands."""

import hashlib
import json

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002_renewals"
branch_labels = None
depends_on = None

_NAMES = ("at_ms", "actor", "token", "action", "object", "request_sha256")


def upgrade() -> None:
    op.create_table(
        "audit_heads",
        sa.Column("seq", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("hash", sa.Text(), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("envelope", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_audit_heads")),
    )
    with op.batch_alter_table("audit") as batch_op:
        for name in ("token", "request_sha256", "prev", "hash"):
            batch_op.add_column(sa.Column(name, sa.Text(), nullable=True))
    _chain()
    with op.batch_alter_table("audit") as batch_op:
        for name in ("prev", "hash"):
            batch_op.alter_column(name, existing_type=sa.Text(), nullable=False)


def _chain() -> None:
    """Number the entries without gaps, in their order, and link each to the one before."""
    connection = op.get_bind()
    audit = sa.table(
        "audit", *(sa.column(name) for name in ("id", *_NAMES, "prev", "hash")), sa.column("detail", sa.JSON)
    )
    rows = connection.execute(sa.select(audit).order_by(audit.c.id)).mappings().all()
    prev = "0" * 64
    for seq, row in enumerate(rows, start=1):
        entry = {"v": 1, "seq": seq, **{name: row[name] for name in _NAMES}, "detail": row["detail"], "prev": prev}
        text = json.dumps(entry, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        hashed = hashlib.sha256(text.encode()).hexdigest()
        values = {"id": seq, "prev": prev, "hash": hashed}
        connection.execute(sa.update(audit).where(audit.c.id == row["id"]).values(values))
        prev = hashed


def downgrade() -> None:
    with op.batch_alter_table("audit") as batch_op:
        for name in ("hash", "prev", "request_sha256", "token"):
            batch_op.drop_column(name)
    op.drop_table("audit_heads")

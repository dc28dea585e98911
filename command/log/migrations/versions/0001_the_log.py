"""The log: streams, entries, seals, the head under its holder, idempotency keys.

Read tables are not here: they are rebuilt from the log whenever their shape changes (`store.prepare`).
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_Big = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    op.create_table("meta", sa.Column("key", sa.Text, primary_key=True), sa.Column("value", sa.Text, nullable=False))
    op.create_table(
        "head",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("position", _Big, nullable=False),
        sa.Column("entries", _Big, nullable=False),
        sa.Column("holder", sa.Text, nullable=False),
    )
    op.create_table(
        "stream",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("origin", sa.Text, nullable=False),
        sa.Column("generation", sa.Text, nullable=False),
        sa.Column("length", _Big, nullable=False),
        sa.Column("head", sa.LargeBinary, nullable=False),
        sa.UniqueConstraint("subject", "origin", "generation"),
    )
    op.create_table(
        "seal",
        sa.Column("position", _Big, primary_key=True, autoincrement=False),
        sa.Column("root", sa.LargeBinary, nullable=False),
        sa.Column("count", sa.Integer, nullable=False),
        sa.Column("alg", sa.Text, nullable=False),
        sa.Column("signature", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "entry",
        sa.Column("number", _Big, primary_key=True, autoincrement=False),
        sa.Column("stream", sa.Integer, nullable=False),
        sa.Column("seq", _Big, nullable=False),
        sa.Column("position", _Big, nullable=False),
        sa.Column("leaf", sa.Integer, nullable=False),
        sa.Column("hash", sa.LargeBinary, nullable=False),
        sa.Column("data", sa.LargeBinary, nullable=False),
        sa.Column("salt", sa.LargeBinary),
        sa.Column("private", sa.LargeBinary),
        sa.Column("path", sa.LargeBinary, nullable=False),
        sa.UniqueConstraint("stream", "seq"),
    )
    op.create_index("ix_entry_position", "entry", ["position"])
    op.create_table(
        "idempotency",
        sa.Column("key", sa.Text, primary_key=True),
        sa.Column("digest", sa.LargeBinary, nullable=False),
        sa.Column("receipt", sa.LargeBinary, nullable=False),
        sa.Column("at", _Big, nullable=False),
    )
    op.create_index("ix_idempotency_at", "idempotency", ["at"])

"""Entries that are held without their private part, so that it can be asked for once this node is entitled to it."""

import msgspec
import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

NAMES_ONE = b'"private":"'
ROWS_AT_ONCE = 500


class _Entry(msgspec.Struct):
    private: str | None = None


def upgrade() -> None:
    lacking = op.create_table(
        "lacking",
        sa.Column("hash", sa.LargeBinary, primary_key=True),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("origin", sa.Text, nullable=False),
        sa.Column("generation", sa.Text, nullable=False),
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer, "sqlite"), nullable=False),
    )
    op.create_index("ix_lacking_subject", "lacking", ["subject"])
    connection = op.get_bind()
    named = "subject, origin, generation, seq, hash, data"
    chain = (
        "SELECT s.subject, s.origin, s.generation, e.seq, e.hash, e.data FROM entry e JOIN stream s ON s.id = e.stream"
        " WHERE e.private IS NULL"
    )
    decode = msgspec.json.Decoder(_Entry).decode
    for statement in (chain, f"SELECT {named} FROM branch WHERE private IS NULL"):  # noqa: S608
        for rows in connection.execute(sa.text(statement)).partitions(ROWS_AT_ONCE):
            found = [
                {
                    "hash": bytes(row.hash),
                    **{name: row._mapping[name] for name in ("subject", "origin", "generation", "seq")},
                }
                for row in rows
                if NAMES_ONE in bytes(row.data) and decode(bytes(row.data)).private is not None
            ]
            if found:
                connection.execute(sa.insert(lacking), found)

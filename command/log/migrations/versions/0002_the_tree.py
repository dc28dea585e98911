"""The tree: entries of other nodes with the seals they came under, and what is kept beside the chains.

`branch` keeps the other ends of forks, `ahead` entries that came before their stream reached them, each with its own seal.
`unfolded` names incidents whose rows lag behind what is held.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_Big = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    op.create_table(
        "received_seal",
        sa.Column("id", _Big, primary_key=True, autoincrement=False),
        sa.Column("origin", sa.Text, nullable=False),
        sa.Column("root", sa.LargeBinary, nullable=False),
        sa.Column("count", sa.Integer, nullable=False),
        sa.Column("alg", sa.Text, nullable=False),
        sa.Column("signature", sa.LargeBinary, nullable=False),
        sa.UniqueConstraint("origin", "root"),
    )
    op.add_column("entry", sa.Column("seal", _Big))
    for name in ("branch", "ahead"):
        op.create_table(
            name,
            sa.Column("hash", sa.LargeBinary, primary_key=True),
            sa.Column("subject", sa.Text, nullable=False),
            sa.Column("origin", sa.Text, nullable=False),
            sa.Column("generation", sa.Text, nullable=False),
            sa.Column("seq", _Big, nullable=False),
            sa.Column("position", _Big, nullable=False),
            sa.Column("leaf", sa.Integer, nullable=False),
            sa.Column("data", sa.LargeBinary, nullable=False),
            sa.Column("salt", sa.LargeBinary),
            sa.Column("private", sa.LargeBinary),
            sa.Column("path", sa.LargeBinary, nullable=False),
            sa.Column("root", sa.LargeBinary, nullable=False),
            sa.Column("count", sa.Integer, nullable=False),
            sa.Column("alg", sa.Text, nullable=False),
            sa.Column("signature", sa.LargeBinary, nullable=False),
        )
        op.create_index(f"ix_{name}_subject", name, ["subject"])
    op.create_table(
        "unfolded",
        sa.Column("subject", sa.Text, primary_key=True),
        sa.Column("folded", sa.LargeBinary, nullable=False),
    )

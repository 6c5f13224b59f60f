"""A consumer may have live agreements on a dataset for several purposes: what is unique has the purpose too."""

from __future__ import annotations

import json

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

AGREEMENTS = sa.table(
    "agreements", sa.column("name", sa.Text()), sa.column("live_key", sa.Text()), sa.column("body", sa.LargeBinary())
)


def upgrade() -> None:
    """Add the purpose to the key of every agreement that has not ended, in its column and in its record."""
    connection = op.get_bind()
    live = sa.select(AGREEMENTS.c.name, AGREEMENTS.c.body).where(AGREEMENTS.c.live_key.is_not(None))
    for name, body in connection.execute(live).all():
        record = json.loads(body)
        record["live_key"] = f"{record['live_key']}/{record['purpose']}"
        connection.execute(
            sa.update(AGREEMENTS)
            .where(AGREEMENTS.c.name == name)
            .values(live_key=record["live_key"], body=json.dumps(record, separators=(",", ":")).encode())
        )

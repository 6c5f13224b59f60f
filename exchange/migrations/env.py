"""Alembic's entry point. The connection, and its transaction, are the caller's."""

from __future__ import annotations

from alembic import context

from exchange.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transactional_ddl=True,
)
context.run_migrations()

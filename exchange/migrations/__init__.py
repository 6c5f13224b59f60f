"""Schema migrations: Alembic, run from code on an open connection, in one transaction.

A new one: copy the newest file of `versions/`, raise the number, and describe the change by hand, in
words that hold on SQLite and PostgreSQL. A test compares the outcome with `exchange.tables`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from contracts.errors import Reason, SluicegateError

if TYPE_CHECKING:
    from alembic.config import Config
    from sqlalchemy.engine import Connection


NEWEST = "0002"  # a database of this revision needs no Alembic, whose import is a third of a start


def _config(connection: Connection | None) -> Config:
    # Imported here: Alembic costs a third of a second, and only a starting server needs it.
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


def upgrade(connection: Connection) -> None:
    """Run what is missing, in the caller's transaction. Raises CONFIG_INVALID when the database was
    written by a newer version than this code."""
    if _revisions(connection) == [NEWEST]:
        return
    from alembic import command
    from alembic.util import CommandError

    try:
        command.upgrade(_config(connection), "head")
    except CommandError as error:
        raise SluicegateError(
            Reason.CONFIG_INVALID,
            "the database was made by another version of Sluicegate: start it with that version, or a newer one",
        ) from error


def _revisions(connection: Connection) -> list[str]:
    import sqlalchemy as sa

    if not sa.inspect(connection).has_table("alembic_version"):
        return []
    return list(connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalars())


def head() -> str:
    """The newest revision that this code knows."""
    from alembic.script import ScriptDirectory

    return ScriptDirectory.from_config(_config(None)).get_current_head() or ""

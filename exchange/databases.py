"""How SQLite and PostgreSQL are opened, and what their errors are to us."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import URL, Engine, make_url
from sqlalchemy.exc import (
    ArgumentError,
    DataError,
    DBAPIError,
    IntegrityError,
    NoSuchModuleError,
    ProgrammingError,
    SQLAlchemyError,
)

from contracts.errors import Reason, SluicegateError

PATIENCE = 5.0  # seconds a writer waits for its turn


def _checked(url: str) -> URL:
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise _bad_url("it is not a database URL") from None
    backend = parsed.get_backend_name()
    if backend == "sqlite":
        if not parsed.database or parsed.database == ":memory:" or parsed.query:
            raise _bad_url("SQLite needs a file of its own, and no options")
        return parsed.set(drivername="sqlite+pysqlite")
    if backend == "postgresql":
        return parsed.set(drivername="postgresql+psycopg")
    raise _bad_url(f"{backend[:20]!r} is not supported")


def _bad_url(why: str) -> SluicegateError:
    # The URL itself is not quoted: it may hold a password.
    return SluicegateError(
        Reason.CONFIG_INVALID,
        f"the store's URL cannot be used: {why}; allowed: sqlite:///path/to/file or postgresql://user@host/name",
    )


def open_engine(address: str, patience: float) -> Engine:
    """The engine of a store's address (see `Store`); nothing is connected yet. `patience`: seconds
    that anything waits for a connection or a lock. Raises CONFIG_INVALID."""
    url = _checked(address)
    try:
        if url.get_backend_name() == "sqlite":
            return _sqlite(url, patience)
        return _postgresql(url, patience)
    except (ModuleNotFoundError, NoSuchModuleError):
        raise SluicegateError(
            Reason.CONFIG_INVALID, "PostgreSQL needs the driver: pip install 'sluicegate[postgresql]'"
        ) from None


def _sqlite(url: URL, patience: float) -> Engine:
    _private_file(Path(url.database or ""))
    engine = sa.create_engine(
        url,
        poolclass=sa.pool.QueuePool,
        pool_size=16,
        max_overflow=16,
        pool_timeout=patience,
        hide_parameters=True,
        connect_args={"check_same_thread": False, "timeout": patience},
    )

    @sa.event.listens_for(engine, "connect")
    def _prepare(raw: Any, _: object) -> None:
        raw.isolation_level = None  # we say BEGIN ourselves, and which
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "fullfsync=ON", "foreign_keys=ON", "trusted_schema=OFF"):
            raw.execute(f"PRAGMA {pragma}").close()
        # What an erased entry of the ledger said must not lie on in the file.
        raw.execute("PRAGMA secure_delete=ON").close()

    return engine


def empty_log(engine: Engine) -> bool:
    """Move SQLite's log into the file and empty it, so that erased bytes do not live on in the log; whether
    it is empty. Whoever reads an earlier state meanwhile is waited for a second at most: then the log is
    overwritten in time. PostgreSQL keeps old rows until it is vacuumed, which is its operator's to do."""
    if engine.dialect.name != "sqlite":
        return False
    try:
        raw = engine.raw_connection()
    except SQLAlchemyError:
        return False
    try:
        cursor = raw.cursor()
        (patience,) = cursor.execute("PRAGMA busy_timeout").fetchone()
        cursor.execute("PRAGMA busy_timeout = 0")  # waiting, SQLite would keep all writers out
        try:
            for _ in range(20):
                (busy, _, _) = cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
                if not busy:
                    return True
                time.sleep(0.05)
        finally:
            cursor.execute(f"PRAGMA busy_timeout = {patience}")
    except sqlite3.Error:  # it is tried again with the next erasure, and overwritten in time
        return False
    finally:
        raw.close()
    return False


def _postgresql(url: URL, patience: float) -> Engine:
    engine = sa.create_engine(url, pool_size=16, max_overflow=16, pool_timeout=patience, hide_parameters=True)

    @sa.event.listens_for(engine, "connect")
    def _prepare(raw: Any, _: object) -> None:
        with raw.cursor() as cursor:
            cursor.execute(f"SET lock_timeout = {max(1, int(patience * 1000))}")
            # A process that hangs in a transaction must not keep all writers waiting.
            cursor.execute("SET idle_in_transaction_session_timeout = 30000")
            cursor.execute("SET synchronous_commit = on")
        raw.commit()
        raw.autocommit = True  # we say BEGIN ourselves, and which

    return engine


def _private_file(path: Path) -> None:
    """Create the database file for its owner only: it holds who asked for what."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.close(os.open(path, os.O_CREAT | os.O_RDONLY, 0o600))
    except OSError as error:
        raise SluicegateError(
            Reason.CONFIG_INVALID, f"the store's file {path.name} cannot be created or read: {error.strerror}"
        ) from None


DAMAGED = "the database file is damaged: restore the last backup, and keep the file as evidence"


@contextmanager
def translated(reason: Reason) -> Iterator[None]:
    """Database errors as ours. The driver's text stays in the chain, for the log."""
    try:
        yield
    except (IntegrityError, DataError, ProgrammingError) as error:
        raise SluicegateError(Reason.INTERNAL, "the store refused a statement") from error
    except (DBAPIError, SQLAlchemyError) as error:
        # Of SQLite: CORRUPT and NOTADB. Repeating mends neither.
        if getattr(getattr(error, "orig", None), "sqlite_errorcode", 0) & 0xFF in (11, 26):
            raise SluicegateError(Reason.CONFIG_INVALID, DAMAGED) from error
        raise unavailable(reason) from error


def unavailable(reason: Reason) -> SluicegateError:
    """What is said when the database cannot be used: LEDGER_UNAVAILABLE to writers."""
    if reason is Reason.LEDGER_UNAVAILABLE:
        return SluicegateError(
            reason, "the ledger cannot be written now, so nothing was changed or granted: repeat later"
        )
    return SluicegateError(reason, "the store cannot be read now: repeat later")

"""A SQLite file that keeps its word: locked to one process, private, every commit synced to disk."""

from __future__ import annotations

import fcntl
import os
import sqlite3
import stat
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

from contracts.errors import Reason, SluicegateError

PATIENCE = 10  # seconds to wait for whoever else has the file open


class DurableFile:
    """One connection behind a lock. `synchronous = FULL` syncs each commit, `secure_delete` overwrites
    what is deleted. Subclasses name their tables and ask through `_write` and `_rows`."""

    def __init__(
        self, path: Path, *, tables: str, version: int, steps: Mapping[int, str] = MappingProxyType({})
    ) -> None:
        """Open or create the file. `steps` are what makes a file of an earlier version one of the next.

        Raises CONFIG_UNSAFE, STATE_WRONG (open elsewhere) or CONFIG_INVALID."""
        self._lock = threading.RLock()
        self._guard = _guard(path)
        self._log_is_full = False
        try:
            self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=PATIENCE)
            self._prepare(path, tables, version, steps)
        except sqlite3.Error:
            os.close(self._guard)
            message = f"{path} cannot be read as this program's state; restore it from a backup, or move it away"
            raise SluicegateError(Reason.CONFIG_INVALID, message) from None
        except SluicegateError:
            self._db.close()
            os.close(self._guard)
            raise

    def _prepare(self, path: Path, tables: str, version: int, steps: Mapping[int, str]) -> None:
        for pragma in ("journal_mode = WAL", "synchronous = FULL", "secure_delete = ON"):
            self._db.execute(f"PRAGMA {pragma}")
        (sound,) = self._db.execute("PRAGMA quick_check(1)").fetchone()
        if sound != "ok":
            raise sqlite3.DatabaseError("damaged")
        (found,) = self._db.execute("PRAGMA user_version").fetchone()
        if found > version:
            raise SluicegateError(
                Reason.CONFIG_INVALID, f"{path} is of version {found}; this program knows {version}: update it"
            )
        missing = " ".join(steps[earlier] for earlier in range(found, version)) if found else ""
        self._db.executescript(f"BEGIN IMMEDIATE; {missing} {tables} PRAGMA user_version = {version}; COMMIT;")
        self._truncate_log()  # in case an earlier run was killed before it could

    def close(self) -> None:
        """Flush and release the file. Safe to call twice."""
        with self._lock:
            if self._guard >= 0:
                self._db.close()
                os.close(self._guard)
                self._guard = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def _write(self) -> Iterator[sqlite3.Connection]:
        """One transaction, durable when the block is left. IntegrityError passes: it is an answer."""
        with self._lock:
            try:
                self._db.execute("BEGIN IMMEDIATE")
                yield self._db
                self._db.execute("COMMIT")
                if self._log_is_full:
                    with suppress(sqlite3.Error):  # what was asked for is committed; this is tried again
                        self._truncate_log()
            except sqlite3.IntegrityError:
                self._roll_back()
                raise
            except sqlite3.Error as error:
                self._roll_back()
                raise _translated(error) from None
            except BaseException:
                self._roll_back()
                raise

    def _roll_back(self) -> None:
        if self._guard >= 0 and self._db.in_transaction:
            self._db.execute("ROLLBACK")

    def _rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        with self._lock:
            try:
                return self._db.execute(query, values).fetchall()
            except sqlite3.Error as error:
                raise _translated(error) from None

    def _truncate_log(self) -> None:
        """Move the log into the file and empty it, so that erased bytes do not live on in the log. Whoever
        reads the file meanwhile (a backup) is not waited for: then it is done with the next change."""
        with self._lock:
            self._db.execute("PRAGMA busy_timeout = 0")
            try:
                (busy, _, _) = self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
                self._log_is_full = bool(busy)
            finally:
                self._db.execute(f"PRAGMA busy_timeout = {PATIENCE * 1000}")


def _translated(error: sqlite3.Error) -> SluicegateError:
    code = getattr(error, "sqlite_errorcode", None)
    if code == sqlite3.SQLITE_FULL:
        return SluicegateError(
            Reason.SPOOL_FULL, "the gateway's state has no room on its disk; nothing is served until it has"
        )
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return SluicegateError(Reason.UNAVAILABLE, "the gateway's state is busy (a backup?); repeat")
    return SluicegateError(Reason.INTERNAL, "the gateway's state cannot be read or written")


def _guard(path: Path) -> int:
    """Create the file 0600, check who can reach it, and lock it for this process; the lock's handle."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if path.parent.stat().st_mode & 0o077:
        raise SluicegateError(
            Reason.CONFIG_UNSAFE, f"the folder of {path} is open to others; run chmod 700 on it: salts lie there"
        )
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600))
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode) or mode & 0o077:
        raise SluicegateError(Reason.CONFIG_UNSAFE, f"{path} can be read by others; run chmod 600 on it")
    # SQLite's own locks are POSIX locks on the database file, which any close() in this process would
    # drop: the guard is a file of its own.
    guard = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(guard, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(guard)
        raise SluicegateError(Reason.STATE_WRONG, f"another gateway has {path} open; stop it first") from None
    return guard

"""The store: records, replays and transactions over SQLite (the default) or PostgreSQL.

    with store.transaction() as tx:
        tx.insert(record)
        ledger.append(tx, hall, ...)

One writer at a time on both databases: SQLite by `BEGIN IMMEDIATE`, PostgreSQL by an advisory lock.
Nearly every change appends to the ledger, which is a sequence anyway; in return a use case may read,
decide and write without a second thought about races. Keep a write transaction short: decide policy
before it, and check again inside what may have changed. Readers never wait.

A commit that returned is on the disk. When the database cannot be written a transaction raises
LEDGER_UNAVAILABLE, a read UNAVAILABLE, and nothing has changed; only a connection that breaks during
the commit itself leaves the outcome open, and a repeat with the same request id settles it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from contracts.envelope import PublicKey
from contracts.errors import Reason, SluicegateError
from exchange import queries, tables
from exchange.databases import DAMAGED, PATIENCE, open_engine, translated
from exchange.queries import Wanted
from exchange.records import Call, Record
from exchange.session import READ, WRITE, Session, begun
from exchange.tables import SHELVES, Shelf
from exchange.turns import Turns

R = TypeVar("R", bound=Record)

IDLE = 8  # sessions kept for who looks
AT_START = 3.0  # seconds that a starting exchange checks its store before it serves


class Tx:
    """One transaction. Use it only inside the `with` that gave it, in that thread."""

    def __init__(self, session: Session, *, writing: bool) -> None:
        self.session = session
        self._writing = writing

    @property
    def connection(self) -> Connection:
        """For statements that are composed for the occasion (`Session.connection`)."""
        return self.session.connection

    # --- records

    def insert(self, record: R) -> R:
        """Add a record as it stands. Raises ALREADY_EXISTS when its name, or another value that must
        be unique (`live_key`, `issuer`), is taken."""
        self._must_write()
        shelf = SHELVES[type(record)]
        if self.session.one(queries.insertion(self.dialect, type(record)), queries.row(shelf, record)) is None:
            raise self._taken(shelf, record)
        self._write_lists(shelf, record)
        return record

    def get(self, kind: type[R], name: str) -> R | None:
        """The record of that name, or None."""
        if not name.isprintable():  # no name of ours, and NUL is an error to PostgreSQL
            return None
        found = self.session.one(queries.body_of(kind), {"wanted": name})
        return None if found is None else queries.decoder(kind).decode(found[0])

    def replace(self, record: R, *, expected_version: int) -> R:
        """Put the record in the place of its predecessor, if that still has `expected_version`.

        Returns it with the next version. Raises ETAG_MISMATCH when somebody was faster, NOT_FOUND
        when there is none, ALREADY_EXISTS when a unique value is taken.
        """
        self._must_write()
        shelf = SHELVES[type(record)]
        changed = msgspec.structs.replace(record, version=expected_version + 1)
        key = {"old_name": record.name, "old_version": expected_version}
        try:
            found = self.session.one(queries.replacement(type(record)), {**queries.row(shelf, changed), **key})
        except IntegrityError as error:
            raise self._taken(shelf, record) from error
        if found is None:
            if self.get(type(record), record.name) is None:
                raise SluicegateError(Reason.NOT_FOUND, f"there is no {record.name}, or you may not see it")
            raise SluicegateError(
                Reason.ETAG_MISMATCH, f"{record.name} changed since you read it: read it again, then repeat"
            )
        self._write_lists(shelf, changed)
        return changed

    def page(
        self,
        kind: type[R],
        *,
        where: Wanted | None = None,
        either: Wanted | None = None,
        after: str | None = None,
        limit: int = 100,
    ) -> list[R]:
        """Up to `limit` records, newest first, that follow the one named `after`.

        `where` must all hold, of `either` one. A value is compared as it is; a tuple means any of,
        None means empty, `Below(n)` smaller; for a list attribute it asks whether the list has it.
        Raises PAGE_TOKEN_INVALID when `after` names nothing.
        """
        statement = queries.page_of(
            kind, queries.asked(where), None if either is None else queries.asked(either), after is not None
        )
        values = {**queries.values("where", where or {}), **queries.values("either", either or {}), "most": limit}
        if after is not None:
            values["before"] = self._seq(SHELVES[kind], after)
        return [queries.decoder(kind).decode(row[0]) for row in self.session.rows(statement, values)]

    def count(self, kind: type[Record], *, where: Wanted | None = None, either: Wanted | None = None) -> int:
        """How many records match; see `page`."""
        shelf = SHELVES[kind]
        statement = sa.select(sa.func.count()).select_from(shelf.table).where(*queries.conditions(shelf, where, either))
        return int(self.connection.execute(statement).scalar_one())

    def conditions(
        self, kind: type[Record], *, where: Wanted | None = None, either: Wanted | None = None
    ) -> Sequence[sa.ColumnElement[bool]]:
        """What `page` would ask, for statements of other modules."""
        return queries.conditions(SHELVES[kind], where, either)

    # --- replays

    def replay(self, call: Call | None) -> str | None:
        """Name of the resource that this very call already made or changed, or None if it is new.

        Raises REQUEST_ID_REUSED when the caller used the id for another method or body.
        """
        if call is None:
            return None
        key = {"who": call.principal, "which": call.request_id}
        found = self.session.one(queries.REPLAYED, key)
        if found is None:
            return None
        method, body_digest, name = found
        if (method, body_digest) != (call.method, call.body_digest):
            raise SluicegateError(
                Reason.REQUEST_ID_REUSED,
                f"the request id was already used for another {method}: use a fresh UUID",
                metadata={"request_id": call.request_id[:64]},
            )
        return str(name)

    def remember(self, call: Call | None, name: str) -> None:
        """Note that `call` was answered with resource `name`. In the transaction of the change."""
        self._must_write()
        if call is not None:
            self.session.run(queries.REMEMBERED, {**msgspec.structs.asdict(call), "name": name})

    # --- facts

    def fact(self, name: str) -> bytes | None:
        """A fact of the store itself, or None."""
        table = tables.facts
        return self.connection.execute(sa.select(table.c.value).where(table.c.name == name)).scalar_one_or_none()

    def settle(self, name: str, value: bytes) -> bytes:
        """Set a fact once; returns what it is, which an earlier writer may have decided."""
        self._must_write()
        insert = queries.insert_into(tables.facts, self.dialect)
        self.connection.execute(insert.values(name=name, value=value).on_conflict_do_nothing())
        return self.fact(name) or value

    # --- inside

    @property
    def dialect(self) -> str:
        """`sqlite` or `postgresql`."""
        return self.session.dialect

    def _must_write(self) -> None:
        if not self._writing:
            raise SluicegateError(Reason.INTERNAL, "a change was attempted in a reading transaction")

    def _seq(self, shelf: Shelf, name: str) -> int:
        table = shelf.table
        seq = self.connection.execute(sa.select(table.c.seq).where(table.c.name == name)).scalar_one_or_none()
        if seq is None:
            raise SluicegateError(
                Reason.PAGE_TOKEN_INVALID, "the page token points to nothing: start again without one"
            )
        return int(seq)

    def _taken(self, shelf: Shelf, record: Record) -> SluicegateError:
        unique = [c.name for c in shelf.table.columns if c.unique and getattr(record, c.name, None) is not None]
        what = " or its ".join([f"name {record.name}", *unique])
        return SluicegateError(
            Reason.ALREADY_EXISTS, f"the {what} is taken: choose another, or change the existing one"
        )

    def _write_lists(self, shelf: Shelf, record: Record) -> None:
        for attribute, side in shelf.lists.items():
            self.connection.execute(sa.delete(side).where(side.c.owner == record.name))
            values = [{"owner": record.name, "value": value} for value in sorted(set(getattr(record, attribute)))]
            if values:
                self.connection.execute(sa.insert(side), values)


class Store:
    """A database of one exchange. `url` is `sqlite:///path/to/file` or `postgresql://user@host/name`.

    `patience` is how many seconds a writer waits for the one before it. Raises CONFIG_INVALID for
    any other URL. Nothing is read before `migrate` ran once.
    """

    def __init__(self, url: str, *, patience: float = PATIENCE) -> None:
        self._open = threading.local()
        self._pieces = self._checking()
        self._damage: SluicegateError | None = None
        self.engine = open_engine(url, patience)
        # Writers take turns on one connection of their own: what SQLite read on it stays good for the next of them.
        self.writers = open_engine(url, patience)
        self._turns = Turns(self.writers, patience)
        self._idle: list[Session] = []  # for `look`

    def __repr__(self) -> str:
        return f"Store({self.engine.url.render_as_string(hide_password=True)!r})"

    @contextmanager
    def transaction(self) -> Iterator[Tx]:
        """A transaction that may write: all of it is committed, durably, or on any exception nothing.

        Raises LEDGER_UNAVAILABLE when the database cannot be written or the writer's turn does not
        come in time, INTERNAL when this thread already holds one (it would wait for itself).
        """
        self._demand_undamaged()
        if getattr(self._open, "writing", False):
            raise SluicegateError(Reason.INTERNAL, "a transaction was begun inside another")
        self._open.writing = True
        try:
            with self._turns.turn() as session:
                yield Tx(session, writing=True)
        finally:
            self._open.writing = False

    @contextmanager
    def read(self) -> Iterator[Tx]:
        """A transaction that reads one consistent state. Raises UNAVAILABLE when it cannot be read."""
        self._demand_undamaged()
        with translated(Reason.UNAVAILABLE), begun(self.engine, READ) as session:
            yield Tx(session, writing=False)

    @contextmanager
    def look(self) -> Iterator[Tx]:
        """For reading one thing, or several that need not agree: each statement sees the newest state.
        Saves the database beginning and ending a transaction. Raises UNAVAILABLE when it cannot be read."""
        self._demand_undamaged()
        with translated(Reason.UNAVAILABLE), self._looking() as session:
            yield Tx(session, writing=False)

    @contextmanager
    def _looking(self) -> Iterator[Session]:
        """A session without a transaction; kept for the next who looks, unless something went wrong."""
        try:
            session = self._idle.pop()
        except IndexError:
            session = Session(self.engine)
        try:
            yield session
        except BaseException as error:
            session.close()
            if isinstance(error, SQLAlchemyError):
                self._let_idle_go()  # where one connection was lost, so are probably all of them
            raise
        if session.bare and len(self._idle) < IDLE:
            self._idle.append(session)
        else:
            session.commit()
            session.close()

    def _let_idle_go(self) -> None:
        while True:
            try:
                self._idle.pop().close()
            except IndexError:
                return

    def demand_sound(self, checkpoint_key: PublicKey) -> None:
        """Refuse a store whose ledger does not build on the newest checkpoint that `checkpoint_key` signed,
        or that `check` finds damaged within `AT_START` seconds. Raises CONFIG_INVALID or LEDGER_INVALID."""
        from exchange import rechecking

        with self.read() as tx:
            rechecking.since(tx, checkpoint_key)
        end = time.monotonic() + AT_START
        self.check(lambda _: time.monotonic() > end)

    def check(self, pause: Callable[[float], bool]) -> None:
        """Check all of the store while it is in use: every entry of the ledger, and the database's pages
        as far as it can tell itself. Once something does not fit nothing is read or written any more.

        `pause` is told after each piece how many seconds it took; when it answers true the check ends,
        and the next call goes on from there. Raises CONFIG_INVALID or LEDGER_INVALID, as everything
        then does.
        """
        try:
            for took in self._pieces:
                if pause(took):
                    return
        except SluicegateError as error:
            if error.reason in (Reason.CONFIG_INVALID, Reason.LEDGER_INVALID):
                self._damage = error
            raise

    def _checking(self) -> Iterator[float]:
        from exchange import rechecking

        yield from rechecking.beside(self)
        if self.engine.dialect.name == "sqlite":
            with self.look() as tx:
                found = tx.connection.exec_driver_sql("PRAGMA quick_check(1)").scalar_one()
            if found != "ok":
                raise SluicegateError(Reason.CONFIG_INVALID, DAMAGED)

    def _demand_undamaged(self) -> None:
        if self._damage is not None:
            raise SluicegateError(self._damage.reason, self._damage.message)

    def migrate(self) -> None:
        """Bring the tables to this version's shape; does nothing when they are. Safe to run from
        several processes at once. Raises CONFIG_INVALID when the database is newer than this code."""
        from exchange.migrations import upgrade

        with translated(Reason.UNAVAILABLE), begun(self.engine, WRITE) as session:
            upgrade(session.connection)

    def close(self) -> None:
        """Close all connections."""
        self._let_idle_go()
        self.engine.dispose()
        self.writers.dispose()


def match_etag(record: Record, etag: str, *, required: bool = True) -> int:
    """The version to pass as `expected_version`, when `etag` is that of `record`.

    Raises ETAG_MISMATCH otherwise. With `required` false an empty etag stands for any version.
    """
    if etag == record.etag or (not etag and not required):
        return record.version
    if not etag:
        raise SluicegateError(
            Reason.INVALID_ARGUMENT, f"the etag of {record.name} is missing: read it, then repeat with its etag"
        )
    raise SluicegateError(Reason.ETAG_MISMATCH, f"{record.name} changed since you read it: read it again, then repeat")

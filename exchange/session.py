"""A transaction on one connection of the driver, and the statements that are run on it.

SQLAlchemy composes every statement, for either database. What is asked all the time it composes once
(`Statement`), and the driver then runs the text: bringing a statement to the driver and its rows back
costs SQLAlchemy several times as much as database and driver need themselves. What is composed for the
occasion runs as SQLAlchemy runs it, on the same connection and in the same transaction (`connection`).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Dialect, Engine
from sqlalchemy.exc import DBAPIError, InvalidRequestError

Row = tuple[Any, ...]
Values = Mapping[str, object]

log = logging.getLogger("sluicegate.store")  # every statement's text, never its values, at level debug

_WRITERS = 0x51C1CEA7E  # key of PostgreSQL's advisory lock, any number that is ours
# How a transaction begins, by database. PostgreSQL's writers wait for the advisory lock, so each of
# their statements sees what the writer before them committed.
WRITE: Mapping[str, str] = {
    "sqlite": "BEGIN IMMEDIATE",
    "postgresql": f"BEGIN ISOLATION LEVEL READ COMMITTED; SELECT pg_advisory_xact_lock({_WRITERS})",
}
READ: Mapping[str, str] = {"sqlite": "BEGIN", "postgresql": "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY"}


class Statement:
    """A statement as the driver takes it: composed once, with parameters by name.

    `columns` are those that an INSERT or UPDATE sets to parameters of the same names.
    """

    def __init__(self, composed: sa.Executable, *columns: str) -> None:
        self._composed, self._columns = composed, columns
        self._texts: dict[str, tuple[str, tuple[str, ...] | None, dict[str, object]]] = {}

    def on(self, dialect: Dialect) -> tuple[str, tuple[str, ...] | None, dict[str, object]]:
        """Its text for that database; the order of its parameters, None where the driver takes them by
        name; the values of those that are constants."""
        found = self._texts.get(dialect.name)
        if found is None:
            compiled: Any = self._composed.compile(dialect=dialect, column_keys=self._columns or None)  # type: ignore[attr-defined]
            order = tuple(compiled.positiontup) if compiled.positional else None
            constants = {name: value for name, value in compiled.params.items() if value is not None}
            found = self._texts[dialect.name] = (str(compiled), order, constants)
        return found


class Rows:
    """An INSERT of several rows at once: one statement for each number of them, up to `AT_ONCE`."""

    AT_ONCE = 64

    def __init__(self, table: sa.Table, *columns: str) -> None:
        self._table, self._columns = table, columns
        self._statements: dict[int, Statement] = {}

    def of(self, many: Sequence[Row]) -> tuple[Statement, Values]:
        """The statement for so many rows, and its values."""
        statement = self._statements.get(len(many))
        if statement is None:
            rows: list[dict[str, Any]] = [
                {name: sa.bindparam(f"{name}_{at}") for name in self._columns} for at in range(len(many))
            ]
            statement = self._statements[len(many)] = Statement(sa.insert(self._table).values(rows))
        values = {f"{name}_{at}": row[of] for at, row in enumerate(many) for of, name in enumerate(self._columns)}
        return statement, values


class Session:
    """One transaction, used by one thread at a time."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._dialect = engine.dialect
        self._errors: type[Exception] = engine.dialect.loaded_dbapi.Error
        try:
            self._lent = engine.raw_connection()
        except self._errors as error:
            raise DBAPIError.instance(None, None, error, self._errors, dialect=self._dialect) from error
        self._raw: Any = self._lent.dbapi_connection
        self._cursor: Any = self._lent.cursor()
        self._composing: Connection | None = None
        self._begun = False
        self._unsent: list[tuple[Any, ...]] = []  # statements that give nothing back, with their values
        self._marks = 0

    @property
    def dialect(self) -> str:
        """`sqlite` or `postgresql`."""
        return self._dialect.name

    @property
    def bare(self) -> bool:
        """Whether nothing of it is left to end: it began no transaction, and SQLAlchemy none on it."""
        return not self._begun and self._composing is None

    @property
    def connection(self) -> Connection:
        """The same transaction as SQLAlchemy's, for statements that are composed for the occasion. It is
        committed with the session, and by nobody else."""
        self.flush()
        if self._composing is None:
            self._composing = Connection(self._engine, self._lent)
            self._composing.begin()
        return self._composing

    def rows(self, statement: Statement, values: Values) -> list[Row]:
        """The rows that a query, or a change with RETURNING, gives. Raises SQLAlchemy's DBAPIError."""
        text = self._run(statement, values)
        try:
            found: list[Row] = self._cursor.fetchall()
        except self._errors as error:
            raise self._translated(text, error) from error
        return found

    def one(self, statement: Statement, values: Values) -> Row | None:
        """The first row, or None. Raises as `rows`."""
        found = self.rows(statement, values)
        return found[0] if found else None

    def run(self, statement: Statement, values: Values) -> None:
        """Make a change that gives nothing back, before whatever is asked or done next: `flush` or that raises
        as `rows`."""
        text, order, constants = statement.on(self._dialect)
        self._unsent.append((text, _given(order, constants, values)))

    def add(self, rows: Rows, many: Sequence[Row]) -> None:
        """Insert them, as `run` does."""
        for first in range(0, len(many), rows.AT_ONCE):
            self.run(*rows.of(many[first : first + rows.AT_ONCE]))

    def flush(self) -> None:
        """Make the changes that wait. Raises as `rows`."""
        if self._unsent:
            self._send()

    def _run(self, statement: Statement, values: Values) -> str:
        text, order, constants = statement.on(self._dialect)
        self._send((text, _given(order, constants, values)))
        return text

    def _send(self, *last: tuple[Any, ...]) -> None:
        """Have the database do what waits, then the last; all at once where the driver can."""
        batch, self._unsent = [*self._unsent, *last], []
        try:
            with self._raw.pipeline() if len(batch) > 1 and self.dialect == "postgresql" else nullcontext():
                for text, *values in batch:
                    log.debug("%s", text)
                    self._cursor.execute(text, *values)
        except self._errors as error:
            raise self._translated(text, error) from error

    def begin(self, how: Mapping[str, str]) -> None:
        """Begin as `READ` or `WRITE` say. Raises as `rows`."""
        self._send((how[self.dialect],))
        self._begun = True

    def mark(self) -> None:
        """What comes now can be taken back alone. Raises as `run`."""
        self._marks += 1  # a name of its own: going back never reaches behind the mark that was meant
        self._unsent.append((f"SAVEPOINT part{self._marks}",))

    def back_to_mark(self) -> None:
        """Take back what came since the mark. Raises as `rows`."""
        unsent = (f"SAVEPOINT part{self._marks}",) in self._unsent
        self._unsent.clear()
        if not unsent:
            self._send((f"ROLLBACK TO SAVEPOINT part{self._marks}",))

    def commit(self) -> None:
        """End it; what was changed is on the disk. Raises as `rows`, and when the database gave the transaction up
        meanwhile: of that a commit would say nothing."""
        self.flush()
        if self._begun and not self._stands():
            raise InvalidRequestError("the transaction was given up by the database")
        try:
            self._raw.commit()
        except self._errors as error:
            raise self._translated("COMMIT", error) from error

    def _stands(self) -> bool:
        if self.dialect == "sqlite":
            return bool(self._raw.in_transaction)
        return str(self._raw.info.transaction_status.name) == "INTRANS"

    def close(self) -> None:
        """Give the connection back; undoes what was not committed."""
        if self._composing is not None:
            self._composing.close()
        else:
            self._lent.close()

    def _translated(self, text: str, error: Exception) -> BaseException:
        """The driver's error as SQLAlchemy's, by which both databases say the same in the same words.
        When the connection is lost, so are probably all of them: later ones are made anew."""
        lost = self._dialect.is_disconnect(error, self._raw, self._cursor)  # type: ignore[arg-type]
        if lost and self._lent.dbapi_connection is not None:
            self._lent.invalidate(error)
            self._engine.dispose()
        return DBAPIError.instance(
            text, None, error, self._errors, hide_parameters=True, connection_invalidated=lost, dialect=self._dialect
        )


def _given(order: tuple[str, ...] | None, constants: Values, values: Values) -> object:
    every = {**constants, **values} if constants else values
    return every if order is None else [every[name] for name in order]


@contextmanager
def begun(engine: Engine, how: Mapping[str, str]) -> Iterator[Session]:
    """A transaction, begun as `READ` or `WRITE` say for this database; committed unless it raises."""
    session = Session(engine)
    try:
        session.begin(how)
        yield session
        session.commit()
    finally:
        session.close()

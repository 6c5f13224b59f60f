"""Statements about records, for SQLite and PostgreSQL: built once for each kind of question.

`exchange.store` runs them. A question names attributes of a record and how each is compared (`Wanted`); values are
bound when it runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects import sqlite

from contracts.errors import Reason, SluicegateError
from exchange import tables
from exchange.records import Record
from exchange.session import Statement
from exchange.tables import SHELVES, Shelf

if TYPE_CHECKING:
    from sqlalchemy.dialects import postgresql

R = TypeVar("R", bound=Record)


@dataclass(frozen=True, slots=True)
class Below:
    """In `where`: the column is smaller than this."""

    value: int


Wanted = Mapping[str, object]


# --- statements that every call needs, built once: composing one costs more than running it

REPLAYED = Statement(
    sa.select(tables.calls.c.method, tables.calls.c.body_digest, tables.calls.c.name).where(
        tables.calls.c.principal == sa.bindparam("who"), tables.calls.c.request_id == sa.bindparam("which")
    )
)
REMEMBERED = Statement(sa.insert(tables.calls), *tables.calls.c.keys())


@cache
def body_of(kind: type[Record]) -> Statement:
    """The record of one name: `wanted`."""
    table = SHELVES[kind].table
    return Statement(sa.select(table.c.body).where(table.c.name == sa.bindparam("wanted")))


@cache
def page_of(kind: type[Record], where: Asked, either: Asked | None, following: bool) -> Statement:
    """`most` records, newest first, of these attributes (`asked`, `values`); `following` the one numbered `before`."""
    shelf = SHELVES[kind]
    table = shelf.table
    statement = sa.select(table.c.body).where(*_bound(shelf, "where", where))
    if either is not None:
        statement = statement.where(sa.or_(sa.false(), *_bound(shelf, "either", either)))
    if following:
        statement = statement.where(table.c.seq < sa.bindparam("before"))
    return Statement(statement.order_by(table.c.seq.desc()).limit(sa.bindparam("most")))


@cache
def insertion(dialect: str, kind: type[Record]) -> Statement:
    """A new `row`; it returns nothing when a unique value is taken."""
    shelf = SHELVES[kind]
    insert = insert_into(shelf.table, dialect)
    return Statement(insert.on_conflict_do_nothing().returning(shelf.table.c.seq), *_written(shelf))


@cache
def replacement(kind: type[Record]) -> Statement:
    """A `row` in the place of `old_name`, `old_version`; it returns nothing when there is no such row."""
    shelf = SHELVES[kind]
    table = shelf.table
    same = (table.c.name == sa.bindparam("old_name"), table.c.version == sa.bindparam("old_version"))
    return Statement(sa.update(table).where(*same).returning(table.c.seq), *_written(shelf))


# --- rows


def insert_into(table: sa.Table, dialect: str) -> sqlite.Insert | postgresql.Insert:
    """An insertion that can say what to do about conflicts."""
    if dialect == "sqlite":
        return sqlite.insert(table)
    from sqlalchemy.dialects import postgresql

    return postgresql.insert(table)


def _written(shelf: Shelf) -> tuple[str, ...]:
    return ("version", "created", "updated", *shelf.columns, "body")


def row(shelf: Shelf, record: Record) -> dict[str, Any]:
    """A record as its table has it."""
    values = {name: _plain(getattr(record, name)) for name in _written(shelf) if name != "body"}
    return {**values, "body": msgspec.json.encode(record)}


def _plain(value: object) -> object:
    # psycopg would write an enumeration's name, not its value.
    return value.value if isinstance(value, Enum) else value


@cache
def decoder(kind: type[R]) -> msgspec.json.Decoder[R]:
    """Of a record's body. Attributes it does not know are passed over: a newer exchange may have written them."""
    return msgspec.json.Decoder(kind)


# --- conditions

_Form = Literal["is", "none", "below"] | int  # a number: any of so many
Asked = tuple[tuple[str, _Form], ...]  # attributes, and how each is compared


def conditions(shelf: Shelf, where: Wanted | None, either: Wanted | None) -> Sequence[sa.ColumnElement[bool]]:
    """What must hold: all of `where`, one of `either`. With the values in it."""
    every = [_condition(shelf, name, value) for name, value in (where or {}).items()]
    if either is not None:
        every.append(sa.or_(sa.false(), *(_condition(shelf, name, value) for name, value in either.items())))
    return every


def _condition(shelf: Shelf, name: str, value: object) -> sa.ColumnElement[bool]:
    return _compare(shelf, name, _form(value), _operand(value))


def _bound(shelf: Shelf, prefix: str, asked: Asked) -> list[sa.ColumnElement[bool]]:
    """The conditions with parameters in the place of values; `values` gives them by the same names."""
    return [_compare(shelf, name, form, _parameters(f"{prefix}_{name}", form)) for name, form in asked]


def _parameters(name: str, form: _Form) -> Any:
    return [sa.bindparam(f"{name}_{at}") for at in range(form)] if isinstance(form, int) else sa.bindparam(name)


def asked(wanted: Wanted | None) -> Asked:
    """What is asked, without the values."""
    return tuple((name, _form(value)) for name, value in (wanted or {}).items())


def values(prefix: str, wanted: Wanted) -> dict[str, object]:
    """The values by the names that `page_of` gave them; `prefix` is `where` or `either`."""
    found: dict[str, object] = {}
    for name, value in wanted.items():
        operand = _operand(value)
        if isinstance(operand, list):
            found |= {f"{prefix}_{name}_{at}": one for at, one in enumerate(operand)}
        elif operand is not None:
            found[f"{prefix}_{name}"] = operand
    return found


def _form(value: object) -> _Form:
    if isinstance(value, Below):
        return "below"
    if isinstance(value, tuple | list | set | frozenset):
        return len(value)
    return "none" if value is None else "is"


def _operand(value: object) -> Any:
    if isinstance(value, Below):
        return value.value
    return sorted(value) if isinstance(value, tuple | list | set | frozenset) else value


def _compare(shelf: Shelf, name: str, form: _Form, operand: Any) -> sa.ColumnElement[bool]:
    if name in shelf.lists:
        side = shelf.lists[name]
        return sa.exists().where(side.c.owner == shelf.table.c.name, _compare_column(side.c.value, form, operand))
    if name not in (*shelf.columns, "created", "updated"):
        raise SluicegateError(
            Reason.INTERNAL, f"{shelf.table.name} cannot be asked by {name}: it is no column of exchange.tables"
        )
    return _compare_column(shelf.table.c[name], form, operand)


def _compare_column(column: sa.ColumnElement[Any], form: _Form, operand: Any) -> sa.ColumnElement[bool]:
    if isinstance(form, int):
        return column.in_(operand) if operand else sa.false()
    compared: dict[str, Callable[[], sa.ColumnElement[bool]]] = {
        "below": lambda: column < operand,
        "none": lambda: column.is_(None),
        "is": lambda: column == operand,
    }
    return compared[form]()

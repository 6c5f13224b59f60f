"""The tables of the store, and which of a record's attributes can be asked for.

A record is kept whole as a JSON body; beside it stand only the columns that are queried by. A new
optional attribute therefore needs no migration, a new question does. `seq` counts insertions and
orders listings, newest first; it never changes, so a page token stays good while rows are added.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
)

from exchange.records import Agreement, Contract, Dataset, Gateway, Key, Party, Person, Record, Request, Transfer

# Names that migrations can refer to on every database.
metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    }
)

# SQLite only counts up by itself in a column of exactly the type INTEGER.
Sequence = BigInteger().with_variant(Integer, "sqlite")


@dataclass(frozen=True)
class Shelf:
    """Where one kind of record stands: its table, its queried columns (`columns`, named like the
    attributes), and for attributes that are lists a side table (owner, value) each."""

    record: type[Record]
    table: Table
    columns: tuple[str, ...]
    lists: Mapping[str, Table] = field(default_factory=dict)


def _shelf(
    record: type[Record], *columns: Column[str] | Column[int], lists: Mapping[str, Table] | None = None
) -> Shelf:
    table = Table(
        record.TABLE,
        metadata,
        Column("seq", Sequence, primary_key=True, autoincrement=True),
        Column("name", Text, nullable=False),
        Column("version", BigInteger, nullable=False),
        Column("created", BigInteger, nullable=False),
        Column("updated", BigInteger, nullable=False),
        *columns,
        Column("body", LargeBinary, nullable=False),
        UniqueConstraint("name"),
        sqlite_autoincrement=True,
    )
    return Shelf(record, table, ("name", *(column.name for column in columns)), lists or {})


def _text(
    name: str, *arguments: ForeignKey, unique: bool = False, index: bool = True, nullable: bool = False
) -> Column[str]:
    return Column(
        name, Text, *arguments, unique=unique or None, index=(index and not unique) or None, nullable=nullable
    )


def _instant(name: str) -> Column[int]:
    return Column(name, BigInteger, index=True, nullable=False)


def _party() -> Column[str]:
    return _text("party", ForeignKey("parties.party"))


def _list(owners: str, attribute: str) -> Table:
    return Table(
        f"{owners}_{attribute}",
        metadata,
        Column("owner", Text, ForeignKey(f"{owners}.name", ondelete="CASCADE"), primary_key=True),
        Column("value", Text, primary_key=True, index=True),
    )


_SHELVES = (
    _shelf(Party, _text("party", unique=True), _text("kind", index=False), _text("issuer", unique=True)),
    _shelf(Person, _party(), _text("subject", index=False)),
    _shelf(Key, _party(), _text("kid"), _text("subject", index=False), _text("use", index=False)),
    _shelf(Gateway, _party(), _text("gateway", index=False)),
    _shelf(
        Contract,
        _party(),
        _text("dataset"),
        _text("document_digest"),
        _text("terms_digest"),
        lists={"consumers": _list("contracts", "consumers")},
    ),
    _shelf(
        Dataset,
        _party(),
        _text("dataset", index=False),
        _text("contract", ForeignKey("contracts.name"), index=False),
        _text("sharing_class", index=False),
        lists={"consumers": _list("datasets", "consumers")},
    ),
    _shelf(
        Request,
        _text("provider"),
        _text("consumer"),
        _text("requester", index=False),
        _text("dataset"),
        _text("contract", index=False),
        _text("state", index=False),
    ),
    _shelf(
        Agreement,
        _text("provider"),
        _text("consumer"),
        _text("dataset"),
        _text("contract", index=False),
        _text("request", ForeignKey("requests.name")),
        _text("state", index=False),
        _text("gateway"),
        _instant("not_after"),
        _text("live_key", unique=True, nullable=True),
    ),
    _shelf(
        Transfer,
        _text("provider"),
        _text("consumer"),
        _text("agreement", ForeignKey("agreements.name"), index=False),
        _text("gateway"),
        _text("state", index=False),
        _text("resumes"),
        Column("grant_expires", BigInteger, nullable=False),
    ),
)

SHELVES: Mapping[type[Record], Shelf] = {shelf.record: shelf for shelf in _SHELVES}

# Every grant first asks for the agreement's transfers of some states.
_transfers = SHELVES[Transfer].table.c
Index("ix_transfers_agreement_state", _transfers.agreement, _transfers.state, _transfers.grant_expires)

# Replays: one row for every mutating call that was answered. The key has neither method nor body:
# the same id for anything else is refused.
calls = Table(
    "calls",
    metadata,
    Column("principal", Text, primary_key=True),
    Column("request_id", Text, primary_key=True),
    Column("method", Text, nullable=False),
    Column("body_digest", Text, nullable=False),
    Column("name", Text, nullable=False),
)

# Facts about this store itself, such as the secret of its page tokens.
facts = Table(
    "facts",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", LargeBinary, nullable=False),
)

# The words of a dataset, folded, by where they stand: what search looks through.
dataset_words = Table(
    "dataset_words",
    metadata,
    Column("owner", Text, ForeignKey("datasets.name", ondelete="CASCADE"), primary_key=True),
    Column("title", Text, nullable=False),
    Column("purposes", Text, nullable=False),
    Column("fields", Text, nullable=False),
    Column("description", Text, nullable=False),
)

# An erased entry keeps its leaf hash and loses everything else that tells of a person.
ledger_entries = Table(
    "ledger_entries",
    metadata,
    Column("position", BigInteger, primary_key=True, autoincrement=False),
    Column("leaf", LargeBinary, nullable=False),
    Column("salt", LargeBinary, nullable=True),
    Column("entry", LargeBinary, nullable=True),
    Column("event", Text, nullable=False),
    Column("resource", Text, nullable=False, index=True),
    Column("created", BigInteger, nullable=False),
)

ledger_parties = Table(
    "ledger_parties",
    metadata,
    Column("position", BigInteger, ForeignKey("ledger_entries.position"), primary_key=True, autoincrement=False),
    Column("party", Text, primary_key=True),
    Index("ix_ledger_parties_party_position", "party", "position"),
)

# Hashes of complete subtrees: level 0 are leaves, `position` counts nodes of that level.
ledger_nodes = Table(
    "ledger_nodes",
    metadata,
    Column("level", Integer, primary_key=True, autoincrement=False),
    Column("position", BigInteger, primary_key=True, autoincrement=False),
    Column("hash", LargeBinary, nullable=False),
)

checkpoints = Table(
    "checkpoints",
    metadata,
    Column("tree_size", BigInteger, primary_key=True, autoincrement=False),
    Column("created", BigInteger, nullable=False),
    Column("envelope", LargeBinary, nullable=False),
)

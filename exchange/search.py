"""Finding datasets by words, in any script.

A query's words must all be found, each anywhere in a dataset's name, purposes, columns or description;
where they were found decides the order. Words match as substrings, so a Chinese word is found without
knowing where words end, even one character long. Text is folded first (NFKC, case).

SQLite narrows words of three characters and more by an FTS5 trigram index, which has nothing to say
about shorter ones; PostgreSQL compares. Both then ask the same questions and give the same answers.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

import sqlalchemy as sa

from contracts.errors import Reason, SluicegateError, Violation
from exchange.queries import Wanted
from exchange.records import Dataset
from exchange.store import Tx
from exchange.tables import SHELVES, dataset_words

LONGEST_QUERY = 200
MOST_WORDS = 10
_TRIGRAM = 3

# What a word weighs by where it is found.
_WEIGHTS = (
    (dataset_words.c.title, 8),
    (dataset_words.c.purposes, 4),
    (dataset_words.c.fields, 2),
    (dataset_words.c.description, 1),
)
_FTS = sa.table("dataset_fts", sa.column("owner"), sa.column("text"))


def fold(text: str) -> str:
    """Text as it is compared: compatibility forms, widths and case made equal; no control characters."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return "".join(letter if letter.isprintable() else " " for letter in folded)


def words(query: str) -> tuple[str, ...]:
    """The folded, distinct words of a query. Raises INVALID_ARGUMENT when there are none or too many."""
    found = tuple(dict.fromkeys(fold(query).split())) if len(query) <= LONGEST_QUERY else ()
    if not 1 <= len(found) <= MOST_WORDS:
        message = f"a query is 1 to {MOST_WORDS} words, at most {LONGEST_QUERY} characters in all"
        raise SluicegateError(Reason.INVALID_ARGUMENT, message, (Violation("query", message),))
    return found


def index(tx: Tx, dataset: str, *, title: str, purposes: str, fields: str, description: str) -> None:
    """Make a stored dataset findable by these texts, in place of earlier ones."""
    texts = {"title": title, "purposes": purposes, "fields": fields, "description": description}
    folded = {column: fold(text) for column, text in texts.items()}
    tx.connection.execute(sa.delete(dataset_words).where(dataset_words.c.owner == dataset))
    tx.connection.execute(sa.insert(dataset_words).values(owner=dataset, **folded))
    if tx.dialect == "sqlite":
        tx.connection.execute(sa.delete(_FTS).where(_FTS.c.owner == dataset))
        tx.connection.execute(sa.insert(_FTS).values(owner=dataset, text="\n".join(folded.values())))


def search(tx: Tx, wanted: Sequence[str], *, visible: Wanted | None, after: str | None, limit: int) -> list[Dataset]:
    """Up to `limit` datasets with all of these folded words, best first, that follow the one named
    `after`. `visible` is the condition (`either` of `Tx.page`) for what may be found at all.

    Raises PAGE_TOKEN_INVALID when `after` is not among what is found (any more).
    """
    table, scored = SHELVES[Dataset].table, _scored(tx, wanted, visible)
    statement = sa.select(table.c.name).join(scored, scored.c.name == table.c.name)
    if after is not None:
        last = tx.connection.execute(sa.select(scored).where(scored.c.name == after)).one_or_none()
        if last is None:
            raise SluicegateError(Reason.PAGE_TOKEN_INVALID, "the results changed: start again without a page token")
        follows = sa.and_(scored.c.score == last.score, scored.c.seq < last.seq)
        statement = statement.where(sa.or_(scored.c.score < last.score, follows))
    ordered = statement.order_by(scored.c.score.desc(), scored.c.seq.desc()).limit(limit)
    found = (tx.get(Dataset, name) for name in tx.connection.execute(ordered).scalars().all())
    return [dataset for dataset in found if dataset is not None]


def _scored(tx: Tx, wanted: Sequence[str], visible: Wanted | None) -> sa.Subquery:
    table = SHELVES[Dataset].table
    score: sa.ColumnElement[int] = sa.literal(0)
    conditions = list(tx.conditions(Dataset, either=visible))
    for word in wanted:
        weights = [sa.case((_position(tx, column, word) > 0, weight), else_=0) for column, weight in _WEIGHTS]
        weight = sum(weights[1:], weights[0])
        score = score + weight
        conditions.append(weight > 0)
    long = [word for word in wanted if len(word) >= _TRIGRAM]
    if tx.dialect == "sqlite" and long:
        # Quoted, a word is a string to FTS5 and none of its operators.
        phrase = " AND ".join('"' + word.replace('"', '""') + '"' for word in long)
        matching = sa.select(_FTS.c.owner).where(sa.literal_column("dataset_fts").op("MATCH")(phrase))
        conditions.append(table.c.name.in_(matching))
    joined = sa.select(table.c.name, table.c.seq, score.label("score")).join(
        dataset_words, dataset_words.c.owner == table.c.name
    )
    return joined.where(*conditions).subquery("scored")


def _position(tx: Tx, column: sa.ColumnElement[str], word: str) -> sa.ColumnElement[int]:
    # LIKE would read % and _ in a word.
    return sa.func.instr(column, word) if tx.dialect == "sqlite" else sa.func.strpos(column, word)

"""What a recipient gains from releases of one dataset with different quasi-identifiers.

Their rows can be joined by the quasi-identifiers that both have. Who joins them right, with luck or other knowledge,
has one table of all quasi-identifiers. So that table is judged: two agreements give no more than one on the fields of
both. Within what both have in common, the persons of an old class and a new one, a cell, must be none or k; so must
those of a new class who were not in the old release, and those of an old class, of whom some are here, who are gone.
"""

from __future__ import annotations

import polars as pl

from connectors.sent.digests import CLASS, ENTITY
from connectors.sent.records import LABEL

COMMON = "#common"  # the tuple of quasi-identifiers that both have
OWN = "#own"  # the class, and which releases of its own kind had the row
_JOIN = [ENTITY, COMMON]


def few(rows: pl.DataFrame, old: pl.DataFrame, k: int, most: int) -> pl.DataFrame | None:
    """The rows (`ENTITY`, `COMMON`, `OWN` and others) that stand in a cell of too few beside old entries (`ENTITY`,
    `COMMON`, `CLASS`, `LABEL`). None when more than `most` pairs would have to be looked at."""
    mine, old = rows.select(*_JOIN, OWN).unique(), old.select(*_JOIN, CLASS, LABEL).unique()
    counts = mine.group_by(_JOIN).len("a").join(old.group_by(_JOIN).len("b"), on=_JOIN)
    if counts.select((pl.col("a").cast(pl.UInt64) * pl.col("b")).sum()).item() > most:
        return None
    persons = pl.col(ENTITY).n_unique().alias("persons")
    pairs = mine.join(old, on=_JOIN)
    cells = pairs.group_by(LABEL, OWN).agg(persons).filter(pl.col("persons") < k)
    came = mine.join(old.select(_JOIN).unique(), on=_JOIN, how="anti")
    lone = came.group_by(OWN).agg(persons).filter(pl.col("persons") < k)
    gone = old.join(mine.select(_JOIN).unique(), on=_JOIN, how="anti")
    left = gone.group_by(COMMON, CLASS, LABEL).agg(persons).filter(pl.col("persons") < k)
    # Who had the same rows' classes in the same releases is gone altogether: then only the class can be withheld.
    whole = left.join(pairs, on=LABEL, how="anti")
    bad = pl.concat(
        [
            pairs.join(cells, on=[LABEL, OWN], how="semi").select(*_JOIN, OWN),
            came.join(lone, on=OWN, how="semi").select(*_JOIN, OWN),
            pairs.join(left, on=LABEL, how="semi").select(*_JOIN, OWN),
            pairs.join(whole, on=[COMMON, CLASS], how="semi").select(*_JOIN, OWN),
        ]
    )
    return rows.join(bad, on=[*_JOIN, OWN], how="semi")

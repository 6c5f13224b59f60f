"""Linkage: who of a register is behind a released row.

Both sides are frames with a column of truth, `WHO`, that the attacker does not see and that only the score is
taken from. Columns of one name are compared; null equals null.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import polars as pl

from connectors.reidentification.outcome import Outcome

WHO = "#who"
_BLOCK = 50  # pairs that one value of a block may make: commoner ones tell nobody apart
_AGAINST = 2.0  # bits that a differing value speaks against a pair


def by_equality(released: pl.DataFrame, register: pl.DataFrame, columns: Sequence[str]) -> Outcome:
    """For everybody of the register, a row that agrees on all columns is taken by chance; the sum of the
    chances that it is his. People who are not in the release are not counted: nothing can be found of them."""
    present = released.select(WHO).unique()
    known = register.join(present, on=WHO, how="semi").unique(WHO, keep="first", maintain_order=True)
    name = f"linkage by {', '.join(columns)}"
    if not columns or not known.height:
        return Outcome(name, known.height, 0.0)
    alike = released.group_by(columns).agg(pl.len().alias("rows"))
    own = released.group_by(*columns, WHO).agg(pl.len().alias("own"))
    chances = (
        known.select(*columns, WHO)
        .join(alike, on=columns, how="inner", nulls_equal=True)
        .join(own, on=[*columns, WHO], how="left", nulls_equal=True)
        .select(chance=pl.col("own").fill_null(0) / pl.col("rows"))
    )
    return Outcome(name, known.height, float(chances["chance"].sum()), baseline=1 / max(1, present.height))


def by_likeness(released: pl.DataFrame, register: pl.DataFrame, columns: Sequence[str]) -> Outcome:
    """Records with errors: agreeing values count by how rare they are (log2 of 1 / share), differing ones
    against the pair, missing ones not at all; the best pair of each released row is claimed if it is alone.

    Candidates share two columns at least. After Fellegi and Sunter, JASA 1969.
    """
    left = released.with_row_index("#left").with_columns(pl.col(WHO).alias("#left.who"))
    right = register.with_row_index("#right").with_columns(pl.col(WHO).alias("#right.who"))
    tried = Outcome(f"linkage with errors by {', '.join(columns)}", released.height, 0.0, of="rows")
    pairs = _candidates(left, right, columns)
    if not pairs.height:
        return tried
    scores = pl.lit(0.0)
    for column in columns:
        shares = register[column].value_counts(name="n").with_columns(bits=(pl.col("n") / register.height).log(2).neg())
        mine = left.select("#left", column).join(shares.select(column, "bits"), on=column, how="left")
        pairs = pairs.join(mine.select("#left", pl.col(column).alias(f"l.{column}"), "bits"), on="#left").join(
            right.select("#right", pl.col(column).alias(f"r.{column}")), on="#right"
        )
        same, missing = pl.col(f"l.{column}") == pl.col(f"r.{column}"), pl.col(f"l.{column}").is_null()
        known = ~(missing | pl.col(f"r.{column}").is_null())
        pairs = pairs.with_columns(
            pl.when(known & same).then(pl.col("bits")).when(known).then(-_AGAINST).otherwise(0.0).alias(f"s.{column}")
        ).drop(f"l.{column}", f"r.{column}", "bits")
        scores = scores + pl.col(f"s.{column}")
    scored = pairs.select("#left", "#right", score=scores)
    best = scored.filter(pl.col("score") == pl.col("score").max().over("#left")).filter(pl.len().over("#left") == 1)
    right_ones = (
        best.filter(pl.col("score") > 0)
        .join(left.select("#left", "#left.who"), on="#left")
        .join(right.select("#right", "#right.who"), on="#right")
        .filter(pl.col("#left.who") == pl.col("#right.who"))
        .height
    )
    return Outcome(tried.attack, released.height, right_ones, of="rows", baseline=1 / max(1, register.height))


def _candidates(left: pl.DataFrame, right: pl.DataFrame, columns: Sequence[str]) -> pl.DataFrame:
    found = []
    for block in itertools.combinations(columns, 2):
        rare = right.group_by(block).len().filter(pl.col("len") <= _BLOCK).select(block)
        theirs = right.join(rare, on=block, how="semi")
        found.append(
            left.select("#left", *block).join(theirs.select("#right", *block), on=block).select("#left", "#right")
        )
    return pl.concat(found).unique() if found else pl.DataFrame(schema={"#left": pl.UInt32, "#right": pl.UInt32})

"""Difference: what two releases of one dataset say together that none says alone."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from connectors.reidentification.linkage import WHO
from connectors.reidentification.outcome import Outcome


def of_two(first: pl.DataFrame, second: pl.DataFrame, columns: Sequence[str], *, k: int) -> Outcome:
    """Rows are counted by their values in both; of what came or went, groups of fewer than `k` people are
    isolated. Tried are the people of all rows that came or went."""
    name = "difference of two releases"
    changed = []
    for new, old in ((second, first), (first, second)):
        counts = new.group_by(columns).agg(pl.len().alias("now"), pl.col(WHO))
        before = old.group_by(columns).agg(pl.len().alias("before"), pl.col(WHO).alias("there"))
        joined = counts.join(before, on=columns, how="left", nulls_equal=True).filter(
            pl.col("now") > pl.col("before").fill_null(0)
        )
        moved = pl.col(WHO).list.unique().list.set_difference(pl.col("there").fill_null(pl.lit([], pl.List(pl.String))))
        changed.append(joined.select(moved=moved))
    groups = pl.concat(changed).filter(pl.col("moved").list.len() > 0)
    sizes = groups["moved"].list.len()
    return Outcome(name, int(sizes.sum()), float(sizes.filter(sizes < k).sum()))

"""Lists of texts, masked element by element: the elements of a batch as one column, and lists made of it again.

Null lists, empty lists, lengths and order stay what they are. Nothing of what lies under a null list, or
outside a slice, is among the elements.
"""

from __future__ import annotations

from typing import cast

import polars as pl
import pyarrow as pa

ELEMENT = "element"
LISTS = pl.List(pl.String)


def each(column: pl.Expr, of: pl.Expr) -> pl.Expr:
    """The lists with `of` in place of their elements; it is an expression over the column `ELEMENT`, and looks at
    one element at a time."""

    def masked(values: pl.Series) -> pl.Series:
        return made(values, elements(values).to_frame().select(of.cast(pl.String)).to_series())

    return column.map_batches(masked, return_dtype=LISTS, is_elementwise=True)


def elements(lists: pl.Series) -> pl.Series:
    """Every element of all lists, one after another."""
    # Exploding a null list gives what lies under it.
    return lists.drop_nulls().explode(empty_as_null=False).alias(ELEMENT)


def made(like: pl.Series, inside: pl.Series) -> pl.Series:
    """Lists as long as those in `like`, of these elements; null where those are."""
    ends = like.list.len().fill_null(0).cast(pl.Int64).cum_sum()
    offsets = pl.concat([pl.Series([0], dtype=pl.Int64), ends], rechunk=True).to_arrow()
    texts = inside.rechunk().to_arrow(compat_level=pl.CompatLevel.oldest())  # of newer layouts, parts may have no data
    nulls = like.is_null().rechunk().to_arrow() if like.null_count() else None
    lists = pa.LargeListArray.from_arrays(offsets, texts, mask=nulls)
    return cast(pl.Series, pl.from_arrow(lists)).alias(like.name)


def rare(column: pl.Expr, entity: pl.Expr | None, least: int, other: str) -> pl.Expr:
    """The lists with `other` in place of elements that fewer than `least` entities have, or rows without one."""
    whose = [] if entity is None else [entity.alias("who")]

    def masked(rows: pl.Series) -> pl.Series:
        frame = rows.struct.unnest()
        lists = frame["lists"]
        if entity is None:
            frame = frame.with_row_index("who")
        place = pl.int_range(len(lists), eager=True).repeat_by(lists.list.len().fill_null(0))
        who = frame["who"].gather(place.explode(empty_as_null=False))
        inside = pl.DataFrame([elements(lists), who])
        counted = inside.group_by(ELEMENT).agg(pl.col("who").n_unique().alias("n"))
        few = counted.filter(pl.col("n") < least)[ELEMENT].drop_nulls()
        hidden = pl.when(pl.col(ELEMENT).is_in(few.implode())).then(pl.lit(other)).otherwise(ELEMENT)
        return made(lists, inside.select(hidden).to_series())

    return pl.struct(column.alias("lists"), *whose).map_batches(masked, return_dtype=LISTS)

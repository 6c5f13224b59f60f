"""Masks that look at the whole release before they say anything of a row: rare and microaggregate.

A window or a whole column is never taken batch by batch, whatever engine runs the frame.
"""

from __future__ import annotations

from typing import cast

import polars as pl

from connectors.masks.values import normalised, polars_type
from contracts import techniques as t
from contracts.dtypes import DType
from contracts.plan import PlannedField


def members(entity: str | None) -> pl.Expr:
    """How many there are: distinct entities, or rows where there is no entity."""
    return pl.len() if entity is None else normalised(pl.col(entity)).n_unique()


def rare(mask: t.Rare, value: pl.Expr, entity: str | None) -> pl.Expr:
    """The value where enough have it, else the word for the others."""
    return (
        pl.when(value.is_null())
        .then(None)
        .when(members(entity).over(value) >= mask.min_count)
        .then(value)
        .otherwise(pl.lit(mask.other))
    )


def microaggregate(field: PlannedField, column: pl.Expr, entity: str | None) -> pl.Expr:
    """The mean of the value's group."""
    mask, kind = cast(t.Microaggregate, field.technique), polars_type(field.output)
    value = (
        column.cast({"date": pl.Int32, "timestamp": pl.Int64}[field.source.kind]) if field.source.temporal else column
    )
    whose = [] if entity is None else [normalised(pl.col(entity)).alias("who")]
    rows = pl.struct(value.alias("value"), *whose)
    return rows.map_batches(lambda given: _means(given, mask.k, field.source).cast(kind), return_dtype=kind)


def _means(rows: pl.Series, k: int, source: DType) -> pl.Series:
    """Of every row the mean of its group, null for null and for all where there are fewer than k.

    1. Rows in the order of their values: equal ones are a run, and how many entities (or rows) appeared up to its
       end is read from a running count.
    2. Groups by that running count, cut at every multiple of k. One in which fewer than k appear joins the one
       before it, at the beginning the one after: so every group has k entities or more.
    3. Means, held within their groups, put back to where their rows came from.
    """
    frame = rows.struct.unnest()
    known = frame.with_row_index("at").drop_nulls()
    if source.kind == "float":
        known = known.filter(pl.col("value").is_not_nan())
    known = known.sort("value")
    runs = known["value"].rle().struct.unnest()
    ends = runs["len"].cast(pl.Int64).cum_sum() - 1
    seen = ends + 1
    if "who" in known.columns:
        seen = known["who"].is_first_distinct().cast(pl.Int64).cum_sum().gather(ends)
    found = pl.repeat(None, len(rows), dtype=frame.schema["value"], eager=True)
    if seen.is_empty() or seen[-1] < k:
        return found
    if source.kind == "float":
        found = frame.select(pl.when(pl.col("value").is_nan()).then("value")).to_series()
    cuts = ((seen - 1) // k).rle().struct.field("len").cast(pl.Int64)
    reached = seen.gather(cuts.cum_sum() - 1)
    full = reached - reached.shift(1, fill_value=0) >= k
    group = full.cum_sum().cast(pl.Int64).clip(lower_bound=1)
    levels = pl.DataFrame([runs["value"], runs["len"].alias("rows"), _repeated(group, cuts).alias("group")])
    share = pl.col("value").cast(pl.Float64) * pl.col("rows")
    middle = (share.sum() / pl.col("rows").sum()).alias("mean")
    low, high = pl.col("value").first().alias("low"), pl.col("value").last().alias("high")
    groups = (
        levels.set_sorted("group").group_by("group", maintain_order=True).agg(middle, low, high, pl.col("rows").sum())
    )
    means = groups.select(_stepped(pl.col("mean"), source, frame.schema["value"])).to_series()
    return found.scatter(known["at"], _repeated(means, groups["rows"]))


def _repeated(values: pl.Series, times: pl.Series) -> pl.Series:
    """Each value as often as its number says."""
    begins = times.cast(pl.Int64).cum_sum() - times
    marks = pl.zeros(int(times.sum()), dtype=pl.UInt32, eager=True).scatter(begins, 1)
    return values.gather(marks.cum_sum() - 1)


def _stepped(mean: pl.Expr, source: DType, kind: pl.DataType) -> pl.Expr:
    """A mean in the column's own type, and between the ends of its group whatever floats make of it."""
    whole = mean if source.kind in ("float", "decimal") else (mean + 0.5).floor()
    high = pl.col("high")
    return whole.fill_nan(None).cast(kind, strict=False).fill_null(high).clip(pl.col("low"), high)

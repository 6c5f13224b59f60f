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

    1. Every distinct value in rising order, and how many entities appear with it for the first time.
    2. Groups by that running count, cut at every multiple of k. One in which fewer than k appear joins the one
       before it, at the beginning the one after: so every group has k entities or more.
    3. Means, held within their groups.
    """
    frame = rows.struct.unnest()
    known = frame.drop_nulls()
    if source.kind == "float":
        known = known.filter(pl.col("value").is_not_nan())
    rows_of = known.group_by("value").agg(pl.len().alias("rows"))
    if "who" in known.columns:
        first = known.group_by("who").agg(pl.col("value").min()).group_by("value").agg(pl.len().alias("new"))
        rows_of = rows_of.join(first, on="value", how="left")
    else:
        rows_of = rows_of.with_columns(new="rows")
    levels = (
        rows_of.sort("value")
        .with_columns(seen=pl.col("new").fill_null(0).cum_sum().cast(pl.Int64))
        .with_columns(cut=(pl.col("seen") - 1) // k)
    )
    if levels.is_empty() or levels["seen"][-1] < k:
        return pl.repeat(None, len(rows), dtype=frame.schema["value"], eager=True)
    cuts = levels.group_by("cut", maintain_order=True).agg(pl.col("seen").max())
    full = (cuts["seen"] - cuts["seen"].shift(1, fill_value=0)) >= k
    cuts = cuts.select("cut", group=full.cum_sum().cast(pl.Int64).clip(lower_bound=1))
    grouped = levels.join(cuts, on="cut", how="left", maintain_order="left")
    share = pl.col("value").cast(pl.Float64) * pl.col("rows")
    middle = (share.sum() / pl.col("rows").sum()).alias("mean")
    groups = grouped.group_by("group").agg(middle, low=pl.col("value").min(), high=pl.col("value").max())
    held = groups.select("group", mean=_stepped(pl.col("mean"), source, frame.schema["value"]))
    found = grouped.join(held, on="group", how="left").select("value", "mean")
    result = frame.select("value").join(found, on="value", how="left", maintain_order="left")
    if source.kind == "float":
        result = result.with_columns(mean=pl.when(pl.col("value").is_nan()).then("value").otherwise("mean"))
    return result["mean"]


def _stepped(mean: pl.Expr, source: DType, kind: pl.DataType) -> pl.Expr:
    """A mean in the column's own type, and between the ends of its group whatever floats make of it."""
    whole = mean if source.kind in ("float", "decimal") else (mean + 0.5).floor()
    high = pl.col("high")
    return whole.fill_nan(None).cast(kind, strict=False).fill_null(high).clip(pl.col("low"), high)

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
    value, who = frame["value"], frame["who"] if "who" in frame.columns else None
    if source.kind == "float":
        value = value.fill_nan(None)
    if who is not None:
        value = frame.select(pl.when(who.is_not_null()).then(value)).to_series()
    at = None if who is None and _near(value) else _in_order(value)
    runs = (value.drop_nulls().sort() if at is None else value.gather(at)).rle().struct.unnest()
    ends = runs["len"].cast(pl.Int64).cum_sum() - 1
    seen = ends + 1
    if who is not None and at is not None:
        seen = who.gather(at).is_first_distinct().cast(pl.Int64).cum_sum().gather(ends)
    if seen.is_empty() or seen[-1] < k:
        return pl.repeat(None, len(rows), dtype=value.dtype, eager=True)
    means = _of_runs(runs, ends, seen, k, source)
    if at is None:
        return _looked_up(value, runs["value"], means)
    found = pl.repeat(None, len(rows), dtype=value.dtype, eager=True)
    if source.kind == "float":
        found = frame.select(pl.when(pl.col("value").is_nan()).then("value")).to_series()
    return found.scatter(at, means.gather(_places(ends - runs["len"] + 1, len(at))))


def _of_runs(runs: pl.DataFrame, ends: pl.Series, seen: pl.Series, k: int, source: DType) -> pl.Series:
    """Of every run the mean of its group."""
    cuts = ((seen - 1) // k).rle().struct.field("len").cast(pl.Int64).cum_sum()  # in runs, each up to its end
    reached = seen.gather(cuts - 1)
    full = reached - reached.shift(1, fill_value=0) >= k
    begins = pl.concat([cuts.head(1) * 0, cuts.shift(1, fill_value=0).filter(full).slice(1)])
    last = begins.shift(-1, fill_value=runs.height) - 1
    rows = ends.gather(last) - ends.gather(last).shift(1, fill_value=-1)
    groups, value = _places(begins, runs.height), runs["value"]
    shares = pl.DataFrame({"group": groups.set_sorted(), "share": value.cast(pl.Float64) * runs["len"]})
    sums = shares.group_by("group", maintain_order=True).agg(pl.col("share").sum())["share"]
    table = pl.DataFrame({"mean": sums / rows, "low": value.gather(begins), "high": value.gather(last)})
    return table.select(_stepped(pl.col("mean"), source, value.dtype)).to_series().gather(groups)


def _in_order(value: pl.Series) -> pl.Series:
    """The places of values in their order, those of nulls left out. Whole numbers near each other are sorted in one
    number with their place, at half the price."""
    known = value.to_frame("value").with_row_index("at").drop_nulls()
    if value.dtype.is_integer() and known.height:
        low, high = int(value.min()), int(value.max())  # type: ignore[arg-type]
        if (high - low + 1) * len(value) < 2**64:
            above = _wide(known["value"]) - low
            return (above.cast(pl.UInt64) * len(value) + known["at"]).sort() % len(value)
    return known.sort("value")["at"]


def _near(value: pl.Series) -> bool:
    """Whether these are whole numbers, and a table of all between the ends is not much longer than they are many."""
    if not value.dtype.is_integer() or value.null_count() == len(value):
        return False
    return int(value.max()) - int(value.min()) < 4 * len(value)  # type: ignore[arg-type]


def _looked_up(value: pl.Series, values: pl.Series, means: pl.Series) -> pl.Series:
    """What each value became, found in a table of all numbers between the ends."""
    low, high = values[0], values[-1]
    table = pl.repeat(None, high - low + 1, dtype=means.dtype, eager=True).scatter(_wide(values) - low, means)
    return table.gather(_wide(value) - low)


def _wide(value: pl.Series) -> pl.Series:
    return value.cast(pl.UInt64 if value.dtype.is_unsigned_integer() else pl.Int64)


def _places(begins: pl.Series, length: int) -> pl.Series:
    """Of so many places in a row the number of the stretch each is in, by where stretches begin."""
    return pl.zeros(length, dtype=pl.UInt32, eager=True).scatter(begins, 1).cum_sum() - 1


def _stepped(mean: pl.Expr, source: DType, kind: pl.DataType) -> pl.Expr:
    """A mean in the column's own type, and between the ends of its group whatever floats make of it."""
    whole = mean if source.kind in ("float", "decimal") else (mean + 0.5).floor()
    high = pl.col("high")
    return whole.fill_nan(None).cast(kind, strict=False).fill_null(high).clip(pl.col("low"), high)

"""Functions of dates, computed once for each day between the first and the last where rows are more than days.

A day's month or quarter takes a division by a cycle of 400 years and several more; finding it in a table of
all days takes one subtraction.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import polars as pl


def by_day(days: pl.Expr, of: Callable[[pl.Expr], pl.Expr], kind: pl.DataType) -> pl.Expr:
    """`of` dates, of that type; it looks at one date at a time, and of null it is null."""

    def looked_up(values: pl.Series) -> pl.Series:
        if values.null_count() == len(values):
            return pl.repeat(None, len(values), dtype=kind, eager=True)
        places = values.to_physical()
        first, last = cast(Any, places.min()), cast(Any, places.max())
        if last - first >= len(values):
            return _made(values, of).cast(kind)
        table = pl.int_range(first, last + 1, dtype=pl.Int32, eager=True).cast(pl.Date)
        return _made(table, of).cast(kind).gather(places - first)

    return days.map_batches(looked_up, return_dtype=kind, is_elementwise=True)


def _made(days: pl.Series, of: Callable[[pl.Expr], pl.Expr]) -> pl.Series:
    return days.alias("day").to_frame().select(of(pl.col("day"))).to_series()

"""Functions of dates, found in a table of days where those of a column lie within a few hundred years.

A day's month or quarter takes a division by a cycle of 400 years and several more; finding it takes one
subtraction.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import polars as pl

_MOST = 1 << 17  # days of a table: 359 years


def by_day(days: pl.Expr, of: Callable[[pl.Expr], pl.Expr], kind: pl.DataType) -> pl.Expr:
    """`of` dates, of that type; it looks at one date at a time, and of null it is null. `days` are numbers of days
    since 1970, of 32 bits."""
    return days.map_batches(_Days(of, kind), return_dtype=kind, is_elementwise=True)


class _Days:
    """What a function makes of days, batch by batch: the table of all that came so far lives with the expression."""

    __slots__ = ("_kind", "_known", "_of")

    def __init__(self, of: Callable[[pl.Expr], pl.Expr], kind: pl.DataType) -> None:
        self._of, self._kind = of, kind
        self._known: tuple[int, int, pl.Series] | None = None  # first and last day, replaced as one

    def __call__(self, values: pl.Series) -> pl.Series:
        """Of every day, in their order."""
        if values.null_count() == len(values):
            return pl.repeat(None, len(values), dtype=self._kind, eager=True)
        table = self._table(cast(Any, values.min()), cast(Any, values.max()))
        if table is None:
            return self._made(values)
        first, made = table
        at = values - first
        # Of whole numbers without sign, places need no looking at.
        return made.gather(at) if at.null_count() else made[at.cast(pl.UInt32)].alias(values.name)

    def _table(self, first: int, last: int) -> tuple[int, pl.Series] | None:
        """A table that has these days, and its first; None where they lie too far apart."""
        known = self._known
        if known is not None and known[0] <= first and last <= known[1]:
            return known[0], known[2]
        if known is not None:
            first, last = min(first, known[0]), max(last, known[1])
        if last - first >= _MOST:
            return None
        made = self._made(pl.int_range(first, last + 1, dtype=pl.Int32, eager=True))
        self._known = (first, last, made)
        return first, made

    def _made(self, days: pl.Series) -> pl.Series:
        made = days.cast(pl.Date).alias("day").to_frame().select(self._of(pl.col("day")))
        return made.to_series().cast(self._kind)

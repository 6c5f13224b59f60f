"""Numbers and dates on a scale, coarsened: bucket, clip, round, geo_round.

Arithmetic is exact for whole numbers and decimals and stays within the type: where a class begins
below the type's lowest value, that value stands for the class.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from decimal import Decimal
from itertools import pairwise
from typing import Any, cast

import polars as pl
import pyarrow.compute as pc

from connectors.masks.calendar import by_day
from connectors.masks.values import polars_type
from contracts import techniques as t
from contracts.dtypes import DType
from contracts.errors import Reason, SluicegateError
from contracts.technique import exact


def bucket(mask: t.Bucket, column: pl.Expr, source: DType) -> pl.Expr:
    """The lower bound of the value's class."""
    if mask.breaks is not None:
        return _breaks(mask.breaks, column, source)
    if source.kind == "date":
        return _date_bucket(mask, column)
    size, origin = exact(cast(Any, mask.size)), exact(cast(Any, mask.origin or 0))
    if source.kind == "float":
        step, start = float(size), float(origin)
        return _steps(column.cast(pl.Float64) - start, step).floor() * step + start

    def exactly(value: pl.Expr) -> pl.Expr:
        wide, above, _ = _modulo(value, source, size, origin)
        return lowered(wide, above, source)

    if source.kind != "integer":
        return exactly(column)
    step, start = int(size), int(origin) % int(size)
    return _inside(column, source, step, lambda values: (values - start) // step * step + start, exactly)


def _inside(
    column: pl.Expr,
    source: DType,
    margin: int,
    quick: Callable[[pl.Series], pl.Series],
    exactly: Callable[[pl.Expr], pl.Expr],
) -> pl.Expr:
    """Whole numbers by plain arithmetic where all of a batch lie further from their type's ends than `margin`, which
    is nearly always; exactly else."""
    (lowest, highest), kind = _range(source), polars_type(source)

    def found(values: pl.Series) -> pl.Series:
        low, high = cast(Any, values.min()), cast(Any, values.max())
        if low is None:
            return values
        if low >= lowest + margin and high <= highest - margin:
            return quick(values)
        return values.alias("value").to_frame().select(exactly(pl.col("value")).cast(kind)).to_series()

    return column.map_batches(found, return_dtype=kind, is_elementwise=True)


def _breaks(breaks: tuple[int | float | str, ...], column: pl.Expr, source: DType) -> pl.Expr:
    """The greatest break that is not above the value; below the first, the first."""
    kind = polars_type(source)
    levels = [_literal(item, kind) for item in breaks]
    found = levels[0]
    chain: Any = pl
    for lower, upper in pairwise(levels):
        chain = chain.when(column < upper).then(lower)
        found = upper
    return cast(pl.Expr, chain.when(column.is_not_null()).then(found))


def _literal(value: int | float | str, kind: pl.DataType) -> pl.Expr:
    if isinstance(value, str):
        return pl.lit(dt.date.fromisoformat(value))
    return pl.lit(exact(value)).cast(kind) if isinstance(kind, pl.Decimal) else pl.lit(value, dtype=kind)


def _range(source: DType) -> tuple[int, int]:
    return (-(2 ** (source.bits - 1)), 2 ** (source.bits - 1) - 1) if source.signed else (0, 2**source.bits - 1)


def _modulo(column: pl.Expr, source: DType, size: Decimal, origin: Decimal) -> tuple[pl.Expr, pl.Expr, pl.Expr]:
    """The value in a type wide enough, how far it lies above its class's lower bound, and the size.

    Remainders in Polars are never negative for a positive divisor. The sum of two remainders is less
    than twice the size, so nothing overflows even at the ends of 64 bits.
    """
    kind: pl.DataType = pl.Decimal(38, source.scale)
    if source.kind == "integer":
        kind = pl.UInt64() if not source.signed and source.bits == 64 else pl.Int64()
    value = column.cast(kind)
    step, shift = pl.lit(size).cast(kind), pl.lit((size - origin % size) % size).cast(kind)
    above = value % step
    return value, (above if origin % size == 0 else (above + shift) % step), step


def lowered(value: pl.Expr, above: pl.Expr, source: DType) -> pl.Expr:
    """value - above, or the type's lowest value where that would lie below it."""
    if source.kind == "decimal":
        return value - above
    lowest, _ = _range(source)
    if source.bits < 64:
        return (value - above).clip(lower_bound=lowest)
    floor = pl.lit(lowest, dtype=pl.Int64() if source.signed else pl.UInt64())
    return pl.when(value >= floor + above).then(value - above).when(value.is_not_null()).then(floor)


def raised(value: pl.Expr, by: pl.Expr, source: DType) -> pl.Expr:
    """value + by, or the type's highest value where that would lie above it."""
    if source.kind == "decimal":
        return value + by
    _, highest = _range(source)
    if source.bits < 64:
        return (value + by).clip(upper_bound=highest)
    top = pl.lit(highest, dtype=pl.Int64() if source.signed else pl.UInt64())
    return pl.when(value <= top - by).then(value + by).when(value.is_not_null()).then(top)


def nearest(column: pl.Expr, source: DType, base: Decimal) -> pl.Expr:
    """The nearest multiple of a base, of whole numbers and decimals; the middle goes up."""

    def exactly(value: pl.Expr) -> pl.Expr:
        wide, above, step = _modulo(value, source, base, Decimal(0))
        up = step - above
        return pl.when(above < up).then(lowered(wide, above, source)).otherwise(raised(wide, up, source))

    if source.kind != "integer":
        return exactly(column)
    step = int(base)
    return _inside(column, source, step, lambda values: (values + step // 2) // step * step, exactly)


def rounded(mask: t.Round, column: pl.Expr, source: DType) -> pl.Expr:
    """The nearest multiple of the base."""
    if source.kind == "float":
        return rounded_float(column.cast(pl.Float64), float(mask.base))
    return nearest(column, source, exact(mask.base))


def rounded_float(value: pl.Expr, base: float) -> pl.Expr:
    """The nearest multiple of a base, of 64-bit floats; the middle goes up."""
    return (_steps(value, base) + 0.5).floor() * base


def _steps(value: pl.Expr, size: float) -> pl.Expr:
    """How many steps a float is. By multiplication: dividing by a constant, the engine divides some rows and
    multiplies others, by where they lie, and equal values would leave as two."""
    return value * (1.0 / size)


def geo_round(mask: t.GeoRound, column: pl.Expr, source: DType) -> pl.Expr:
    """The coordinate with fewer decimals."""
    if source.kind == "float":
        scale = 10.0**mask.decimals
        whole = (column.cast(pl.Float64) * scale + 0.5).floor()
        # The float that is written so: the nearest to the quotient. The engine's own division by a constant is
        # none, see `_steps`.
        return whole.map_batches(
            lambda values: cast(pl.Series, pl.from_arrow(pc.divide(values.to_arrow(), scale))),
            return_dtype=pl.Float64,
            is_elementwise=True,
        )
    return nearest(column, source, Decimal(1).scaleb(-mask.decimals))


def clip(mask: t.Clip, column: pl.Expr, source: DType) -> pl.Expr:
    """The value, or the bound that it lies beyond."""
    kind = polars_type(source)
    lower, upper = (None if bound is None else _literal(bound, kind) for bound in (mask.lower, mask.upper))
    clipped = column if lower is None else pl.when(column < lower).then(lower).otherwise(column)
    return clipped if upper is None else pl.when(clipped > upper).then(upper).otherwise(clipped)


# The calendar of RFC 3339 and of most readers begins here; a bucket that begins before joins it.
_FIRST_DATE = dt.date(1, 1, 1)


def _date_bucket(mask: t.Bucket, column: pl.Expr) -> pl.Expr:
    span, origin = mask.span, dt.date.fromisoformat(str(mask.origin))
    if span is None:
        raise SluicegateError(Reason.PLAN_REFUSED, "bucket on a date needs a size like 20y")
    if span.unit == "days":
        day = column.cast(pl.Int32).cast(pl.Int64)
        start = (origin - dt.date(1970, 1, 1)).days
        return (day - (day - start) % span.count).cast(pl.Int32).cast(pl.Date).clip(_FIRST_DATE)
    count, start = span.count, origin.year * 12 + origin.month - 1

    def by_months(day: pl.Expr) -> pl.Expr:
        month = day.dt.year().cast(pl.Int64) * 12 + day.dt.month() - 1
        first = month - (month - start) % count
        return pl.date(first // 12, first % 12 + 1, 1).clip(_FIRST_DATE)

    return by_day(column.cast(pl.Int32), by_months, pl.Date())

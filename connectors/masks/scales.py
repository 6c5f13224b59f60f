"""Numbers and dates on a scale, coarsened: bucket, clip, round, geo_round.

Arithmetic is exact for whole numbers and decimals and stays within the type: where a class begins
below the type's lowest value, that value stands for the class.
"""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from itertools import pairwise
from typing import Any, cast

import polars as pl

from connectors.masks import calendar
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
    kind = _kind(source, size)
    value = column.cast(kind)
    found = _lower(value, kind, size, origin)
    if source.kind != "integer":
        return found
    lowest, _ = _range(source)
    first = lowest + (int(origin) - lowest) % int(size)  # where the lowest class begins that begins within the type
    return pl.when(value < pl.lit(first, kind)).then(pl.lit(lowest, kind)).otherwise(found)


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


def _kind(source: DType, size: Decimal) -> pl.DataType:
    """A type for the values of a type and for steps of that size."""
    if source.kind != "integer":
        return pl.Decimal(38, source.scale)
    return polars_type(source) if size <= _range(source)[1] else pl.Int64()


def _lower(value: pl.Expr, kind: pl.DataType, size: Decimal, origin: Decimal) -> pl.Expr:
    """The lower bound of a value's class. Whole numbers turn over where it lies below their type's lowest: the
    remainder is right there too, and who asks puts the end in its place."""
    step, up = pl.lit(size).cast(kind), (size - origin % size) % size
    # A quotient and a product of whole numbers take a fraction of the time of a remainder.
    found = value // step * step if kind.is_integer() else value - value % step
    if not up:
        return found
    lower, higher = pl.lit(up).cast(kind), pl.lit(size - up).cast(kind)
    return pl.when(value - found < higher).then(found - lower).otherwise(found + higher)


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
    kind = _kind(source, base)
    value, step = column.cast(kind), pl.lit(base).cast(kind)
    if source.kind != "integer":
        above = value % step
        return value - above + pl.when(above < step - above).then(pl.lit(0).cast(kind)).otherwise(step)
    (lowest, highest), size = _range(source), int(base)
    half, bottom, top = size // 2, -(-lowest // size) * size, highest // size * size
    # Near its ends, the nearest multiple lies beyond the type, or the sum does though the multiple does not.
    held = pl.when(value < pl.lit(max(lowest, bottom - half), kind)).then(pl.lit(lowest, kind))
    full = held.when(value > pl.lit(min(highest, top + (size - 1) // 2), kind)).then(pl.lit(highest, kind))
    nearly = full.when(value > pl.lit(highest - half, kind)).then(pl.lit(top, kind))
    return nearly.otherwise((value + pl.lit(half, kind)) // step * step).cast(polars_type(source))


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
        # The float that is written so is the nearest to the quotient: multiplied, see `_steps`, it is a hair off.
        return (whole * (1.0 / scale)).round(mask.decimals)
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
    month = (origin.year - 1970) * 12 + origin.month - 1
    return calendar.class_start(column.cast(pl.Int32), span.count, month).clip(_FIRST_DATE)

"""Functions of dates, found in tables: the calendar repeats itself every 400 years, days of the week included.

A day's month or quarter takes a division by those 400 years and several more; finding it takes the one. Every
function is a native expression that looks at one date at a time, and of null it is null. `days` are numbers of days
since 1970, of 32 bits; they are named as seldom as can be, for the engine makes again what it meets beside a table.
"""

from __future__ import annotations

from functools import cache
from typing import cast

import polars as pl

_DAYS, _MONTHS, _YEARS = 146_097, 4_800, 400  # of one round of the calendar


def part(days: pl.Expr, name: str) -> pl.Expr:
    """The year, quarter, month, week, day or weekday."""
    found = _found(days, _parts(name))
    return found + days // _DAYS * _YEARS if name == "year" else found


def start(days: pl.Expr, unit: str) -> pl.Expr:
    """The first day of the unit that they are in, a date; units as the engine writes them."""
    return (days - _found(days, _gone(unit))).cast(pl.Date)


def class_start(days: pl.Expr, months: int, origin: int) -> pl.Expr:
    """The first day of the class of so many months that they are in, a date. One class begins so many months
    after January 1970."""
    if _MONTHS % months == 0:
        return (days - _found(days, _gone_of_class(months, origin % months))).cast(pl.Date)
    month = _found(days, _month()) + days // _DAYS * _MONTHS
    first = (month - origin) // months * months + origin
    return (_found(first, _first_day()) + first // _MONTHS * _DAYS).cast(pl.Date)


def _found(number: pl.Expr, table: pl.Series) -> pl.Expr:
    """What the table of one round says of a number."""
    size = len(table)
    earlier = -(-(2**31) // size) * size  # so many rounds earlier that no number is negative
    place = (number.reinterpret(signed=False) + pl.lit(earlier, pl.UInt32)) % pl.lit(size, pl.UInt32)
    return pl.lit(table).gather(place)


_DAY = pl.int_range(_DAYS, dtype=pl.Int32).cast(pl.Date)
_MONTH = (_DAY.dt.year() - 1970) * 12 + _DAY.dt.month() - 1


@cache
def _parts(name: str) -> pl.Series:
    return _table(cast(pl.Expr, getattr(_DAY.dt, name)()))


@cache
def _gone(unit: str) -> pl.Series:
    return _table((_DAY - _DAY.dt.truncate(unit)).dt.total_days().cast(pl.Int32))


@cache
def _month() -> pl.Series:
    return _table(_MONTH)


@cache
def _first_day() -> pl.Series:
    return _table(_DAY.cast(pl.Int32).filter(_DAY.dt.day() == 1))


@cache
def _gone_of_class(months: int, origin: int) -> pl.Series:
    first = _MONTH - (_MONTH - origin) % months
    return _table((_DAY - pl.date(1970 + first // 12, first % 12 + 1, 1)).dt.total_days().cast(pl.Int32))


def _table(of: pl.Expr) -> pl.Series:
    return pl.select(of).to_series().rechunk()

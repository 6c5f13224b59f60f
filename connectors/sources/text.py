"""Cells that are only text: which type a column of a CSV or NDJSON file has, and how its cells are read.

A file of text has no types, so nothing is guessed from its rows: a type is stated in the gateway's
configuration, or follows from the contract's logical type, or the column stays text. A cell is read
only if nothing of it is lost; what does not fit is counted, column by column, and never quoted.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import polars as pl

from connectors.sources.base import dtype_of
from connectors.writers import NO_LIST, listed

# The type of a logical type. A date and a time have one spelling; `number` is exact up to 15 digits, more
# need a stated decimal; whether a timestamp has a zone is settled by the first one (`Text.zoned`).
LOGICAL: dict[str, pl.DataType] = {
    "string": pl.String(),
    "date": pl.Date(),
    "timestamp": pl.Datetime("us"),
    "time": pl.Time(),
    "number": pl.Float64(),
    "integer": pl.Int64(),
    "boolean": pl.Boolean(),
    "array": pl.List(pl.String),
}
BOOLEANS = {"true": "1", "t": "1", "1": "1", "false": "0", "f": "0", "0": "0"}

TimeUnit = Literal["ms", "us", "ns"]

_DIGITS: dict[TimeUnit, int] = {"ms": 3, "us": 6, "ns": 9}
_INTEGER = r"^\+?(-?\d+)(?:\.0+)?$"
_FLOAT = r"^\+?(-?(?:\d{1,40}(?:\.\d*)?|\.\d+)(?:[eE](?:-\d{1,3}|\+?(?:\d{1,2}|1\d\d|2[0-5]\d)))?)$"
_DATE = r"^(\d{4}-\d\d-\d\d)$"
_TIME = r"^(\d\d:\d\d)(:[0-5]\d(?:\.\d{1,9})?)?$"
_OFFSET = r"(?: ?(Z|z|UTC|[+-]\d\d(?::?\d\d)?))?"
_MOMENT = "%Y-%m-%dT%H:%M:%S%.f"
_NO_CELL = "?"  # fits no type, and tells nothing: what a strict reading stumbles over instead of the cell


@dataclass(frozen=True, slots=True)
class Text:
    """How the cells of one column of text become values of `dtype`.

    `offset`: whether a timestamp of a type with zone must say its own offset; one without is taken as
    local time of the zone otherwise. Blanks around anything but text are no part of it, and nothing
    between two separators is no value.
    """

    dtype: pl.DataType
    offset: bool = False

    @classmethod
    def declared(cls, logical_type: str) -> Text:
        """Of a contract's logical type; text for one that a flat column cannot have."""
        return cls(LOGICAL.get(logical_type, pl.String()))

    def zoned(self) -> Text:
        """The same for timestamps that say their offset: instants, kept in UTC."""
        return replace(self, dtype=pl.Datetime("us", "UTC"), offset=True)

    @property
    def plain(self) -> bool:
        """Whether every text fits."""
        return isinstance(self.dtype, pl.String | pl.Binary)

    def value(self, name: str) -> pl.Expr:
        """The column's values. Collecting it fails for a cell that does not fit, and does not name it."""
        return self._value(name, strict=True).alias(name)

    def misfits(self, name: str) -> pl.Expr:
        """How many cells of the column do not fit."""
        return (_cell(name).is_not_null() & self._value(name, strict=False).is_null()).sum().alias(name)

    def wanted(self) -> str:
        """What a cell has to look like, for a person."""
        match self.dtype:
            case pl.Date():
                return "a date written 2026-01-31"
            case pl.Time():
                return "a time written 08:00:00"
            case pl.Datetime(time_unit=unit, time_zone=zone):
                digits = f", at most {_DIGITS[unit]} digits behind the second"
                if self.offset:
                    return f"a timestamp with its offset like the first one, 2026-01-31T08:00:00+08:00{digits}"
                if zone:
                    return f"a timestamp written 2026-01-31T08:00:00 or 2026-01-31T08:00:00+08:00{digits}"
                return f"a timestamp without offset, written 2026-01-31T08:00:00{digits}"
            case pl.Boolean():
                return "true or false (also t, f, 1, 0)"
            case pl.List():
                return 'a JSON array of texts and nulls, like ["a", null]'
            case pl.Float32() | pl.Float64():
                return "a number written 1234.5"
            case pl.Decimal(precision=precision, scale=scale):
                return f"a number of at most {precision} digits, {scale} of them behind the point"
        return f"a whole number that {dtype_of(self.dtype)} holds"

    def _value(self, name: str, *, strict: bool) -> pl.Expr:
        match self.dtype:
            case pl.String():
                return pl.col(name)
            case pl.Binary():
                return pl.col(name).cast(pl.Binary())
            case pl.List():
                return _lists(_cell(name), strict)
            case pl.Datetime(time_unit=unit, time_zone=zone):
                return self._moment(_cell(name), unit, zone, strict)
        cell = _cell(name)
        spelled = _or_stumble(cell, self._spelled(cell)) if strict else self._spelled(cell)
        match self.dtype:
            case pl.Date():
                return spelled.str.strptime(pl.Date(), "%Y-%m-%d", strict=strict)
            case pl.Time():
                return spelled.str.strptime(pl.Time(), "%H:%M:%S%.f", strict=strict)
            case pl.Boolean():
                return spelled.cast(pl.Int8(), strict=strict).cast(pl.Boolean())
        return spelled.cast(self.dtype, strict=strict)

    def _spelled(self, cell: pl.Expr) -> pl.Expr:
        """The cell in the engine's own spelling; null if it does not have the form of the type."""
        match self.dtype:
            case pl.Date():
                return cell.str.extract(_DATE)
            case pl.Time():
                return _clock(cell.str.extract_groups(_TIME), 1)
            case pl.Boolean():
                return cell.str.to_lowercase().replace_strict(BOOLEANS, default=None, return_dtype=pl.String())
            case pl.Float32() | pl.Float64():
                return cell.str.extract(_FLOAT)
            case pl.Decimal(scale=scale) if scale:
                return cell.str.extract(rf"^\+?(-?\d+(?:\.\d{{1,{scale}}})?)0*$")
        return cell.str.extract(_INTEGER)

    def _moment(self, cell: pl.Expr, unit: TimeUnit, zone: str | None, strict: bool) -> pl.Expr:
        # Nanoseconds since 1970 end in the year 2262; the engine would begin again without a word.
        year = r"(?:1[7-9]|2[01])\d\d" if unit == "ns" else r"\d{4}"
        groups = cell.str.extract_groups(
            rf"^({year}-\d\d-\d\d)[T ](\d\d:\d\d)(:[0-5]\d(?:\.\d{{1,{_DIGITS[unit]}}}0*)?)?{_OFFSET}$"
        )
        spelled, offset = groups.struct[0] + "T" + _clock(groups, 2), groups.struct[3]
        allowed = spelled.is_not_null()
        if self.offset:
            allowed &= offset.is_not_null()
        elif zone is None:
            allowed &= offset.is_null()
        spelled = pl.when(allowed).then(spelled)
        if strict:
            spelled = _or_stumble(cell, spelled)
        if zone is None:
            return spelled.str.strptime(pl.Datetime(unit), _MOMENT, strict=strict)
        hours = offset.str.replace(":", "", literal=True).str.replace("^(?:[zZ]|UTC)$", "+0000")
        hours = hours.str.pad_end(5, "0")
        instant = (
            pl.when(offset.is_not_null())
            .then(spelled + hours)
            .str.strptime(pl.Datetime(unit, "UTC"), f"{_MOMENT}%z", strict=strict)
        )
        either: Literal["raise", "null"] = "raise" if strict else "null"
        local = (
            pl.when(offset.is_null())
            .then(spelled)
            .str.strptime(pl.Datetime(unit), _MOMENT, strict=strict)
            .dt.replace_time_zone(zone, ambiguous=either, non_existent=either)
        )
        return pl.coalesce(instant.dt.convert_time_zone(zone), local)


def _lists(cell: pl.Expr, strict: bool) -> pl.Expr:
    """What JSON arrays of texts hold. What is none is null, and where reading is strict an error without the cell."""

    def read(cells: pl.Series) -> pl.Series:
        found = [None if text is None else listed(text) for text in cells]
        if strict and NO_LIST in found:
            raise pl.exceptions.ComputeError("a cell is no list of texts")
        kept = [None if values == NO_LIST else values for values in found]
        return pl.Series(cells.name, kept, dtype=pl.List(pl.String))

    return cell.map_batches(read, return_dtype=pl.List(pl.String), is_elementwise=True)


def first_says_offset(cells: pl.LazyFrame, name: str) -> bool:
    """Whether the first timestamp of a column says its offset. Reads no further than that."""
    first = cells.select(_cell(name)).drop_nulls().head(1).collect()[name]
    return bool(first.str.contains(r"\d\d:\d\d.*(?:[zZ]|UTC|[+-]\d\d(?::?\d\d)?)$").any())


def _cell(name: str) -> pl.Expr:
    """A cell without blanks around it; null if nothing is left."""
    bare = pl.col(name).str.strip_chars(" \t")
    return pl.when(bare != "").then(bare).alias(name)


def _or_stumble(cell: pl.Expr, spelled: pl.Expr) -> pl.Expr:
    """The spelling; where a cell has none, what fits no type, so that reading it fails and tells nothing."""
    return pl.when(cell.is_not_null() & spelled.is_null()).then(pl.lit(_NO_CELL)).otherwise(spelled)


def _clock(groups: pl.Expr, at: int) -> pl.Expr:
    """Hours and minutes, and the seconds behind them if there are any."""
    return groups.struct[at - 1] + groups.struct[at].fill_null(":00")

"""Techniques that coarsen numbers, dates on a scale, and coordinates: bucket, clip, round, geo_round."""

from __future__ import annotations

import datetime as dt
from itertools import pairwise
from typing import Annotated, ClassVar, Self

import msgspec
from msgspec import Meta

from contracts.dtypes import DType
from contracts.technique import (
    NUMBERS,
    Family,
    Number,
    Span,
    Technique,
    date_of,
    exact,
    fits_number,
    span_of,
    step_problems,
)

_SIZES = "a positive number up to 10^15, or on dates a whole number up to 9999 with d, w, mo, q or y, like 20y"
_BREAKS = "a list of 2 to 100 numbers, or dates like 1990-01-01, each larger than the one before"
_ORIGIN_DAY = "1900-01-01"  # a Monday, and a multiple of every usual number of years


class Bucket(Technique, frozen=True, kw_only=True, tag="bucket"):
    """The lower bound of the class that the value falls in: classes of one `size`, or by `breaks`.

    Precondition: numbers with a number as size, or dates with a size like `20y`, `6mo`, `2w`, `10d`.
    Classes start at `origin`: 0, or 1900-01-01 (a Monday). For months and years the origin is the
    first of a month.
    Output: the lower bound, same type (decimals with 38 digits). With breaks, whatever lies below the
    first is counted to the first class. A lower bound that the type cannot hold becomes its lowest value.
    Residual risk: classes with few people; counted by k.
    Source: ISO/IEC 20889, generalization (binning).

    >>> Bucket(size="20y").problems(DType("string"))
    ('bucket works on integer, float, decimal or date; this field is string',)
    """

    size: (
        Annotated[int, Meta(ge=1, le=10**15, description=_SIZES)]
        | Annotated[float, Meta(gt=0, le=1e15)]
        | Annotated[str, Meta(max_length=8)]
        | None
    ) = None
    breaks: Annotated[tuple[Number | str, ...], Meta(min_length=2, max_length=100, description=_BREAKS)] | None = None
    origin: Number | str | None = None

    family: ClassVar[Family] = Family.GENERALISATION
    strength: ClassVar[int] = 2
    kinds: ClassVar[tuple[str, ...]] = (*NUMBERS, "date")
    order_preserving: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if (self.size is None) == (self.breaks is None):
            raise ValueError("size: exactly one of `size` and `breaks` is needed")
        if self.breaks is not None:
            if self.origin is not None:
                raise ValueError("origin: goes with `size`; breaks say where classes start")
            _increasing(self.breaks)
        elif isinstance(self.size, str):
            _check_span(self.size, self.origin)
        elif isinstance(self.origin, str):
            raise ValueError("origin: a number, as the size is one")
        elif self.origin is not None:
            exact(self.origin)

    @property
    def span(self) -> Span | None:
        """The size as time on the calendar, or None where it is a number."""
        return span_of(self.size)

    def problems(self, dtype: DType) -> tuple[str, ...]:
        """See the base; each problem names what would do."""
        if found := self.only(dtype):
            return found
        of_dates = isinstance(self.breaks[0] if self.breaks else self.size, str)
        if of_dates != (dtype.kind == "date"):
            wanted = (
                "a size like 20y, or breaks like 1990-01-01"
                if dtype.kind == "date"
                else "a number as size or numbers as breaks"
            )
            return (f"bucket on {dtype} needs {wanted}",)
        if dtype.kind == "date":
            return (
                ("size 1d changes nothing on date: choose a larger one, or say keep",)
                if self.span == Span(1, "days")
                else ()
            )
        if self.breaks:
            return tuple(problem for item in self.breaks for problem in fits_number("breaks", exact(item), dtype))[
                :1
            ] + _in_range("breaks", self.breaks, dtype)
        return step_problems("size", exact(self.size or 0), dtype) + fits_number(
            "origin", exact(self.origin or 0), dtype
        )

    def produces(self, dtype: DType) -> DType:
        """See the base."""
        return _wide(dtype)

    def resolved(self, dtype: DType) -> Self:  # noqa: ARG002 - the size tells
        """See the base."""
        if self.size is None or self.origin is not None:
            return self
        return msgspec.structs.replace(self, origin=_ORIGIN_DAY if self.span else 0)


class Clip(Technique, frozen=True, kw_only=True, tag="clip"):
    """Values below `lower` become `lower`, values above `upper` become `upper`.

    Precondition: numbers, or dates with bounds like 1930-01-01. At least one bound.
    Output: same type. Residual risk: every value between the bounds passes as it is.
    Source: ISO/IEC 20889, generalization (top and bottom coding).

    >>> Clip(upper=90).accepts(DType("integer", bits=8))
    True
    """

    lower: Number | str | None = None
    upper: Number | str | None = None

    family: ClassVar[Family] = Family.GENERALISATION
    strength: ClassVar[int] = 1
    kinds: ClassVar[tuple[str, ...]] = (*NUMBERS, "date")
    order_preserving: ClassVar[bool] = True

    def __post_init__(self) -> None:
        given = tuple(bound for bound in (self.lower, self.upper) if bound is not None)
        if not given:
            raise ValueError("lower: at least one of `lower` and `upper` is needed")
        days = [date_of(bound) for bound in given if isinstance(bound, str)]
        if None in days or 0 < len(days) < len(given):
            raise ValueError("lower: both bounds are numbers, or both are dates like 1930-01-01")
        ordered = (
            days == sorted(days, key=lambda day: day or dt.date.min)
            if days
            else [exact(g) for g in given] == sorted(exact(g) for g in given)
        )
        if not ordered:
            raise ValueError("lower: must not be above `upper`")

    @property
    def bounds(self) -> tuple[int | float | str, ...]:
        """The bounds that are given."""
        return tuple(bound for bound in (self.lower, self.upper) if bound is not None)

    def problems(self, dtype: DType) -> tuple[str, ...]:
        """See the base; each problem names what would do."""
        if found := self.only(dtype):
            return found
        if isinstance(self.bounds[0], str) != (dtype.kind == "date"):
            return (
                f"clip on {dtype} needs {'dates like 1930-01-01' if dtype.kind == 'date' else 'numbers'} as bounds",
            )
        if dtype.kind == "date":
            return ()
        return tuple(problem for bound in self.bounds for problem in fits_number("bound", exact(bound), dtype))[
            :1
        ] + _in_range("bound", self.bounds, dtype)


class Round(Technique, frozen=True, kw_only=True, tag="round"):
    """The nearest multiple of `base`; the middle goes up.

    Precondition: numbers; for whole numbers a whole base of at least 2. Output: same type (decimals
    with 38 digits); beyond the type's ends, its end. Residual risk: few people at rare amounts.
    Source: ISO/IEC 20889, generalization (rounding).

    >>> Round(base=100).problems(DType("string"))
    ('round works on integer, float or decimal; this field is string',)
    """

    base: Annotated[int, Meta(ge=1, le=10**15, description="a positive number")] | Annotated[float, Meta(gt=0, le=1e15)]

    family: ClassVar[Family] = Family.GENERALISATION
    strength: ClassVar[int] = 2
    kinds: ClassVar[tuple[str, ...]] = NUMBERS
    order_preserving: ClassVar[bool] = True

    def problems(self, dtype: DType) -> tuple[str, ...]:
        """See the base; each problem names what would do."""
        return self.only(dtype) or step_problems("base", exact(self.base), dtype)

    def produces(self, dtype: DType) -> DType:
        """See the base."""
        return _wide(dtype)


class GeoRound(Technique, frozen=True, kw_only=True, tag="geo_round"):
    """A coordinate with fewer decimals: 2 are about 1 km, 1 about 11 km; the middle goes up.

    Precondition: degrees as floats, or as decimals with more decimals than are left. Output: same type
    (decimals with 38 digits). Residual risk: places where one person lives; counts as quasi-identifier.
    Source: ISO/IEC 20889, generalization (rounding).

    >>> GeoRound(decimals=2).accepts(DType("float", bits=64))
    True
    """

    decimals: Annotated[int, Meta(ge=0, le=4, description="a whole number from 0 to 4")]

    family: ClassVar[Family] = Family.GENERALISATION
    strength: ClassVar[int] = 2
    kinds: ClassVar[tuple[str, ...]] = ("float", "decimal")
    order_preserving: ClassVar[bool] = True

    def problems(self, dtype: DType) -> tuple[str, ...]:
        """See the base; each problem names what would do."""
        return self.only(dtype) or step_problems("decimals", exact(1).scaleb(-self.decimals), dtype)

    def produces(self, dtype: DType) -> DType:
        """See the base."""
        return _wide(dtype)


def _in_range(parameter: str, values: tuple[int | float | str, ...], dtype: DType) -> tuple[str, ...]:
    """Integers have ends; a bound beyond them could not be sent."""
    if dtype.kind == "integer":
        low, high = (-(2 ** (dtype.bits - 1)), 2 ** (dtype.bits - 1) - 1) if dtype.signed else (0, 2**dtype.bits - 1)
        if any(not low <= exact(value) <= high for value in values):
            return (f"{parameter} lies outside {dtype}",)
    if dtype.kind == "decimal" and any(abs(exact(value)) >= 10 ** (dtype.precision - dtype.scale) for value in values):
        return (f"{parameter} lies outside {dtype}",)
    return ()


def _wide(dtype: DType) -> DType:
    """A rounded decimal may need one digit more than its column has."""
    return DType("decimal", precision=38, scale=dtype.scale) if dtype.kind == "decimal" else dtype


def _increasing(breaks: tuple[int | float | str, ...]) -> None:
    if all(isinstance(item, str) for item in breaks):
        days = [date_of(item) for item in breaks]
        good = None not in days and all(a < b for a, b in pairwise(days) if a and b)
    else:
        good = not any(isinstance(item, str) for item in breaks) and all(
            exact(a) < exact(b) for a, b in pairwise(breaks)
        )
    if not good:
        raise ValueError(f"breaks: {_BREAKS}")


def _check_span(size: str, origin: object) -> None:
    span = span_of(size)
    if span is None:
        raise ValueError(f"size: {_SIZES}")
    day = date_of(origin)
    if origin is not None and day is None:
        raise ValueError("origin: a date like 1900-01-01, as the size is a time")
    if day is not None and span.unit == "months" and day.day != 1:
        raise ValueError("origin: the first day of a month, as the size is in months, quarters or years")

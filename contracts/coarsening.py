"""From a mask to the next coarser one of its kind: the steps that a proposal may take.

    ladder(mask, dtype, span) -> (mask, coarser, coarser still, ..., null)

Every step can be computed from the one before it, value by value: that is what makes it coarser, and what
lets classes only grow. Where a technique has no such step (rounding twice is not rounding once; a week
lies across months), the next one is null. Steps of a technique follow from its own parameters and, for
sizes, from how far the values reach.
"""

from __future__ import annotations

import math

import msgspec

from contracts.dtypes import DType
from contracts.technique import span_of
from contracts.techniques import (
    AnyTechnique,
    Bucket,
    DatePart,
    Geohash,
    Hierarchy,
    IpPrefix,
    Keep,
    Null,
    Partial,
    Prefix,
    Truncate,
)

MOST_STEPS = 7  # of one field, null included: a lattice of six fields has some 100,000 nodes at the most
_CLASSES = 20  # that the first step on kept numbers makes, about
_AFTER = {"minute": "hour", "hour": "day", "day": "month", "month": "quarter", "quarter": "year"}


def ladder(mask: AnyTechnique, dtype: DType, span: float | None = None) -> tuple[AnyTechnique, ...]:
    """The mask and its coarser steps on a field of that type, the finest first; the last is null.

    `span` is the largest value less the smallest, of numbers; without it numbers have no steps by size.
    At most `MOST_STEPS`: of more, some between are left out, which leaves the others as coarse as they are.
    """
    steps = [mask]
    if not isinstance(mask, Null):
        following = _next(mask, dtype, span)
        while following is not None and following.accepts(dtype):
            steps.append(following)
            following = _next(following, dtype, span)
        steps.append(Null())
    if len(steps) <= MOST_STEPS:
        return tuple(steps)
    stride = (len(steps) - 1) / (MOST_STEPS - 1)
    return tuple(steps[round(index * stride)] for index in range(MOST_STEPS))


def _next(mask: AnyTechnique, dtype: DType, span: float | None) -> AnyTechnique | None:
    match mask:
        case Keep():
            return _of_kept(dtype, span)
        case Bucket(size=str()):
            return _longer(mask)
        case Bucket(size=int() | float() as size):
            return msgspec.structs.replace(mask, size=2 * size) if span is not None and 2 * size < span else None
        case Bucket(breaks=tuple() as breaks):
            fewer = breaks[::2]
            return msgspec.structs.replace(mask, breaks=fewer) if len(fewer) > 1 else None
        case Truncate():
            return _longer_unit(mask, dtype)
        case DatePart(part="month"):
            return msgspec.structs.replace(mask, part="quarter")
        case Prefix() if mask.length > 1:
            return msgspec.structs.replace(mask, length=mask.length - 1)
        case Hierarchy() if mask.level < min(len(ancestors) for ancestors in mask.table.values()):
            return msgspec.structs.replace(mask, level=mask.level + 1)
        case Partial() if mask.keep_first or mask.keep_last:
            return _less_shown(mask)
        case IpPrefix() if (mask.v4, mask.v6) != (8, 16):
            return msgspec.structs.replace(mask, v4=max(8, mask.v4 - 4), v6=max(16, mask.v6 - 8))
        case Geohash() if mask.precision > 1:
            return msgspec.structs.replace(mask, precision=mask.precision - 1)
        case _:
            return None


def _of_kept(dtype: DType, span: float | None) -> AnyTechnique | None:
    """The first step on values that are kept as they are."""
    if dtype.kind == "date":
        return Truncate(unit="month")
    if dtype.kind == "timestamp" and dtype.zone is not None:
        return Truncate(unit="hour")
    if dtype.kind not in ("integer", "float", "decimal") or not span:
        return None
    least = span / _CLASSES
    ten = 10.0 ** math.floor(math.log10(least))
    size = next(size for size in (ten, 2 * ten, 5 * ten, 10 * ten) if size >= least)
    if dtype.kind != "float":
        size = max(2, math.ceil(size))
    return Bucket(size=size) if size < span else None


def _longer(mask: Bucket) -> Bucket | None:
    """Twice the days or months, from the same origin."""
    span = span_of(mask.size)
    if span is None or 2 * span.count > (9999 if span.unit == "days" else 12 * 80):
        return None
    double = 2 * span.count
    if span.unit == "days":
        return msgspec.structs.replace(mask, size=f"{double}d")
    return msgspec.structs.replace(mask, size=f"{double // 12}y" if double % 12 == 0 else f"{double}mo")


def _longer_unit(mask: Truncate, dtype: DType) -> AnyTechnique | None:
    unit = _AFTER.get(mask.unit)
    if unit is not None:
        return msgspec.structs.replace(mask, unit=unit)
    return Bucket(size="5y") if mask.unit == "year" and dtype.kind == "date" else None


def _less_shown(mask: Partial) -> Partial | None:
    """Half of what is shown. The length from which on a value is shown at all stays, so that no value shows
    more than before."""
    first, last = mask.keep_first // 2, mask.keep_last // 2
    hidden = mask.min_masked + mask.keep_first - first + mask.keep_last - last
    if hidden > 64:
        return None
    return msgspec.structs.replace(mask, keep_first=first, keep_last=last, min_masked=hidden)

"""The start of an hour or minute by the clock of a zone, also where that clock is changed.

It is the last moment, of those not later, at which the clock showed that start: an hour that comes twice is two hours,
unless the clock went back into the middle of it. Where the clock skipped the start, the hour begins with the change.

A zone's clock is a table: when it was changed, and by how much it is ahead of universal time since then. Whether it
was changed since the start must be looked at anyhow, and asking the engine what a clock shows takes longer.
"""

from __future__ import annotations

import datetime as dt
from functools import cache, partial

import polars as pl

# No zone's clock was changed before 1840, none will be after 2099 by what is known, and none was twice in a day.
_FIRST, _LAST, _DAY = dt.datetime(1800, 1, 1), dt.datetime(2200, 1, 1), 86_400
_FARTHEST = 95_000_000 * _DAY  # seconds from 1970 for which the engine has dates, 260,000 years
PER_SECOND = {"ms": 10**3, "us": 10**6, "ns": 10**9}


def start(moments: pl.Expr, seconds: int, zone: str) -> pl.Expr:
    """The start of the hour (3600 seconds) or minute (60) in that zone that each moment, a timestamp of any zone, is
    in; a timestamp of that zone, null of null. Raises InvalidOperationError for one beyond every date."""
    found = partial(_start, seconds=seconds, zone=zone)
    return moments.dt.convert_time_zone(zone).map_batches(found, return_dtype=pl.self_dtype(), is_elementwise=True)


def _start(moments: pl.Series, seconds: int, zone: str) -> pl.Series:
    scale = PER_SECOND[moments.dtype.time_unit]  # type: ignore[attr-defined]
    changes, sinces, aheads = _clock(zone, scale)
    at = moments.to_physical()
    farthest = min(_FARTHEST * scale, 2**63 - 1)
    if not at.is_between(-farthest, farthest).all():
        raise pl.exceptions.InvalidOperationError("a moment lies beyond every date")
    place = changes.search_sorted(at, side="right")  # of null the first
    changed, ahead = sinces.gather(place), aheads.gather(place)
    shown = at + ahead
    wanted = shown - shown % (seconds * scale)
    found = wanted - ahead
    early = (found < changed).arg_true()
    if len(early):
        # Shown before the change, or skipped by it.
        before, change = wanted.gather(early) - aheads.gather(place.gather(early) - 1), changed.gather(early)
        found = found.scatter(early, before.zip_with(before < change, change))
    return found.cast(moments.dtype)


@cache
def _clock(zone: str, scale: int) -> tuple[pl.Series, pl.Series, pl.Series]:
    """When the clock of a zone was changed, in parts of a second since 1970; since when, from always on, it is ahead by
    how much."""
    days = pl.datetime_range(_FIRST, _LAST, "1d", time_unit="ms", eager=True).to_physical() // 1000
    ahead = _ahead(days, zone)
    later = (ahead.diff() != 0).fill_null(False).arg_true()
    changes = _since(days.gather(later - 1), ahead.gather(later), zone)
    aheads = pl.concat([ahead.head(1), ahead.gather(later)])
    return changes * scale, pl.concat([pl.Series([-(2**63)]), changes * scale]), aheads * scale


def _since(days: pl.Series, ahead: pl.Series, zone: str) -> pl.Series:
    """Since when, within the day that follows each, the clock is ahead by so much; by halving the day."""
    last, first = days, days + _DAY
    while len(days) and (first - last).max() != 1:
        middle = last + (first - last) // 2
        changed = _ahead(middle, zone) == ahead
        last, first = middle.zip_with(~changed, last), middle.zip_with(changed, first)
    return first


def _ahead(seconds: pl.Series, zone: str) -> pl.Series:
    """By how many seconds the clock is ahead of universal time at so many seconds since 1970."""
    moments = (seconds * 1000).cast(pl.Datetime("ms", "UTC"))
    shown = moments.dt.convert_time_zone(zone).dt.replace_time_zone(None)
    return shown.to_physical() // 1000 - seconds

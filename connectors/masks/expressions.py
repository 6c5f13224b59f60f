"""Each masking technique as one native Polars expression.

`expression(field, secrets, entity)` is the column as it leaves; what lies under its nulls is taken away later
(`values.wire_clean`). What hides and what names a class stands here; numbers in `scales`, places in `places`, chance in
`chance`, what looks at the whole release in `groups`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import msgspec
import polars as pl

from connectors.masks import calendar, chance, clock, groups, lists, places, reversible, scales
from connectors.masks.redacting import redact
from connectors.masks.values import (
    ROW_NUMBER,
    MaskingSecrets,
    hmac_sha256,
    normalised,
    not_empty,
    polars_type,
    text,
)
from contracts import techniques as t
from contracts.dtypes import STRING, DType
from contracts.plan import PlannedField

_LONGEST_MASK = 1024  # characters; a longer value is shown as if it were this long
_SECONDS = {"minute": 60, "hour": 3600}
_UNITS = {"day": "1d", "week": "1w", "month": "1mo", "quarter": "1q", "year": "1y"}


def expression(
    field: PlannedField, secrets: MaskingSecrets, entity: str | None = None, *, normal: pl.Expr | None = None
) -> pl.Expr:
    """The field as it leaves, under its own name, of exactly its planned type. `entity` is the column whose
    distinct values `rare` counts, and whose noise stays the same; without one rows are counted and drawn for.
    `normal`: the field's values `normalised`, where they are already."""
    column = pl.col(field.name)
    if field.source.kind in ("string", "list"):
        # Categorical and enum carry every category of the column with them.
        column = column.cast(polars_type(field.source))
    return _masked(field, column, secrets, entity, normal).cast(polars_type(field.output)).alias(field.name)


def _masked(
    field: PlannedField, column: pl.Expr, secrets: MaskingSecrets, entity: str | None, normal: pl.Expr | None = None
) -> pl.Expr:
    mask = field.technique
    if field.source.kind == "list" and mask.each:
        if isinstance(mask, t.Rare):
            who = None if entity is None else normalised(pl.col(entity))
            return lists.rare(column, who, mask.min_count, mask.other)
        element = msgspec.structs.replace(field, name=lists.ELEMENT, source=STRING, output=STRING)
        return lists.each(column, _masked(element, pl.col(lists.ELEMENT), secrets, None))
    match mask:
        case t.Hmac():
            return _hmac(mask, column, secrets, normal)
        case t.RandomId():
            return _random_id(field, secrets)
        case t.Rare():
            return groups.rare(mask, text(column), entity)
        case t.ShiftDate():
            return chance.shift_date(mask, column, field.source, secrets)
        case t.Noise():
            return chance.noise(field, column, secrets, entity)
        case t.Shuffle():
            return chance.shuffle(field, column, secrets, entity)
        case t.Microaggregate():
            return groups.microaggregate(field, column, entity)
        case t.AesSiv():
            return reversible.aes_siv(mask, column, secrets)
        case t.Ff1():
            return reversible.ff1(mask, column, secrets)
        case t.Null():
            return pl.lit(None)
        case _:
            return _PLAIN[type(mask)](mask, column, field.source)


def before_chance(field: PlannedField) -> pl.Expr:
    """What a randomised field was before: what its classes and distinct values are counted on."""
    column = pl.col(field.name)
    if isinstance(field.technique, t.Noise):
        return chance.before_noise(field.technique, column, field.source)
    return column


# --- hiding -----------------------------------------------------------------------------------


def _keep(_: t.Keep, column: pl.Expr, __: DType) -> pl.Expr:
    return column


def _constant(mask: t.Constant, column: pl.Expr, _: DType) -> pl.Expr:
    return pl.when(column.is_not_null()).then(pl.lit(mask.value))


def _partial(mask: t.Partial, column: pl.Expr, _: DType) -> pl.Expr:
    # Slices of a literal are views: several times faster than a regular expression.
    value = text(column)
    length = value.str.len_chars().cast(pl.Int64)
    shown = pl.lit(mask.mask_char * _LONGEST_MASK).str.head(length - mask.keep_first - mask.keep_last)
    if mask.keep_first:
        shown = value.str.head(mask.keep_first) + shown
    if mask.keep_last:
        shown = shown + value.str.tail(mask.keep_last)
    hidden = pl.lit(mask.mask_char * mask.shortest)
    return pl.when(length >= mask.shortest).then(shown).when(value.is_not_null()).then(hidden)


def _regex(mask: t.Regex, column: pl.Expr, _: DType) -> pl.Expr:
    # What a value loses is what is in it and not in the copy in which matches leave only their groups.
    left = column.str.replace_all(mask.pattern, mask.brought_back).str.len_chars().cast(pl.Int64)
    masked = column.str.replace_all(mask.pattern, mask.replacement)
    lost = column.str.len_chars().cast(pl.Int64) - left
    return pl.when(lost >= mask.min_masked).then(masked).when(column.is_not_null()).then(pl.lit(mask.other))


def _hmac(mask: t.Hmac, column: pl.Expr, secrets: MaskingSecrets, normal: pl.Expr | None) -> pl.Expr:
    if mask.normalise == "text":
        value = normalised(column) if normal is None else normal
    else:
        value = text(column).map_batches(not_empty, return_dtype=pl.String, is_elementwise=True)
    if mask.period is not None:
        # The unit separator and the fixed form of what follows keep two messages from being one.
        start = _period_start(mask.period).cast(pl.String).fill_null("none")
        value = value + pl.lit(f"\x1f{mask.period.unit}:") + start
    return hmac_sha256(value, secrets.key(mask.domain))


def _period_start(period: t.Period) -> pl.Expr:
    """The first day of the unit. The plan states a zone exactly where the field is a timestamp."""
    column = pl.col(period.field)
    day = column if period.zone is None else _local_date(column, period.zone)
    return day.dt.truncate(_UNITS[period.unit])


def _random_id(field: PlannedField, secrets: MaskingSecrets) -> pl.Expr:
    """Of the row's number, never of its value: the same release can be made again, and nothing else can."""
    numbered = pl.when(pl.col(field.name).is_not_null()).then(pl.col(ROW_NUMBER).cast(pl.String))
    return hmac_sha256(numbered, secrets.draw(field.name))


# --- time and classes -------------------------------------------------------------------------


def _wall(column: pl.Expr, source: DType, zone: str | None) -> pl.Expr:
    """The wall clock in a zone, without zone: what calendars and truncation are about, and safe from
    days on which the clock jumps."""
    if source.kind == "date" or source.zone is None:
        return column
    return column.dt.convert_time_zone(zone or source.zone).dt.replace_time_zone(None)


def _local_date(column: pl.Expr, zone: str) -> pl.Expr:
    """The calendar day in a zone, of a timestamp with a zone or of a wall clock without."""
    return column.map_batches(lambda values: _dates(values, zone), return_dtype=pl.Date, is_elementwise=True)


def _dates(values: pl.Series, zone: str) -> pl.Series:
    aware = isinstance(values.dtype, pl.Datetime) and values.dtype.time_zone is not None
    return (values.dt.convert_time_zone(zone) if aware else values).dt.date()


def _truncate(mask: t.Truncate, column: pl.Expr, source: DType) -> pl.Expr:
    if mask.unit not in _SECONDS:
        return calendar.start(_days(_wall(column, source, mask.zone), source), _UNITS[mask.unit])
    zone = cast(str, mask.zone)
    if source.zone is None:
        column = column.dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null")
    return clock.start(column, _SECONDS[mask.unit], zone)


def _date_part(mask: t.DatePart, column: pl.Expr, source: DType) -> pl.Expr:
    wall = _wall(column, source, mask.zone)
    if mask.part == "hour":
        return wall.dt.hour()
    return calendar.part(_days(wall, source), mask.part)


def _days(wall: pl.Expr, source: DType) -> pl.Expr:
    """Days since 1970: a third of the time of a cast to dates."""
    if source.kind == "date":
        return wall.cast(pl.Int32)
    days = wall.to_physical() // (86_400 * clock.PER_SECOND[source.unit])
    # Of milliseconds alone there are more days than 32 bits hold.
    return days.cast(pl.Int32, wrap_numerical=source.unit != "ms")


def _prefix(mask: t.Prefix, column: pl.Expr, _: DType) -> pl.Expr:
    return column.str.head(mask.length)


def _hierarchy(mask: t.Hierarchy, column: pl.Expr, _: DType) -> pl.Expr:
    ancestors = {value: above[mask.level - 1] for value, above in mask.table.items()}
    value = text(column)
    return pl.when(value.is_not_null()).then(
        value.replace_strict(ancestors, default=mask.other, return_dtype=pl.String)
    )


_PLAIN: dict[type[t.Technique], Callable[[Any, pl.Expr, DType], pl.Expr]] = {
    t.Keep: _keep,
    t.Constant: _constant,
    t.Partial: _partial,
    t.Bucket: scales.bucket,
    t.Clip: scales.clip,
    t.Round: scales.rounded,
    t.GeoRound: scales.geo_round,
    t.Truncate: _truncate,
    t.DatePart: _date_part,
    t.Prefix: _prefix,
    t.Hierarchy: _hierarchy,
    t.Redact: redact,
    t.Regex: _regex,
    t.IpPrefix: places.ip_prefix,
    t.Geohash: places.geohash,
}

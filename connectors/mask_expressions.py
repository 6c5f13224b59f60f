"""Each masking technique as one native Polars expression.

`expression(field, secrets, entity)` is the column as it leaves, with nothing under its nulls.
Arithmetic is exact for whole numbers and decimals and stays within the type: where a class begins
below the type's lowest value, that value stands for the class.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from decimal import Decimal
from itertools import pairwise
from typing import Any, Protocol, cast

import polars as pl
import polars_hash as plh

from connectors.redacting import redact
from contracts import techniques as t
from contracts.dtypes import DType
from contracts.errors import Reason, SluicegateError
from contracts.plan import PlannedField
from contracts.technique import exact

# The column of row numbers that `masking.masked` adds where a mask draws by row.
ROW_NUMBER = "__sluicegate_row"
DIGITS = 32  # hexadecimal, of a pseudonym: 128 bits
_LONGEST_MASK = 1024  # characters; a longer value is shown as if it were this long
_UNITS = {"minute": "1m", "hour": "1h", "day": "1d", "week": "1w", "month": "1mo", "quarter": "1q", "year": "1y"}


class MaskingSecrets(Protocol):
    """The keys of one agreement. Never logged, printed, serialised or shipped."""

    def key(self, domain: str) -> str:
        """The key of that domain: 64 lower-case hexadecimal digits."""
        ...

    def draw(self, field: str) -> str:
        """The key that a field's random numbers come from, of this release alone: as `key`."""
        ...


def polars_type(dtype: DType) -> pl.DataType:
    """The Polars type that carries a column type. Raises PLAN_REFUSED for one that none carries."""
    match dtype.kind:
        case "integer":
            return cast(pl.DataType, getattr(pl, f"{'' if dtype.signed else 'U'}Int{dtype.bits}")())
        case "float":
            return pl.Float32() if dtype.bits == 32 else pl.Float64()
        case "decimal":
            return pl.Decimal(dtype.precision, dtype.scale)
        case "timestamp":
            return pl.Datetime(cast(Any, dtype.unit), dtype.zone)
        case "string" | "boolean" | "date" | "time" | "binary":
            return {
                "string": pl.String(),
                "boolean": pl.Boolean(),
                "date": pl.Date(),
                "time": pl.Time(),
                "binary": pl.Binary(),
            }[dtype.kind]
    raise SluicegateError(Reason.PLAN_REFUSED, f"a column of type {dtype} cannot be sent")


def text(expr: pl.Expr) -> pl.Expr:
    """The value as text: categories by their word, whole numbers in decimal, dates as ISO 8601."""
    return expr.cast(pl.String)


def normalised(expr: pl.Expr) -> pl.Expr:
    """What tells two spellings of one identifier apart is taken away: space around it, compatibility
    forms (NFKC), case. An empty text becomes null, and null stays null. Any type that has text."""
    return text(expr).map_batches(_normal, return_dtype=pl.String, is_elementwise=True)


def _normal(values: pl.Series) -> pl.Series:
    # NFKC leaves ASCII alone and costs as much as the hash itself, so it runs only where it matters.
    trimmed = values.str.strip_chars()
    if (trimmed.str.len_bytes() != trimmed.str.len_chars()).any():
        trimmed = trimmed.str.normalize("NFKC").str.strip_chars()
    return _not_empty(trimmed.str.to_uppercase())


def _not_empty(values: pl.Series) -> pl.Series:
    empty = values == ""
    return values.set(empty, None) if empty.any() else values


def wire_clean(expr: pl.Expr, kind: pl.DataType) -> pl.Expr:
    """The column with nothing under its nulls.

    A null is a bit beside a value; sources and masks leave whatever value was there. The values are
    replaced first, then the bits are set on the replacements.
    """
    return expr.map_batches(_clean, return_dtype=kind, is_elementwise=True)


def _clean(values: pl.Series) -> pl.Series:
    if not values.null_count():
        return values
    blank: object = {pl.String: "", pl.Binary: b"", pl.Boolean: False}.get(type(values.dtype), 0)
    filled = values.fill_null(pl.lit(blank).cast(values.dtype))
    return filled.zip_with(values.is_not_null(), pl.Series([None], dtype=values.dtype))


def expression(field: PlannedField, secrets: MaskingSecrets, entity: str | None = None) -> pl.Expr:
    """The field as it leaves, under its own name, of exactly its planned type, clean for the wire.
    `entity` is the column whose distinct values `rare` counts; without one it counts rows."""
    column = pl.col(field.name)
    if field.source.kind == "string":
        column = text(column)  # categorical and enum carry every category of the column with them
    mask = field.technique
    match mask:
        case t.Hmac():
            masked = _hmac(mask, column, secrets)
        case t.RandomId():
            masked = _random_id(field, secrets)
        case t.Rare():
            masked = _rare(mask, text(column), entity)
        case t.Null():
            masked = pl.lit(None)
        case _:
            masked = _PLAIN[type(mask)](mask, column, field.source)
    kind = polars_type(field.output)
    return wire_clean(masked.cast(kind), kind).alias(field.name)


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


def _hmac(mask: t.Hmac, column: pl.Expr, secrets: MaskingSecrets) -> pl.Expr:
    value = (
        normalised(column)
        if mask.normalise == "text"
        else text(column).map_batches(_not_empty, return_dtype=pl.String, is_elementwise=True)
    )
    if mask.period is not None:
        # The unit separator and the fixed form of what follows keep two messages from being one.
        start = _period_start(mask.period).cast(pl.String).fill_null("none")
        value = value + pl.lit(f"\x1f{mask.period.unit}:") + start
    return _hmac_sha256(value, secrets.key(mask.domain))


def _period_start(period: t.Period) -> pl.Expr:
    """The first day of the unit. The plan states a zone exactly where the field is a timestamp."""
    column = pl.col(period.field)
    day = column if period.zone is None else _local_date(column, period.zone)
    return day.dt.truncate(_UNITS[period.unit])


def _random_id(field: PlannedField, secrets: MaskingSecrets) -> pl.Expr:
    """Of the row's number, never of its value: the same release can be made again, and nothing else can."""
    numbered = pl.when(pl.col(field.name).is_not_null()).then(pl.col(ROW_NUMBER).cast(pl.String))
    return _hmac_sha256(numbered, secrets.draw(field.name))


def _hmac_sha256(value: pl.Expr, key: str) -> pl.Expr:
    if len(key) != 64 or not set(key) <= set("0123456789abcdef"):
        raise SluicegateError(Reason.CONFIG_UNSAFE, "a masking key must be 64 lower-case hexadecimal digits")
    return cast(pl.Expr, cast(Any, value).chash.hmac_sha256(key=key)).str.head(DIGITS)


# --- numbers ----------------------------------------------------------------------------------


def _bucket(mask: t.Bucket, column: pl.Expr, source: DType) -> pl.Expr:
    if mask.breaks is not None:
        return _breaks(mask.breaks, column, source)
    if source.kind == "date":
        return _date_bucket(mask, column)
    size, origin = exact(cast(Any, mask.size)), exact(cast(Any, mask.origin or 0))
    if source.kind == "float":
        step, start = float(size), float(origin)
        return ((column.cast(pl.Float64) - start) / step).floor() * step + start
    value, above, _ = _modulo(column, source, size, origin)
    return _lowered(value, above, source)


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


def _lowered(value: pl.Expr, above: pl.Expr, source: DType) -> pl.Expr:
    """value - above, or the type's lowest value where that would lie below it."""
    if source.kind == "decimal":
        return value - above
    lowest, _ = _range(source)
    if source.bits < 64:
        return (value - above).clip(lower_bound=lowest)
    floor = pl.lit(lowest, dtype=pl.Int64() if source.signed else pl.UInt64())
    return pl.when(value >= floor + above).then(value - above).when(value.is_not_null()).then(floor)


def _raised(value: pl.Expr, by: pl.Expr, source: DType) -> pl.Expr:
    """value + by, or the type's highest value where that would lie above it."""
    if source.kind == "decimal":
        return value + by
    _, highest = _range(source)
    if source.bits < 64:
        return (value + by).clip(upper_bound=highest)
    top = pl.lit(highest, dtype=pl.Int64() if source.signed else pl.UInt64())
    return pl.when(value <= top - by).then(value + by).when(value.is_not_null()).then(top)


def _nearest(column: pl.Expr, source: DType, base: Decimal) -> pl.Expr:
    value, above, step = _modulo(column, source, base, Decimal(0))
    up = step - above
    return pl.when(above < up).then(_lowered(value, above, source)).otherwise(_raised(value, up, source))


def _round(mask: t.Round, column: pl.Expr, source: DType) -> pl.Expr:
    if source.kind == "float":
        base = float(mask.base)
        return (column.cast(pl.Float64) / base + 0.5).floor() * base
    return _nearest(column, source, exact(mask.base))


def _geo_round(mask: t.GeoRound, column: pl.Expr, source: DType) -> pl.Expr:
    if source.kind == "float":
        scale = 10.0**mask.decimals
        return (column.cast(pl.Float64) * scale + 0.5).floor() / scale
    return _nearest(column, source, Decimal(1).scaleb(-mask.decimals))


def _clip(mask: t.Clip, column: pl.Expr, source: DType) -> pl.Expr:
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
    month = column.dt.year().cast(pl.Int64) * 12 + column.dt.month() - 1
    start = origin.year * 12 + origin.month - 1
    first = month - (month - start) % span.count
    return pl.date(first // 12, first % 12 + 1, 1).clip(_FIRST_DATE)


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
    wall, unit = _wall(column, source, mask.zone), _UNITS[mask.unit]
    if mask.unit not in ("minute", "hour"):
        return wall.cast(pl.Date).dt.truncate(unit)
    zone = cast(str, mask.zone)
    if source.zone is None:
        return wall.dt.truncate(unit).dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null")
    # Taking the rest off the instant itself never meets a wall clock that does not exist.
    return column.dt.convert_time_zone(zone) - (wall - wall.dt.truncate(unit))


def _date_part(mask: t.DatePart, column: pl.Expr, source: DType) -> pl.Expr:
    part: Callable[[], pl.Expr] = getattr(_wall(column, source, mask.zone).dt, mask.part)
    return part()


def _prefix(mask: t.Prefix, column: pl.Expr, _: DType) -> pl.Expr:
    return column.str.head(mask.length)


def _hierarchy(mask: t.Hierarchy, column: pl.Expr, _: DType) -> pl.Expr:
    ancestors = {value: above[mask.level - 1] for value, above in mask.table.items()}
    value = text(column)
    return pl.when(value.is_not_null()).then(
        value.replace_strict(ancestors, default=mask.other, return_dtype=pl.String)
    )


def _rare(mask: t.Rare, value: pl.Expr, entity: str | None) -> pl.Expr:
    count = pl.len() if entity is None else normalised(pl.col(entity)).n_unique()
    return (
        pl.when(value.is_null())
        .then(None)
        .when(count.over(value) >= mask.min_count)
        .then(value)
        .otherwise(pl.lit(mask.other))
    )


_PLAIN: dict[type[t.Technique], Callable[[Any, pl.Expr, DType], pl.Expr]] = {
    t.Keep: _keep,
    t.Constant: _constant,
    t.Partial: _partial,
    t.Bucket: _bucket,
    t.Clip: _clip,
    t.Round: _round,
    t.GeoRound: _geo_round,
    t.Truncate: _truncate,
    t.DatePart: _date_part,
    t.Prefix: _prefix,
    t.Hierarchy: _hierarchy,
    t.Redact: redact,
}

# Importing the plugin registers `Expr.chash`.
_ = plh

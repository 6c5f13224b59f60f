"""What is left to chance, under a key: shift_date, noise and shuffle.

Every draw is an HMAC under a secret key, so nobody without the key can tell it, and a release made again is the same.
What follows from a person is drawn under a key of the recipient and the dataset, not of an agreement: who has two
agreements, or one after the other, has one draw, and nothing to average. Other masks on the same value have draws of
their own: two masks of one draw could be solved for the value.
"""

from __future__ import annotations

import math
from typing import cast

import msgspec
import polars as pl

from connectors.masks.groups import members
from connectors.masks.scales import lowered, nearest, raised, rounded_float
from connectors.masks.values import ROW_NUMBER, MaskingSecrets, hmac_sha256, normalised, polars_type
from contracts import techniques as t
from contracts.canonical import canonical
from contracts.dtypes import INT64, DType
from contracts.plan import PlannedField
from contracts.technique import exact

_HALF = 13  # hexadecimal digits of one draw of two: 52 bits, which a float holds exactly


# --- dates ------------------------------------------------------------------------------------

_FIRST_DAY, _LAST_DAY = -719_162, 2_932_896  # 0001-01-01 and 9999-12-31, from 1970-01-01
_PER_DAY = {"s": 86_400, "ms": 86_400_000, "us": 86_400_000_000, "ns": 86_400_000_000_000}


def shift_date(mask: t.ShiftDate, column: pl.Expr, source: DType, secrets: MaskingSecrets) -> pl.Expr:
    """The date moved by its entity's days."""
    drawn = hmac_sha256(normalised(pl.col(mask.entity)), secrets.lot("shift_date", str(mask.days)))
    days = drawn.map_batches(lambda digits: _shifts(digits, mask.days), return_dtype=pl.Int64, is_elementwise=True)
    if source.kind == "date":
        day = column.cast(pl.Int32).cast(pl.Int64).clip(_FIRST_DAY + mask.days, _LAST_DAY - mask.days)
        return (day + days).cast(pl.Int32).cast(pl.Date)
    per_day = _PER_DAY[source.unit]
    first, last = max(_FIRST_DAY * per_day, -(2**63) + 1), min((_LAST_DAY + 1) * per_day - 1, 2**63 - 1)
    moment = column.cast(pl.Int64).clip(first + mask.days * per_day, last - mask.days * per_day)
    return (moment + days * per_day).cast(polars_type(source))


def _shifts(digits: pl.Series, days: int) -> pl.Series:
    """From -days to days, without 0."""
    place = digits.str.head(_HALF).str.to_integer(base=16) % (2 * days) - days
    return place + (place >= 0).cast(pl.Int64)


# --- noise ------------------------------------------------------------------------------------


def noise(field: PlannedField, column: pl.Expr, secrets: MaskingSecrets, entity: str | None) -> pl.Expr:
    """The value, rounded where the mask says so, and a random number. What is drawn is used more than once, and
    an engine that does not see it as one would hash it each time: so it goes through one function."""
    mask, kind = cast(t.Noise, field.technique), polars_type(field.output)
    value = before_noise(mask, column, field.source).alias("value")
    drawn = pl.struct(value, _digits(field, column, secrets, entity).alias("digits"))
    return drawn.map_batches(lambda rows: _noisy(rows, field, mask).cast(kind), return_dtype=kind, is_elementwise=True)


def _noisy(rows: pl.Series, field: PlannedField, mask: t.Noise) -> pl.Series:
    source, value, added = field.source, pl.col("value"), pl.col("added")
    frame = rows.struct.unnest().with_columns(_drawn(mask, pl.col("digits")).alias("added"))
    if source.kind == "float":
        if mask.base is not None:
            added = rounded_float(added, float(mask.base))
        return frame.select(value.cast(pl.Float64) + added).to_series()
    if source.kind == "decimal":
        step = added.cast(pl.Decimal(38, source.scale))
        step = step if mask.base is None else nearest(step, field.output, exact(mask.base))
        return frame.select(value.cast(pl.Decimal(38, source.scale)) + step).to_series()
    kind: pl.DataType = pl.UInt64() if not source.signed and source.bits == 64 else pl.Int64()
    frame = frame.with_columns(added.round().cast(pl.Int64))
    if mask.base is not None:
        frame = frame.with_columns(nearest(added, INT64, exact(mask.base)).alias("added"))
    up, down = added.clip(lower_bound=0).cast(kind), (-added.clip(upper_bound=0)).cast(kind)
    frame = frame.with_columns(raised(value.cast(kind), up, source).alias("value"))
    return frame.select(lowered(value.cast(kind), down, source)).to_series()


def before_noise(mask: t.Noise, column: pl.Expr, source: DType) -> pl.Expr:
    """The value that noise is added to, which is what its field is measured by."""
    if mask.base is None:
        return column
    if source.kind == "float":
        return rounded_float(column.cast(pl.Float64), float(mask.base))
    return nearest(column, source, exact(mask.base))


def _digits(field: PlannedField, column: pl.Expr, secrets: MaskingSecrets, entity: str | None) -> pl.Expr:
    """32 random hexadecimal digits, of the person and the value, or else of the row."""
    if entity is None:
        row = pl.when(column.is_not_null()).then(pl.col(ROW_NUMBER).cast(pl.String))
        return hmac_sha256(row, secrets.draw(field.name))
    message = normalised(pl.col(entity)) + "\x1f" + column.cast(pl.String)
    mask = canonical(msgspec.to_builtins(field.technique)).decode()
    return hmac_sha256(message, secrets.lot("noise", field.name, mask))


def _drawn(mask: t.Noise, digits: pl.Expr) -> pl.Expr:
    """A number of the distribution, from two that are even between 0 and 1 and never either."""
    first, second = (
        (digits.str.slice(start, _HALF).str.to_integer(base=16).cast(pl.Float64) + 0.5) / 16.0**_HALF
        for start in (0, _HALF)
    )
    scale = float(mask.scale)
    if mask.distribution == "uniform":
        return (first * 2 - 1) * scale
    if mask.distribution == "normal":
        return (first.log() * -2).sqrt() * (second * (2 * math.pi)).cos() * scale
    return first.log() * -scale * pl.when(second < 0.5).then(-1.0).otherwise(1.0)


# --- another row's value ----------------------------------------------------------------------


def shuffle(field: PlannedField, column: pl.Expr, secrets: MaskingSecrets, entity: str | None) -> pl.Expr:
    """The values dealt anew over the whole release, or within each group; nulls keep their places."""
    mask = cast(t.Shuffle, field.technique)
    row = hmac_sha256(pl.col(ROW_NUMBER).cast(pl.String), secrets.draw(field.name))
    place = row.str.head(15).str.to_integer(base=16)
    groups = [column.is_null(), *([pl.col(mask.within)] if mask.within else [])]
    dealt = column.sort_by(place).over(groups)
    return pl.when(column.is_not_null() & (members(entity).over(groups) >= mask.least)).then(dealt)

"""Which rows a purpose covers: its row scope, judged on values before masking, and the sample drawn of them."""

from __future__ import annotations

import datetime as dt

import polars as pl

from connectors.masks.values import MaskingSecrets, hmac_sha256, normalised
from contracts import instants
from contracts.dtypes import DType
from contracts.errors import Reason, SluicegateError
from contracts.model import RowCondition
from contracts.plan import Plan
from contracts.technique import exact

_DIGITS = 15  # hexadecimal, of a draw: 60 bits, which a whole number of 64 holds


def in_scope(frame: pl.LazyFrame, plan: Plan) -> pl.LazyFrame:
    """The rows that meet every condition of the plan; a null meets none.

    Raises PLAN_REFUSED for a condition on a field that is not sent."""
    for name, condition in plan.rows.items():
        planned = plan.field(name)
        if planned is None:
            raise SluicegateError(Reason.PLAN_REFUSED, f"the row scope uses {name}, which is not sent")
        frame = frame.filter(_meets(name, condition, planned.source))
    return frame


def drawn(frame: pl.LazyFrame, plan: Plan, secrets: MaskingSecrets) -> pl.LazyFrame:
    """The rows in scope of those entities that the plan's sample holds; of all where it has none.

    Drawn under a key of the recipient and the dataset: whoever has two agreements, or one after the other, gets the
    same entities, and of a lower rate some of them. A null entity stays where bounds refuse it, later."""
    rows, sample = in_scope(frame, plan), plan.sample
    if sample is None:
        return rows
    draw = hmac_sha256(normalised(pl.col(sample.entity)), secrets.lot("sample"))
    below = int(exact(sample.rate) * 16**_DIGITS)
    inside = draw.str.head(_DIGITS).str.to_integer(base=16) < below
    return rows.filter(inside.fill_null(plan.entity is not None))


def _meets(name: str, condition: RowCondition, dtype: DType) -> pl.Expr:
    column, tests = pl.col(name), [pl.lit(True)]
    if condition.any_of is not None:
        tests.append(pl.any_horizontal(pl.lit(False), *(column == _value(value, dtype) for value in condition.any_of)))
    if condition.from_ is not None:
        tests.append(column >= _value(condition.from_, dtype))
    if condition.until is not None:
        tests.append(column < _value(condition.until, dtype))
    return pl.all_horizontal(tests).fill_null(False)


def _value(value: str | int, dtype: DType) -> pl.Expr:
    """A bound as a value of the column's type. A date stands for its midnight, in the column's zone; an
    instant for itself, and on a timestamp without zone for what that one's clock would show in UTC."""
    if not isinstance(value, str) or dtype.kind == "string":
        return pl.lit(value)
    if dtype.kind == "date":
        return pl.lit(dt.date.fromisoformat(value))
    if len(value) == 10:
        midnight = dt.datetime.combine(dt.date.fromisoformat(value), dt.time())
        naive = pl.lit(midnight, dtype=pl.Datetime("us"))
        return naive.dt.replace_time_zone(dtype.zone) if dtype.zone else naive
    moment = dt.datetime.fromtimestamp(instants.epoch(value), dt.UTC)
    if dtype.zone is None:
        return pl.lit(moment.replace(tzinfo=None), dtype=pl.Datetime("us"))
    return pl.lit(moment, dtype=pl.Datetime("us", "UTC")).dt.convert_time_zone(dtype.zone)

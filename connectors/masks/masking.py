"""Masking: a plan's techniques carried out on a lazy frame, and nothing else left in its buffers.

    masked(frame, plan, secrets) -> LazyFrame     the columns that leave, as they leave

The frame holds the rows in scope with the columns of `plan.read`. The result holds keys in its
expressions until it is collected: it is never serialised, logged or shipped.
"""

from __future__ import annotations

from collections.abc import Iterable

import polars as pl

from connectors.masks.expressions import before_chance, expression
from connectors.masks.known_answers import self_test
from connectors.masks.values import ROW_NUMBER, MaskingSecrets, normalised, polars_type, wire_clean
from contracts import techniques as t
from contracts.errors import Reason, SluicegateError
from contracts.plan import Plan, PlannedField

__all__ = [
    "MaskingSecrets",
    "before_chance",
    "masked",
    "normalised",
    "polars_type",
    "self_test",
    "wire_clean",
]


def masked(
    frame: pl.LazyFrame,
    plan: Plan,
    secrets: MaskingSecrets,
    *,
    beside: Iterable[pl.Expr] = (),
    person: str | None = None,
) -> pl.LazyFrame:
    """The columns that leave, masked and clean for the wire, in the plan's order.

    `beside` are further columns for the gateway's own use (the entity, to count it), computed from the
    unmasked frame, put after the columns that leave, and not cleaned. `person`, if it is asked for, comes last of
    them: a column of the entity's normalised values, made once for the masks too.

    Raises PLAN_REFUSED for a time zone or a pattern that the engine does not know, CONFIG_UNSAFE for a key that is
    not 64 hexadecimal digits. What the data itself forbids surfaces when the frame is collected.
    """
    others = list(beside)
    if person is not None:
        frame = frame.with_columns(normalised(pl.col(plan.entity or "")).alias(person))
        others.append(pl.col(person))
    names = [field.name for field in plan.fields]
    own = [expr.meta.output_name() for expr in others]
    every = [*names, *own]
    if clash := {name for name in own if every.count(name) > 1}:
        raise ValueError(f"columns beside the plan's need names of their own, not {sorted(clash)}")
    for field in plan.fields:
        _check_zone(field.technique)
        _check_pattern(field)
    normal = {plan.entity: pl.col(person)} if person is not None else {}
    masks = [expression(field, secrets, plan.entity, normal=normal.get(field.name)) for field in plan.fields]
    if any(field.technique.draws for field in plan.fields):
        frame = frame.with_row_index(ROW_NUMBER)
    clean = [wire_clean(pl.col(field.name), polars_type(field.output)) for field in plan.fields]
    return frame.with_columns(*masks, *others).select(*clean, *own)


def _check_zone(mask: t.Technique) -> None:
    zone = getattr(getattr(mask, "period", None) or mask, "zone", None)
    if zone is None:
        return
    try:
        pl.Series([], dtype=pl.Datetime("us")).dt.replace_time_zone(zone)
    except pl.exceptions.PolarsError:
        raise SluicegateError(
            Reason.PLAN_REFUSED, f"the gateway knows no time zone {zone!r}; state an IANA name"
        ) from None


def _check_pattern(field: PlannedField) -> None:
    """The contract was read without this engine, which alone knows what it can carry out."""
    if not isinstance(field.technique, t.Regex):
        return
    try:
        pl.Series([""]).str.replace_all(field.technique.pattern, field.technique.replacement)
    except pl.exceptions.PolarsError as error:
        why = str(error).partition("This error")[0].strip().rpartition("error: ")[2][:80]
        raise SluicegateError(
            Reason.PLAN_REFUSED, f"the pattern of {field.name} cannot be carried out: {why}; state another"
        ) from None

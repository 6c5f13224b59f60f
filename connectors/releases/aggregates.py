"""The figures of a differentially private aggregate: contributions bounded, added up, made noisy.

    table = compute(plan, frame, key)      group columns, then a column for each measure

1. Of each person, rows in at most so many groups and so many rows in each group stay, chosen by a keyed
   hash; a person's choice depends on that person's rows alone. Rows without a person are left out.
2. Values are rounded to whole units and clamped, then added up per person and group, then per group. So one
   person more or less changes a count by at most groups x rows and a sum by that times the largest clamp,
   over all groups together.
3. Groups are those that the contract lists, whoever is in them, or those whose noisy number of persons
   reaches the threshold.
4. Each figure gets noise for its share of epsilon. Whatever is computed from it afterwards costs nothing.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import polars as pl

from connectors.masks.values import polars_type
from connectors.releases import noise
from connectors.sources.base import reading
from connectors.spooling.order import ReleaseKey
from contracts.aggregate_plan import PlannedAggregate, PlannedMeasure, whole
from contracts.errors import Reason, SluicegateError
from contracts.plan import Plan

_PERSONS, _WHO, _ROW = "#persons", "#who", "#row"


def totals(plan: Plan, frame: pl.LazyFrame, key: ReleaseKey, *, source: str) -> pl.DataFrame:
    """The true figures, contributions bounded: per group `#persons` and the columns of `sensitivity`. They never
    leave. `frame` has the group columns as they leave, the measured columns and the entity as `#who`.

    Raises DATA_INVALID and SOURCE_UNAVAILABLE."""
    terms = _terms(plan)
    groups = [field.name for field in plan.fields]
    measured = [field.name for field in plan.measured]
    seed = key.number("aggregate")
    added = [
        expression.alias(column)
        for measure in terms.measures
        for column, expression in _added(measure, terms.rows).items()
    ]
    rows = frame.drop_nulls(_WHO).select(_WHO, *groups, *measured, pl.struct(pl.all()).hash(seed).alias(_ROW))
    persons = rows.group_by(_WHO, *groups).agg(*added)
    turn = pl.struct(_WHO, *groups).hash(seed).rank("ordinal").over(_WHO)
    bounded = persons.filter(turn <= terms.groups)
    sums = [pl.col(expression.meta.output_name()).cast(pl.Int128).sum() for expression in added]
    with reading(source):
        return bounded.group_by(groups).agg(pl.len().cast(pl.Int64).alias(_PERSONS), *sums).collect(engine="streaming")


def compute(plan: Plan, frame: pl.LazyFrame, key: ReleaseKey, *, source: str) -> pl.DataFrame:
    """The table that leaves, in the order of its groups. Raises as `totals`, and INTERNAL as `noise`."""
    terms = _terms(plan)
    true = _chosen(plan, terms, totals(plan, frame, key, source=source))
    columns = [true.get_column(field.name) for field in plan.fields]
    columns += [_figure(measure, terms, true) for measure in terms.measures]
    return pl.DataFrame(columns)


def sensitivity(terms: PlannedAggregate, measure: PlannedMeasure) -> dict[str, int]:
    """By how much one person more or less changes each column that a measure is made of, over all groups
    together, in units of the column."""
    rows = terms.groups * terms.rows
    if measure.kind == "count":
        return {f"{measure.name}#n": terms.groups if measure.persons else rows}
    found = {f"{measure.name}#sum": rows * measure.most}
    return found if measure.kind == "sum" else {**found, f"{measure.name}#n": rows}


def _terms(plan: Plan) -> PlannedAggregate:
    if plan.aggregate is None:
        raise SluicegateError(Reason.INTERNAL, "the plan sends rows, not an aggregate")
    return plan.aggregate


def _added(measure: PlannedMeasure, rows: int) -> dict[str, pl.Expr]:
    """What one person adds to one group. The rows that count are the first by their keyed hash."""
    if measure.kind == "count":
        counted = pl.lit(1, dtype=pl.Int64) if measure.persons else pl.len().clip(upper_bound=rows).cast(pl.Int64)
        return {f"{measure.name}#n": counted}
    chosen = in_units(measure).sort_by(_ROW).head(rows)
    added = {f"{measure.name}#sum": chosen.sum()}
    return added if measure.kind == "sum" else {**added, f"{measure.name}#n": chosen.count().cast(pl.Int64)}


def in_units(measure: PlannedMeasure) -> pl.Expr:
    """A measured column as whole units within the clamp. What is no number counts as null; null adds nothing."""
    base = float(Decimal(measure.base))
    steps = (pl.col(measure.field or "").cast(pl.Float64) / base).fill_nan(None).round()
    return steps.clip(measure.lower, measure.upper).cast(pl.Int64)


def _chosen(plan: Plan, terms: PlannedAggregate, true: pl.DataFrame) -> pl.DataFrame:
    """The groups that leave with their true figures, in order."""
    names = [field.name for field in plan.fields]
    if terms.listed is not None:
        listed = _listed(plan, terms.listed)
        return listed.join(true, on=names, how="left", maintain_order="left")
    ordered = true.sort(names, nulls_last=True)
    places = noise.crowded(
        ordered.get_column(_PERSONS).to_list(),
        groups=terms.groups,
        micro_epsilon=terms.share,
        pico_delta=terms.pico_delta,
        threshold=terms.threshold or 0,
    )
    return ordered[places] if places else ordered.clear()


def _listed(plan: Plan, values: Sequence[Sequence[str]]) -> pl.DataFrame:
    """Every combination of the listed values, of the types in which the groups leave."""
    combined = list(itertools.product(*values))
    columns = []
    for index, field in enumerate(plan.fields):
        told = pl.Series(field.name, [row[index] for row in combined], dtype=pl.String)
        kind = polars_type(field.output)
        columns.append(
            told == "true" if kind == pl.Boolean else told.str.to_date() if kind == pl.Date else told.cast(kind)
        )
    return pl.DataFrame(columns)


def _figure(measure: PlannedMeasure, terms: PlannedAggregate, true: pl.DataFrame) -> pl.Series:
    drawn = {
        column: pl.Series(
            noise.noisy(_whole(true.get_column(column)), sensitivity=most, micro_epsilon=terms.share), dtype=pl.Int64
        )
        for column, most in sensitivity(terms, measure).items()
    }
    return _told(measure, drawn).alias(measure.name)


def _whole(column: pl.Series) -> list[int]:
    return [0 if value is None else int(value) for value in column.to_list()]


def _told(measure: PlannedMeasure, drawn: dict[str, pl.Series]) -> pl.Series:
    """The noisy columns of a measure as the figure that leaves: sums in the field's own numbers, a mean between
    its bounds."""
    if measure.kind == "count":
        return drawn[f"{measure.name}#n"]
    total, base = drawn[f"{measure.name}#sum"], Decimal(measure.base)
    if measure.kind == "sum":
        if not whole(measure.base):
            return total.cast(pl.Float64) * float(base)
        most = (2**63 - 1) // int(base)
        return total.clip(-most, most) * int(base)
    persons = drawn[f"{measure.name}#n"].clip(1)
    mean: Any = total.cast(pl.Float64) / persons.cast(pl.Float64)
    return pl.Series(mean.clip(measure.lower, measure.upper) * float(base), dtype=pl.Float64)

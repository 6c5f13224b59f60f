"""The aggregate of a plan: its terms settled against the data's types, and what its receipt must say.

What is planned follows from the contract and the source's types alone. What the receipt says of it follows
from the contract alone, so that whoever verifies a receipt computes it again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Literal

from msgspec import Struct

from contracts.aggregate import MICRO, PICO, Aggregate, Measure, decimal, units
from contracts.dtypes import FLOAT64, INT64, DType
from contracts.papers import Aggregated, AggregatedMeasure
from contracts.techniques import AnyTechnique, Round


class PlannedMeasure(Struct, frozen=True, kw_only=True):
    """One column of figures. `lower` and `upper` are in units of `base`, to which values are rounded."""

    name: str
    kind: Literal["count", "sum", "mean"]
    persons: bool
    field: str | None
    base: str
    lower: int
    upper: int

    @property
    def output(self) -> DType:
        """The type sent: whole numbers where the figure is one."""
        return INT64 if self.kind == "count" or (self.kind == "sum" and whole(self.base)) else FLOAT64

    @property
    def most(self) -> int:
        """The most that one value adds to a sum, in units."""
        return max(abs(self.lower), abs(self.upper))


class PlannedAggregate(Struct, frozen=True, kw_only=True):
    """What is computed of the groups that a plan's fields form. `share` is the epsilon of each noisy figure in
    millionths; `listed` the values of each group field in the fields' order, None where groups come from
    the data and `threshold` decides. `stated` is what the receipt says."""

    entity: str
    measures: tuple[PlannedMeasure, ...]
    groups: int
    rows: int
    share: int
    micro_epsilon: int
    pico_delta: int
    budget_micro_epsilon: int
    budget_pico_delta: int
    threshold: int | None
    listed: tuple[tuple[str, ...], ...] | None
    stated: Aggregated


def planned(terms: Aggregate, masks: Mapping[str, AnyTechnique], groups: tuple[str, ...]) -> PlannedAggregate:
    """The terms, settled. `groups` are the group fields in the order in which they leave. The terms hold by
    `contracts.aggregate_rules`."""
    return PlannedAggregate(
        entity=terms.entity,
        measures=tuple(_measure(name, measure, masks) for name, measure in terms.measures.items()),
        groups=terms.contribution.groups,
        rows=terms.contribution.rows,
        share=terms.share,
        micro_epsilon=terms.micro_epsilon,
        pico_delta=terms.pico_delta,
        budget_micro_epsilon=terms.budget.micro_epsilon,
        budget_pico_delta=terms.budget.pico_delta,
        threshold=terms.threshold,
        listed=None
        if terms.groups is None
        else tuple(tuple(str(value) for value in terms.groups[name]) for name in groups),
        stated=stated(terms, masks),
    )


def stated(terms: Aggregate, masks: Mapping[str, AnyTechnique]) -> Aggregated:
    """What intent and receipt say of the terms."""
    return Aggregated(
        entity=terms.entity,
        group_by=terms.group_by,
        micro_epsilon=terms.micro_epsilon,
        share_micro_epsilon=terms.share,
        pico_delta=terms.pico_delta,
        most_groups=terms.contribution.groups,
        most_rows=terms.contribution.rows,
        threshold=terms.threshold,
        budget_micro_epsilon=terms.budget.micro_epsilon,
        budget_pico_delta=terms.budget.pico_delta,
        measures={
            name: AggregatedMeasure(kind=planned.kind, persons=planned.persons, field=planned.field, base=planned.base,
                                    lower=planned.lower, upper=planned.upper)
            for name, measure in terms.measures.items()
            for planned in (_measure(name, measure, masks),)
        },
    )  # fmt: skip


def columns(terms: Aggregate, masks: Mapping[str, AnyTechnique]) -> Iterator[tuple[str, str]]:
    """Name and type of the figures' columns, as receipts spell them."""
    for name, measure in terms.measures.items():
        yield name, str(_measure(name, measure, masks).output)


def whole(base: str) -> bool:
    """Whether steps of that size lead to whole numbers only."""
    return Decimal(base) == Decimal(base).to_integral_value()


def base_of(mask: AnyTechnique | None) -> str:
    """To what a field's values are rounded before they are added up."""
    return str(Decimal(str(mask.base))) if isinstance(mask, Round) else "1"


def _measure(name: str, measure: Measure, masks: Mapping[str, AnyTechnique]) -> PlannedMeasure:
    base = base_of(masks.get(measure.field or ""))
    return PlannedMeasure(
        name=name,
        kind=measure.kind,
        persons=measure.count == "persons",
        field=measure.field,
        base=base,
        lower=0 if measure.lower is None else units(measure.lower, base),
        upper=0 if measure.upper is None else units(measure.upper, base),
    )


def text(found: Aggregated) -> str:
    """An aggregate's terms in one line, for people."""
    groups = "listed groups" if found.threshold is None else f"groups from {found.threshold} noisy persons on"
    epsilon, delta = decimal(found.micro_epsilon, MICRO), decimal(found.pico_delta, PICO)
    return (
        f"differentially private aggregate: epsilon {epsilon}, delta {delta}; at most {found.most_rows} rows in each "
        f"of {found.most_groups} groups count of one {found.entity}; {groups}; "
        f"budget {decimal(found.budget_micro_epsilon, MICRO)}"
    )

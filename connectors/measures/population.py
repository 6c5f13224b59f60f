"""A register of the population, to look the people of a release or a masked file up in: how many persons of it
share a class.

Classes are matched by those of its quasi-identifiers that the register knows, each masked as the
contract says, where that needs no key. With fewer columns classes only grow, so what somebody with just this
register could do is told, not what one with a better register could.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass

import polars as pl

from connectors.masks.values import normalised, polars_type
from connectors.measures import classing, privacy
from connectors.measures.classing import Layout
from connectors.measures.origin import followed, masked
from connectors.measures.privacy import Measure
from connectors.sources.base import Source, explaining, reading
from connectors.spooling.order import ReleaseKey
from contracts.dtypes import DType
from contracts.errors import Reason, SluicegateError
from contracts.plan import Plan, PlannedField
from contracts.techniques import AnyTechnique

KNOWN = "#known"  # the tuple of what a register knows


@dataclass(frozen=True, slots=True)
class Population:
    """A register. `fields` are the columns that it is matched by, with the types they have in the file."""

    source: Source
    entity: str
    fields: tuple[tuple[PlannedField, DType], ...]

    @classmethod
    def of(cls, source: Source, plan: Plan, masks: Mapping[str, AnyTechnique], entity: str) -> Population:
        """The register behind `source`, of persons told apart by `entity`: what the plan sends under these masks
        is looked up in it.

        Raises DATA_INVALID for one that does not tell persons apart, has a column of another type than the mask
        takes, or shares no column that forms classes.
        """
        schema = source.schema()
        demand_persons(schema, entity)
        found = []
        for name in plan.quasi_identifiers:
            sent = plan.field(name)
            if name in schema and sent is not None and (field := _as_sent(masks[name], sent, schema[name])) is not None:
                found.append((field, sent.output))
        if not found:
            told = "the register has no column that classes are formed by and that needs no key to compare"
            raise SluicegateError(Reason.DATA_INVALID, told)
        return cls(source, entity, tuple(found))

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns it is matched by, in the plan's order."""
        return tuple(field.name for field, _ in self.fields)

    def classes(self, key: ReleaseKey) -> pl.DataFrame:
        """(class, n): how many persons share each class. Raises SOURCE_UNAVAILABLE, DATA_INVALID."""
        names = list(dict.fromkeys((self.entity, *self.columns)))
        with explaining(self.source, names), reading(self.source.name):
            return (
                self.source.scan(names)
                .select(
                    normalised(pl.col(self.entity)).alias("#person"),
                    *(masked(field).cast(polars_type(kind), strict=False) for field, kind in self.fields),
                )
                .filter(pl.col("#person").is_not_null())
                .select(classing.tuple_hash(self.columns, key).alias("class"), "#person")
                .unique()
                .group_by("class")
                .len("n")
                .collect(engine="streaming")
            )


def known_by(places: Layout) -> Layout:
    """How rows are looked up: one by one, by the tuple of what the register knows."""
    return dataclasses.replace(places, row=KNOWN, values=(), spread=(), groupings=(None,))


def persons(batches: Callable[[], Iterable[pl.DataFrame]], places: Layout) -> pl.DataFrame:
    """(class, n): how many persons of these rows share each class, as `known_by` says; counted to the end."""
    measure = Measure(batches=batches, places=places, k=1, l={}, exact=True)
    return measure.run(most_suppressed=privacy.TO_THE_END).tables[0]


def demand_persons(columns: Collection[str], entity: str) -> None:
    """Refuse a register that does not tell persons apart. Raises DATA_INVALID."""
    if entity not in columns:
        told = f"the register does not say who its rows are about: it needs the column {entity}"
        raise SluicegateError(Reason.DATA_INVALID, told)


def _as_sent(mask: AnyTechnique, sent: PlannedField, dtype: DType) -> PlannedField | None:
    if problems := mask.problems(dtype):
        told = f"the register's column {sent.name} is not as the dataset's: {problems[0]}"
        raise SluicegateError(Reason.DATA_INVALID, told, remedy="give it the dataset's type, or another name")
    settled = mask.resolved(dtype)
    return followed(
        PlannedField(
            name=sent.name,
            technique=settled,
            source=dtype,
            output=settled.produces(dtype),
            identifiability=sent.identifiability,
            tier=sent.tier,
        )
    )

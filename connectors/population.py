"""A register of the population, to look the people of a masked file up in: how many persons of it share a class.

A file's classes are matched by those of its quasi-identifiers that the register knows, each masked as the
contract says, where that needs no key. With fewer columns classes only grow, so what somebody with just this
register could do is told, not what one with a better register could.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import polars as pl

from connectors import privacy
from connectors.mask_values import normalised, polars_type
from connectors.order import ReleaseKey
from connectors.origin import followed, masked
from connectors.sources.base import Source, explaining, reading
from contracts.as_masked import AsMasked
from contracts.dtypes import DType
from contracts.errors import Reason, SluicegateError
from contracts.plan import PlannedField


@dataclass(frozen=True, slots=True)
class Population:
    """A register. `fields` are the columns that it is matched by, with the types they have in the file."""

    source: Source
    entity: str
    fields: tuple[tuple[PlannedField, DType], ...]

    @classmethod
    def of(cls, source: Source, judged: AsMasked, entity: str) -> Population:
        """The register behind `source`, of persons told apart by `entity`.

        Raises DATA_INVALID for one that does not tell persons apart, or shares no column that forms classes.
        """
        schema = source.schema()
        demand_persons(schema, entity)
        found = []
        for name in judged.plan.quasi_identifiers:
            sent = judged.plan.field(name)
            if name in schema and sent is not None and (field := _as_sent(judged, sent, schema)) is not None:
                found.append((field, sent.output))
        if not found:
            told = "the register has no column that the file's classes are formed by and that needs no key to compare"
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
                .select(privacy.tuple_hash(self.columns, key).alias("class"), "#person")
                .unique()
                .group_by("class")
                .len("n")
                .collect(engine="streaming")
            )


def demand_persons(columns: Collection[str], entity: str) -> None:
    """Refuse a register that does not tell persons apart. Raises DATA_INVALID."""
    if entity not in columns:
        told = f"the register does not say who its rows are about: it needs the column {entity}"
        raise SluicegateError(Reason.DATA_INVALID, told)


def _as_sent(judged: AsMasked, sent: PlannedField, schema: Mapping[str, DType]) -> PlannedField | None:
    mask, dtype = judged.masks[sent.name], schema[sent.name]
    if not mask.accepts(dtype):
        return None
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

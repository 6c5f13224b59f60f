"""What a masked file was made from, as far as the contract's masks can be followed without a key."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from connectors.keys import AgreementSecrets
from connectors.masks.expressions import expression
from connectors.masks.values import polars_type
from connectors.measures.proposing import lost
from connectors.sources.base import Source, explaining, reading
from connectors.spooling.scope import in_scope
from contracts.plan import Plan, PlannedField
from contracts.technique import Family

_KEYLESS = (Family.NONE, Family.PARTIAL, Family.GENERALISATION)
MOST_VALUES = 10_000_000  # distinct values of one column that are followed


@dataclass(frozen=True, slots=True)
class Origin:
    """The source of a file, and the plan that the contract makes of it."""

    plan: Plan
    source: Source

    def rows(self) -> int:
        """How many rows are in scope. Raises SOURCE_UNAVAILABLE, DATA_INVALID."""
        with explaining(self.source, self.plan.read), reading(self.source.name):
            return int(self._scoped().select(pl.len()).collect().item())

    def values(self, name: str, kind: pl.DataType) -> pl.DataFrame | None:
        """What the contract's mask makes of the column: (value, before, lost), where `value` is of `kind`,
        `before` the share of the rows in scope and `lost` what the value loses (`proposing.lost`). None where
        the mask needs a key, looks at other rows or draws, or the column has too many values.
        """
        field = followed(self.plan.field(name))
        if field is None:
            return None
        with explaining(self.source, self.plan.read), reading(self.source.name):
            pairs = (
                self._scoped()
                .select(was=pl.col(name), value=masked(field).cast(kind, strict=False))
                .group_by("was", "value")
                .len("rows")
                .head(MOST_VALUES + 1)
                .collect(engine="streaming")
            )
        if pairs.height > MOST_VALUES:
            return None
        share = pairs.group_by("value").agg((pl.col("rows").sum() / max(1, pairs["rows"].sum())).alias("before"))
        return share.join(lost(pairs, "was", "value"), on="value", nulls_equal=True)

    def _scoped(self) -> pl.LazyFrame:
        return in_scope(self.source.scan(self.plan.read), self.plan)


def followed(field: PlannedField | None) -> PlannedField | None:
    """The field, if what its mask makes of a value follows from that value alone, without a key."""
    keyless = field is not None and field.technique.family in _KEYLESS and field.technique.per_row
    return field if keyless else None


def masked(field: PlannedField) -> pl.Expr:
    """The field as it leaves, of a mask that needs no key."""
    nobody = AgreementSecrets(bytes(32), "nobody")  # no technique of these families asks for a key
    return expression(field, nobody, None).cast(polars_type(field.output))

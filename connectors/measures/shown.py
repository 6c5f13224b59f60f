"""How often values of a masked file come: for charts that a person looks at.

A value is named only where at least k persons of the file have it, k being the contract's; all others are
one rest without names. Where the source is known, the share that the contract's mask gives to the same value
there stands beside it: of a value that the file does not name, nothing is said.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import polars as pl

from connectors.measures.classing import Layout
from connectors.measures.origin import Origin
from connectors.measures.privacy import BUDGET
from connectors.measures.tally import counted_exactly
from connectors.spooling.spool import Rows
from contracts.plan import Plan

MOST_BARS = 12
MOST_VALUES = 1_000_000  # distinct values of one column that are counted


@dataclass(frozen=True, slots=True)
class Bar:
    """One value (None: no value), the persons that have it, its share of the rows, and the share of the source's
    rows that the contract's mask makes it of (None: not known)."""

    value: object
    persons: int
    share: float
    before: float | None


@dataclass(frozen=True, slots=True)
class Shown:
    """The values of one column: the most frequent of those with enough persons, in the order of values, and the
    share of all others. `distinct` counts all. `lost` is the sum of what the rows' values lose, None where that
    is not known; `rows` how many there are."""

    name: str
    distinct: int
    bars: tuple[Bar, ...]
    rest: float
    lost: float | None
    rows: int

    def loss(self, suppressed: int) -> float | None:
        """The column's loss: the mean of what values lose, 1 for each of the suppressed rows; None unknown."""
        if self.lost is None:
            return None
        return (self.lost + suppressed) / max(1, self.rows + suppressed)


def shown(rows: Rows, plan: Plan, places: Layout, name: str, origin: Origin | None) -> Shown:
    """How often the values of one column come. Raises SOURCE_UNAVAILABLE, DATA_INVALID of the origin."""
    planned = plan.field(name)
    text = planned is not None and planned.output.kind == "string"

    def batches() -> Iterator[pl.DataFrame]:
        for batch in rows.batches(tuple(dict.fromkeys((name, places.entity)))):
            value = pl.col(name).cast(pl.String) if text else pl.col(name)  # the spool packs texts
            yield batch.select(value.alias("value"), value.hash().alias("class"), pl.col(places.entity).alias("n"))

    counted: pl.DataFrame | None = None
    for batch in batches():
        some = batch.group_by("class", "value").len("rows")
        counted = some if counted is None else _summed(counted, some)
        if counted.height > MOST_VALUES:
            return Shown(name, counted.height, (), 1.0, None, rows.count)
    if counted is None:
        return Shown(name, 0, (), 0.0, None, 0)
    persons = counted_exactly(batches, {"n": "n"}, rows.count, BUDGET)["n"]
    table = counted.join(persons, on="class", how="left").with_columns(
        pl.col("n").fill_null(0), share=pl.col("rows") / rows.count
    )
    before = origin.values(name, table.schema["value"]) if origin is not None else None
    lost: float | None = None
    if before is None:
        table = table.with_columns(before=pl.lit(None, dtype=pl.Float64))
    else:
        table = table.join(before, on="value", how="left", nulls_equal=True)
        if not table["lost"].null_count():  # every value of the file is one that the contract's mask makes
            lost = float((table["lost"] * table["rows"]).sum())
        table = table.with_columns(pl.col("before").fill_null(0.0))
    bars = table.filter(pl.col("n") >= (plan.k or 1)).sort("rows", descending=True).head(MOST_BARS).sort("value")
    return Shown(
        name=name,
        distinct=counted.height,
        bars=tuple(Bar(*row) for row in bars.select("value", "n", "share", "before").iter_rows()),
        rest=max(0.0, 1.0 - float(bars["share"].sum())),
        lost=lost,
        rows=rows.count,
    )


def _summed(one: pl.DataFrame, other: pl.DataFrame) -> pl.DataFrame:
    return pl.concat([one, other]).group_by("class", "value").agg(pl.col("rows").sum())

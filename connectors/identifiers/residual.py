"""Looks through the rows of a release for what no mask removed, and refuses the release then.

Every masked row is looked at as it comes from the masks, in the batches that the parts are made of: also
rows that are suppressed afterwards. What lies in one of them is a hole in the contract or in a mask, and
what decides whether a row stays is the other rows, so tomorrow it would leave.

Columns whose mask cannot make what a detector means are not looked at (`contracts.residual.can_hold`). Of the
others, a cheap test tells values that could hold something; only those, each distinct one once, are examined.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from connectors.identifiers import detectors, likeness
from contracts.errors import Reason, SluicegateError
from contracts.plan import Plan, PlannedField
from contracts.residual import Kind, can_hold

_SHORTEST = 6  # bytes
_PROBE, _FEW = 1024, 4  # where every value of the first rows comes so often, the distinct ones are looked at


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """What was found in one column: the kind, and in how many rows; of lists, in how many elements, or
    lists where no element alone holds it. Never a value."""

    column: str
    kind: Kind
    rows: int

    def __str__(self) -> str:
        return f"{self.column}: {self.kind} in {self.rows:,} rows"


class Inspector:
    """Counts what is found in the batches of one release. For one thread; ask `findings` after the last batch."""

    def __init__(self, plan: Plan) -> None:
        self._fields = tuple(field for field in plan.fields if can_hold(field.technique, field.output))
        self._counts: dict[tuple[str, Kind], int] = {}
        self._long: dict[str, int] = {}
        self._suspect: set[str] = set()

    def inspect(self, batch: pl.DataFrame, first: Mapping[str, pl.Series] | None = None) -> None:
        """Look through a batch of masked rows. `first`: of some columns, at least each value that no batch before
        had. Texts of those columns are looked through there; in the rows only once something was found."""
        for field in self._fields:
            if first is not None and not self._suspicious(field, first):
                continue
            for kind, rows in self._column(field, batch.get_column(field.name)).items():
                if kind not in field.may_hold:
                    self._counts[field.name, kind] = self._counts.get((field.name, kind), 0) + rows

    def _suspicious(self, field: PlannedField, first: Mapping[str, pl.Series]) -> bool:
        """Whether the rows are to be looked through: nothing else tells in how many of them something is."""
        values = first.get(field.name)
        if values is None or values.dtype != pl.String:
            return True
        if self._column(field, values):
            self._suspect.add(field.name)
        return field.name in self._suspect

    def _column(self, field: PlannedField, values: pl.Series) -> Mapping[Kind, int]:
        kind = values.dtype
        if isinstance(kind, pl.List | pl.Array):
            if kind.inner.is_float():
                return likeness.vectors(values)
            held = self._column(field, values.drop_nulls().explode(empty_as_null=False))
            if kind.inner != pl.String:
                return held
            # What no element holds by itself may be cut across several.
            joined = values.cast(pl.List(pl.String)).list.join("", ignore_nulls=True)
            return {**_in_text(joined), **held, **likeness.vectors_of_texts(values)}
        if kind.is_numeric():
            counts, long = detectors.found_numbers(values)
            self._long[field.name] = self._long.get(field.name, 0) + long
            return counts
        if kind == pl.Binary:
            read = [content.decode(errors="replace") for content in values.drop_nulls()]
            return likeness.found_in_bytes(values) | _in_text(pl.Series(read, dtype=pl.String))
        if kind.is_temporal() or kind == pl.Boolean:
            return {}
        return _in_text(values.cast(pl.String))

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What was found, column by column."""
        return tuple(
            sorted(
                Finding(column, kind, rows)
                for (column, kind), rows in self._counts.items()
                if detectors.telling({kind: rows}, self._long.get(column, 0))
            )
        )

    def check(self) -> None:
        """Raises RESIDUAL_IDENTIFIERS if anything was found; columns, kinds and counts are its metadata, for the
        department alone."""
        if found := self.findings:
            raise SluicegateError(
                Reason.RESIDUAL_IDENTIFIERS,
                "what is about to leave holds identifiers, images or templates that no mask removed",
                metadata={f"found.{finding.column}.{finding.kind}": str(finding.rows) for finding in found},
            )


def _in_text(values: pl.Series) -> dict[Kind, int]:
    longest = values.str.len_bytes().max()
    if not isinstance(longest, int) or longest < _SHORTEST:
        return {}
    values = values.alias("value")
    head = values.head(_PROBE)
    if head.n_unique() * _FEW <= len(head):
        weighed = values.value_counts(name="rows").drop_nulls()
    else:
        weighed = values.to_frame().drop_nulls().with_columns(rows=pl.lit(1))
    found: dict[Kind, int] = {}
    for look in (detectors, likeness):
        suspects = look.suspects(weighed)
        if not suspects.is_empty():
            found |= look.found_in_text(suspects.group_by("value").agg(pl.col("rows").sum()))
    return found

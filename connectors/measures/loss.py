"""What a release loses of its quasi-identifiers, watched while rows are masked: ARX's Loss.

Of one value that leaves it is the share of the source's distinct values that became it, itself left out: 0
where it stands for one value alone, 1 where for all of them. A field's loss is the mean over its rows, a
release's the mean over its quasi-identifiers; a row that is suppressed loses all, the others what all lose on
average: which are left is not known while they are watched. A field that chance went into is watched as it was
before, as its classes are counted. Of a release with many rows or a field with many distinct
values a sample of them is watched, so that memory and time stay small.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import polars as pl

from connectors.masks.expressions import before_chance
from connectors.measures import classing
from connectors.measures.proposing import lost
from connectors.spooling.order import ReleaseKey
from contracts.plan import Plan

MOST = 16_384  # distinct values of a field that are watched
ALL_OF = 262_144  # rows at the beginning, before one in
EVERY = 17  # is enough: a prime, since rows that come in turn often do so by 2, 5, 10 or 12
_EVERY = 2**64 - 1


class Losses:
    """The losses of one release, fed with its batches. `beside` are the columns that the masked frame must hold
    besides its own, `columns` their names: keyed hashes of source values, no value itself."""

    def __init__(self, plan: Plan, key: ReleaseKey) -> None:
        quasi = [field for field in map(plan.field, plan.quasi_identifiers) if field is not None]
        # Of a field that leaves as it is nothing is lost, of one that leaves without its values everything.
        self._known = [0.0 for field in quasi if field.technique.id == "keep"]
        self._known += [1.0 for field in quasi if field.technique.id == "null"]
        watched = [field for field in quasi if field.technique.id not in ("keep", "null")]
        seed = key.number("loss")
        self._fields = {
            field.name: _Watched(
                f"#was.{field.name}", f"#less.{field.name}" if field.technique.randomised else field.name
            )
            for field in watched
        }
        self._rows = 0
        self.beside = [
            classing.tuple_hash((field.name, *field.technique.reveals), key).alias(self._fields[field.name].column)
            for field in watched
        ]
        # Hashed here, since the values themselves are nobody's to look at; noise would lose nothing and never end.
        self.beside += [
            before_chance(field).hash(seed).alias(self._fields[field.name].value)
            for field in watched
            if field.technique.randomised
        ]

    @property
    def columns(self) -> Sequence[str]:
        """Names of the columns beside."""
        return [expr.meta.output_name() for expr in self.beside]

    def look(self, batch: pl.DataFrame) -> None:
        """Take in a batch of masked rows with the columns beside."""
        every = 1 if self._rows < ALL_OF else EVERY
        self._rows += batch.height
        for watched in self._fields.values():
            watched.take(batch[watched.column], batch[watched.value], every)

    def total(self, suppressed: float) -> float | None:
        """The release's loss, with that share of its rows suppressed; None without quasi-identifiers."""
        found = [*self._known, *(watched.loss() for watched in self._fields.values())]
        if not found:
            return None
        return suppressed + (1 - suppressed) * sum(found) / len(found)


class _Watched:
    """One field: which source values became which outgoing ones, and in how many rows."""

    def __init__(self, column: str, value: str) -> None:
        self.column, self.value = column, value
        self._limit = _EVERY  # of the hashes that are watched
        self._new: list[tuple[pl.Series, pl.Series, int]] = []  # and how many rows each of them stands for
        self._pairs: pl.DataFrame = pl.DataFrame(schema={"was": pl.UInt64, "value": pl.UInt64, "rows": pl.Int64})

    def take(self, was: pl.Series, value: pl.Series, every: int) -> None:
        """Take in the rows of the values that are watched, and watch fewer once there are too many; while all
        are, they come often, and one row in `every` does. Series, not frames: there is one call a field and
        batch, and each query on a frame costs more than the work on so few rows."""
        if self._limit == _EVERY and every == 1:
            self._lower(cast(int, was.approx_n_unique()))
        if self._limit < _EVERY:
            watched = was <= self._limit
            was, value, every = was.filter(watched), value.filter(watched), 1
        elif every > 1:
            was, value = was.gather_every(every), value.gather_every(every)
        # By its hash: a text of a few rows would hold on to the texts of all rows that it was read with.
        self._new.append((was, value.hash(), every))
        if sum(len(new) for new, _, _ in self._new) > 8 * MOST:
            self._merge()

    def _lower(self, many: int) -> None:
        """Watch so many fewer values as there are too many. Hashes are even, so about enough are left."""
        if many > MOST:
            self._limit = self._limit * MOST // many

    def _merge(self) -> pl.DataFrame:
        if self._new:
            weights = (pl.Series([each], dtype=pl.Int64).new_from_index(0, len(was)) for was, _, each in self._new)
            rows = pl.DataFrame(
                {
                    "was": pl.concat([was for was, _, _ in self._new]),
                    "value": pl.concat([value for _, value, _ in self._new]),
                    "rows": pl.concat(weights),
                }
            )
            self._lower(cast(int, rows["was"].approx_n_unique()))  # what is to be watched no more is not counted
            rows = rows.filter(pl.col("was") <= self._limit)
            counted = rows.group_by("was", "value").agg(pl.col("rows").sum())
            self._pairs = pl.concat([self._pairs, counted]).group_by("was", "value").agg(pl.col("rows").sum())
            self._new = []
        self._lower(self._pairs["was"].n_unique())
        if self._limit < _EVERY:
            self._pairs = self._pairs.filter(pl.col("was") <= self._limit)
        return self._pairs

    def loss(self) -> float:
        """The mean over all rows; 0 before there is one."""
        pairs = self._merge()
        if pairs.is_empty():
            return 0.0
        of_value = pairs.join(lost(pairs, "was", "value"), on="value")
        return float((of_value["lost"] * of_value["rows"]).sum()) / int(of_value["rows"].sum())

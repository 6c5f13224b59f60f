"""Bounds, measured on the rows that are about to leave: k, l, what must be suppressed for them.

A class is what an outsider can tell apart: the rows of one tuple of quasi-identifiers. Where a
pseudonym is sent it joins rows, so a class is the whole set of tuples that one pseudonym joins
(composite k). k counts the distinct entities of a class, l the distinct values of a sensitive field
that leave in it; a null quasi-identifier is a value, a null sensitive value is none. Rows of a class
that misses a bound are suppressed whole, again and again until no class misses one. Fields that chance
went into (noise, shifted dates) are counted as they were before.

Everything is counted on 64-bit keyed hashes, never on values: `classing` adds them while rows are
masked, `Measure` reads only them. Memory is bounded by `budget` rows whatever the table's size: what
exceeds it is counted in slices of the hash space. The chance that two of a million classes share a
hash is 3 in 10^8.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple, Protocol

import polars as pl

from connectors.measures import effectiveness
from connectors.measures import spread as spreading
from connectors.measures.classing import Layout
from connectors.measures.composite import Joined
from connectors.measures.spread import Limit
from connectors.measures.tally import SLICE, Census, Tally, TooManyOpenError, Units, counted_exactly, units_of
from contracts.errors import Reason, SluicegateError
from contracts.plan import Plan
from contracts.receipt import Bounds, Certificate, Spread

Batches = Callable[[], Iterable[pl.DataFrame]]


class Comparison(Protocol):
    """With what the recipient got before. Each gives the places of rows, counted over all batches, that may not
    leave beside it, of those that are left; None for no row."""

    def trimmed(self, alive: Sequence[pl.Series | None]) -> pl.Series | None:
        """Rows without which their person stays what it was: asked once, before classes are judged."""
        ...

    def withheld(self, alive: Sequence[pl.Series | None]) -> pl.Series | None:
        """All others: asked again until there are none."""
        ...


BUDGET = 8_000_000  # rows of hashes held at once
TO_THE_END = 2.0  # a share of rows suppressed that is never reached


@dataclass(slots=True)
class Verdict:
    """What was measured. `rows_in` after scope; `alive` marks, batch by batch, the rows that may leave
    (None: all). `tables` has, per grouping, one row a class that stays: class, n (entities), one column
    a sensitive field; `failing` how many classes missed a bound when it was first measured, `alone` the
    share of entities that were alone in a class then. `first_spread` and `spread` are the worst of each
    field's spread when it was first measured, and over the classes that stay."""

    rows_in: int
    rows_suppressed: int = 0
    failing: int = 0
    lowest_k: int = 0
    lowest_l: dict[str, int] = field(default_factory=dict)
    exact: bool = True
    alone: float = 0.0
    first_spread: dict[str, Spread] = field(default_factory=dict)
    spread: dict[str, Spread] = field(default_factory=dict)
    alive: list[pl.Series | None] = field(default_factory=list)
    tables: list[pl.DataFrame] = field(default_factory=list)

    @property
    def share(self) -> float:
        """Share of rows suppressed."""
        return self.rows_suppressed / self.rows_in if self.rows_in else 0.0

    @property
    def classes(self) -> int:
        """Classes that stay: of what a pseudonym joins, where one is sent."""
        return self.tables[-1].height if self.tables else 0

    def met(self, column: str) -> int:
        """The lowest count of a column of the tables; 0 where no class is left."""
        return min((int(table[column].min()) for table in self.tables if table.height), default=0)  # type: ignore[arg-type]


def allowed(plan: Plan) -> float:
    """The share of rows that may be suppressed; without a stated limit, none."""
    return (plan.max_suppression or 0.0) if plan.on_violation == "suppress" else 0.0


class Failing(NamedTuple):
    """Classes of one grouping that miss a bound; of a pseudonym's, what is known of its units."""

    grouping: str | None
    classes: pl.Series
    units: Units | None = None


@dataclass(frozen=True, slots=True)
class Measure:
    """One measuring: the hash columns of all batches (given anew at each call), the layout, the bounds, and
    the comparison with earlier releases, if there is one."""

    batches: Batches
    places: Layout
    k: int
    l: dict[str, int]  # noqa: E741 - the bound's own name
    exact: bool
    budget: int = BUDGET
    compare: Comparison | None = None

    def run(self, *, most_suppressed: float) -> Verdict:
        """Measure, suppress, measure again, until every class that is left meets every bound.

        Stops early, with what is known by then, once more than that share would be suppressed.
        """
        verdict, nameless = Verdict(0, exact=self.exact), 0
        for batch in self.batches():
            nameless += batch[self.places.entity].null_count()
            verdict.rows_in += batch.height
            verdict.alive.append(None)
        if nameless:
            raise SluicegateError(
                Reason.DATA_INVALID,
                f"the entity {self.places.person} is null or empty in {nameless} of {verdict.rows_in} rows, so "
                "persons cannot be told apart",
                metadata={"rows_in": str(verdict.rows_in), "rows_without_entity": str(nameless)},
            )
        first, rounds = True, dict[str | None, Census]()
        # k and l first: how values are spread is judged against what those leave.
        while True:
            stale = [grouping for grouping in self.places.groupings if grouping not in rounds]
            rounds.update((grouping, self._census(grouping, verdict)) for grouping in stale)
            if first:
                found = rounds.values()
                verdict.failing = sum(len(census.failing) for census in found)
                verdict.alone = max(census.alone / max(1, census.entities) for census in found)
                verdict.lowest_k = min(census.lowest["n"] for census in found)
                verdict.lowest_l = {
                    name: min(census.lowest[column] for census in found) for name, column in self.places.values
                }
                first = False
                if self.compare is not None and self._withheld(verdict, self.compare.trimmed(verdict.alive)):
                    rounds.clear()
                    continue
            verdict.tables = [rounds[grouping].kept for grouping in self.places.groupings]
            failing = [
                Failing(grouping, rounds[grouping].failing, rounds[grouping].units)
                for grouping in stale
                if len(rounds[grouping].failing)
            ]
            suppressed = self._suppressed(verdict, failing)
            if not suppressed and self.places.spread and verdict.rows_suppressed < verdict.rows_in:
                suppressed = self._suppressed(verdict, self._spread(verdict, rounds))
            if not suppressed and self.compare is not None and verdict.rows_suppressed < verdict.rows_in:
                suppressed = self._withheld(verdict, self.compare.withheld(verdict.alive))
            # Classes go whole, so that those left of the same grouping stay what they are.
            rounds = {one.grouping: rounds[one.grouping] for one in failing if len(failing) == 1}
            if not suppressed or verdict.share > most_suppressed:
                return verdict

    def _suppressed(self, verdict: Verdict, failing: Iterable[Failing]) -> int:
        """Suppress the classes that fail, grouping by grouping; how many rows that were."""
        seen = list(verdict.alive)  # all groupings of a round judge the same rows
        more = sum(self._suppress(missed, seen, verdict.alive) for missed in failing if len(missed.classes))
        verdict.rows_suppressed += more
        return more

    def _withheld(self, verdict: Verdict, rows: pl.Series | None) -> int:
        """Suppress these rows; how many that were."""
        if rows is None:
            return 0
        at, every = 0, pl.repeat(True, verdict.rows_in, eager=True).scatter(rows, False)
        for index, batch in enumerate(self.batches()):
            stays, before = every.slice(at, batch.height), verdict.alive[index]
            verdict.alive[index] = stays if before is None else before & stays
            at += batch.height
        verdict.rows_suppressed += len(rows)
        return len(rows)

    def _spread(self, verdict: Verdict, censuses: Mapping[str | None, Census]) -> list[Failing]:
        """Measure how values are spread; the classes that miss a bound, once for each field."""
        found = {limit: spreading.whole(self._alive(verdict.alive), limit) for limit in self.places.spread}
        wholes = {limit: of for limit, of in found.items() if of is not None}
        measured = [
            (grouping, self._spread_of(grouping, verdict, wholes, censuses[grouping]))
            for grouping in self.places.groupings
            if wholes
        ]
        failing = [
            Failing(grouping, spreading.missing(tables[limit], limit))
            for grouping, tables in measured
            for limit in wholes
        ]
        verdict.spread = {
            limit.field: spreading.worst([tables[limit] for _, tables in measured], limit) for limit in wholes
        }
        if not verdict.first_spread:
            verdict.first_spread = dict(verdict.spread)
            verdict.failing += sum(len(missed.classes) for missed in failing)
        return failing

    def _spread_of(
        self, grouping: str | None, verdict: Verdict, wholes: Mapping[Limit, pl.DataFrame], census: Census
    ) -> dict[Limit, pl.DataFrame]:
        """Of the classes that are left: from pairs that were counted with them, unless those were too many."""
        if (pairs := census.pairs) is None:
            classes = partial(self._classes, grouping, verdict.alive)
            return spreading.by_class(classes, wholes, budget=self.budget)
        left = census.kept.select("class")
        return {
            limit: spreading.figures(pairs.take(limit.column).join(left, on="class", how="semi"), limit, of)
            for limit, of in wholes.items()
        }

    def _census(self, grouping: str | None, verdict: Verdict) -> Census:
        """Classes of one grouping. Sliced finer each time the budget is exceeded."""
        if self.exact:
            return self._exactly(grouping, verdict)
        slices = 1
        while True:
            try:
                return self._counted(grouping, verdict.alive, slices)
            except TooManyOpenError:
                slices *= 4

    def _counted(self, grouping: str | None, alive: list[pl.Series | None], slices: int) -> Census:
        census = self._new_census()
        for index in range(slices):
            tallies = {column: Tally(bound, self.budget) for column, bound in (("n", self.k), *census.least.items())}
            for rows in self._persons(grouping, alive, census):
                for piece in rows.iter_slices(SLICE):
                    mine = piece.filter(pl.col("class") % slices == index) if slices > 1 else piece
                    for column, tally in tallies.items():
                        item = self.places.entity if column == "n" else column
                        tally.add(mine.select("class", item=pl.col(item)))
            census.take({column: tally.counts(column) for column, tally in tallies.items()})
        return census

    def _exactly(self, grouping: str | None, verdict: Verdict) -> Census:
        """The same, counted to the end."""
        census = self._new_census()
        items = {"n": self.places.entity, **{column: column for column in census.least}}
        rows = verdict.rows_in - verdict.rows_suppressed
        persons = partial(self._persons, grouping, verdict.alive, census)
        census.take(counted_exactly(persons, items, rows, self.budget))
        return census

    def _new_census(self) -> Census:
        least = {column: self.l[name] for name, column in self.places.values}
        return Census(self.k, least, units=self.budget // 2, spread=[limit.column for limit in self.places.spread])

    def _classes(self, grouping: str | None, alive: list[pl.Series | None]) -> Iterator[pl.DataFrame]:
        """The rows still alive, each with its class; for a unit, all rows of a unit in one frame."""
        if grouping is None:
            for batch in self._alive(alive):
                yield batch.with_columns(pl.col(self.places.row).alias("class"))
            return
        for joined in self._joined(grouping, alive):
            yield joined.rows

    def _persons(self, grouping: str | None, alive: list[pl.Series | None], census: Census) -> Iterator[pl.DataFrame]:
        """The same as far as counting needs it: of persons who are the units, each once. The census sees all rows,
        and what units there are."""
        if grouping is None:
            for rows in self._classes(grouping, alive):
                census.see(rows)
                yield rows
        else:
            once = grouping == self.places.entity and not self.places.values
            for joined in self._joined(grouping, alive):
                census.units.add(joined.units)
                if self.places.spread:
                    census.see(joined.rows)
                yield joined.units if once else joined.rows
        census.all_seen()

    def _joined(self, grouping: str, alive: list[pl.Series | None]) -> Iterator[Joined]:
        heights = (batch.height for batch in self.batches())
        rows = sum(n if mask is None else int(mask.sum()) for n, mask in zip(heights, alive, strict=True))
        slices = max(1, -(-rows // self.budget))
        for index in range(slices):
            mine = (pl.col(grouping).fill_null(0) % slices == index) if slices > 1 else None
            frames = [batch.filter(mine) if mine is not None else batch for batch in self._alive(alive)]
            if frames:
                yield Joined(pl.concat(frames, rechunk=True), self.places.row, grouping)

    def _alive(self, alive: list[pl.Series | None]) -> Iterator[pl.DataFrame]:
        for batch, mask in zip(self.batches(), alive, strict=True):
            yield batch if mask is None else batch.filter(mask)

    def _suppress(self, failing: Failing, seen: list[pl.Series | None], alive: list[pl.Series | None]) -> int:
        """Mark the rows of classes that fail among those seen as not to leave; how many more there are now."""
        grouping, classes, known = failing
        units = None if known is None else known.of(classes)
        if grouping is not None and units is None:
            units = units_of(classes, (joined.units for joined in self._joined(grouping, seen)))
        more = 0
        for index, batch in enumerate(self.batches()):
            row = batch[self.places.row].is_in(classes.implode())
            if grouping is None or units is None:
                goes = row
            else:  # a null pseudonym joins nothing: such a row stands for itself
                unit = batch[grouping]
                goes = unit.is_in(units.implode()).fill_null(False) | (unit.is_null() & row)
            before = alive[index]
            after = ~goes if before is None else before & ~goes
            more += (batch.height if before is None else int(before.sum())) - int(after.sum())
            alive[index] = after
        return more


def bounds(plan: Plan, places: Layout, verdict: Verdict, opening: bytes, *, loss: float | None) -> Bounds:
    """What the receipt says of a verdict, its certificate with that loss included. `opening` are the bytes that
    open the commitment to the class counts: an auditor who is shown them hashes them, then compares."""
    return Bounds(
        entity=plan.entity or "",
        quasi_identifiers=plan.quasi_identifiers,
        composite=bool(places.units),
        k_required=plan.k or 0,
        k_met=verdict.met("n"),
        l_required=dict(plan.sensitive),
        l_met={name: verdict.met(column) for name, column in places.values},
        at_least=not verdict.exact,
        classes=verdict.classes,
        class_commitment="sha256:" + hashlib.sha256(opening).hexdigest(),
        certificate=certificate(plan, verdict, loss=loss),
    )


def certificate(plan: Plan, verdict: Verdict, *, loss: float | None = None) -> Certificate:
    """The judgement of a verdict's effectiveness."""
    return effectiveness.judged(
        plan,
        verdict.tables,
        rows_in=verdict.rows_in,
        suppressed=verdict.rows_suppressed,
        exact=verdict.exact,
        spread=verdict.spread,
        loss=loss,
    )


def opening(verdict: Verdict, salt: bytes) -> bytes:
    """The bytes behind the commitment: the salt; then per grouping the number of classes (8 bytes), the
    classes in rising order (8 bytes each) and their entities (4 bytes each), all little-endian."""
    parts = [salt]
    for table in verdict.tables:
        ordered = table.sort("class")
        parts.append(ordered.height.to_bytes(8, "little"))
        for column, width in (("class", 8), ("n", 4)):
            values = ordered[column].rechunk().to_arrow()
            parts.append(values.buffers()[1].slice(values.offset * width, len(values) * width).to_pybytes())
    return b"".join(parts)

"""What a recipient would gain from a release beside those it has: by subtracting them, and by joining them.

    gains = Gains(digests, earlier, release_id, batches, ...)
    goes = gains.withheld(alive)                  rows that may not leave, given which are left
    record = gains.remember(alive, folder)

**Subtracting.** Within a class, rows are told apart by which releases had them. Those of one such pattern, and of
those the ones that the new release has and the ones it no longer has, are what differences, intersections and sums
of any number of releases consist of. So each must be of no person or of k: rows of fewer newcomers wait until k have
gathered, and where fewer than k left a pattern, the rest of it stays away too.

**Joining.** By pseudonyms (`histories`), and with releases of other quasi-identifiers (`cells`).

A release that is the copy of an earlier one is in a pattern wherever that one is, so it adds nothing and is not looked
at further. Only digests are compared, in memory, some classes at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from connectors.sent import cells, histories, records
from connectors.sent.beside import AT, Alive, Batches, Beside, same
from connectors.sent.cells import COMMON
from connectors.sent.digests import CLASS, ENTITY, KEY, SentDigests
from connectors.sent.records import GROUP, ROWS, Groups, Sent, SentRecord
from contracts.errors import Reason, SluicegateError
from contracts.instants import rfc3339

BUDGET = 8_000_000  # entries held at once, of rows
MOST_PAIRS = 50_000_000  # of classes that persons had in two releases


@dataclass(frozen=True, slots=True)
class Earlier:
    """What a recipient got before: the files' folder and the records, by definition. `until` is when the release
    in the making is to be gone, `now` when it is made (epoch seconds), `key` the digests' key."""

    folder: Path
    records: Callable[[], Mapping[str, SentRecord]] = field(repr=False)
    now: int
    until: int
    key: str = field(repr=False)


@dataclass(slots=True)
class Gains:
    """The comparison of one release with those before. Raises REFRESH_PENDING where it cannot be made: the earlier
    ones were digested under another master key, or told persons apart by another field, or there are too many."""

    digests: SentDigests
    earlier: Earlier
    release: str
    batches: Batches = field(repr=False)
    k: int
    rows: int
    budget: int = BUDGET
    classes: int = 0
    persons: int = 0
    compared: frozenset[str] = field(init=False)
    beside: Beside = field(init=False)
    _others: tuple[tuple[SentRecord, tuple[Sent, ...]], ...] = field(init=False)
    _made_again: bool = field(init=False)
    _serial: int = field(init=False)
    _sides_of: dict[str, tuple[Alive, histories.Sides]] = field(init=False, default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        every = self.earlier.records()
        self.compared = frozenset(record.release for record in every.values())
        sent_ever = [one for record in every.values() for one in record.sent]
        # Made again after a restart, it is compared with what it was compared with then: others came after it.
        own = next((one for one in sent_ever if one.release == self.release), None)
        self._made_again = own is not None
        self._serial = own.serial if own else 1 + max((one.serial for one in sent_ever), default=0)
        now = own.made if own else self.earlier.now

        definition, entity = self.digests.definition, self.digests.plan.entity

        def live(record: SentRecord) -> tuple[Sent, ...]:
            before = (one for one in record.sent if one.serial < max(self._serial, 1))
            found = tuple(one for one in before if one.until > now and one.release != self.release)
            if found and record.probe != self.digests.probe:
                raise _incomparable("were remembered under another master key", found)
            # One definition has one such field. Of another, it is not known where it was not kept.
            if found and record.definition != definition and record.entity != entity:
                raise _incomparable("told persons apart by another field", found)
            return found

        record = every.get(definition)
        self.beside = Beside(
            self.digests,
            self.earlier.folder,
            record,
            live(record) if record else (),
            self.batches,
            self.rows,
            self.budget,
        )
        others = ((record, live(record)) for name, record in every.items() if name != definition)
        self._others = tuple((record, sent) for record, sent in others if sent)
        if not self._made_again:
            records.free_bit(self.beside.sent)
            if len(self._others) >= records.MOST_DEFINITIONS:
                sent = [one for _, many in self._others for one in many]
                raise records.full(f"{len(self._others)} other selections of fields were sent", sent)

    @property
    def figures(self) -> dict[str, str]:
        """What differences would have isolated, for the department; nothing where they isolate nobody."""
        if not self.persons:
            return {}
        every = (*self.beside.sent, *(one for _, many in self._others for one in many))
        return {
            "earlier_releases": ", ".join(sent.release for sent in every),
            "difference_classes": str(self.classes),
            "difference_persons": str(self.persons),
        }

    def trimmed(self, alive: Alive) -> pl.Series | None:
        """Rows in which a person would be with too few of its history, where without them it would be as before."""
        return self._told(self._joined(alive, trim=True)) if self.beside.sent else None

    def withheld(self, alive: Alive) -> pl.Series | None:
        """Rows that would stand with too few others. After them others may have to stay: ask again."""
        if not self.beside.sent and not self._others:
            return None
        return self._told([*self._patterns(alive), *self._joined(alive), *self._cells(alive)])

    def _told(self, found: Iterable[pl.DataFrame]) -> pl.Series | None:
        """The places of those rows. `classes` and `persons` count whom the first of them are about."""
        frames = [frame.select(AT, CLASS, ENTITY) for frame in found if frame.height]
        if not frames:
            return None
        rows = pl.concat(frames)
        if not self.persons:
            self.classes, self.persons = rows[CLASS].n_unique(), rows[ENTITY].n_unique()
        return rows[AT].unique()

    def remember(self, alive: Alive, folder: Path) -> SentRecord | None:
        """Write what leaves, beside what left before, into a new folder; the record of it. None where this very
        release is remembered already. Raises REFRESH_PENDING where it would be more than is remembered."""
        if self._made_again:
            return None
        rows, total = self.beside.sum(alive)
        mine = Sent(
            release=self.release,
            made=self.earlier.now,
            until=self.earlier.until,
            bit=records.free_bit(self.beside.sent),
            k=self.k,
            agreement=self.digests.plan.agreement_digest,
            rows=rows,
            total=total,
            serial=self._serial,
        )
        before = self.beside.record.units if self.beside.record and self.beside.sent else ()
        record = SentRecord(
            definition=self.digests.definition,
            probe=self.digests.probe,
            release=self.release,
            sent=(*self.beside.sent, mine),
            fields=tuple(self.digests.fields),
            units=tuple(dict.fromkeys((*before, *(name for name, of in self.digests.units.items() if of != ENTITY)))),
            entity=self.digests.plan.entity or "",
        )
        folder.mkdir(mode=0o700)
        copied = self._copied(alive, joined=True)
        for name in (ROWS, *record.units):
            groups, file = Groups(record, mine), records.file(record, name)
            if copied is not None:
                old = self.beside.of(name, self.beside.sent)
                records.again(folder, old, groups.copied(old, copied))
                continue
            entries = self._rows_union(alive, groups) if name == ROWS else self._unit_union(alive, name, groups)
            count = records.write(folder, file, entries, groups)
            if count > records.MOST_ENTRIES:
                raise records.full(f"{count} entries would be remembered", record.sent)
        return record

    # Subtracting.

    def _patterns(self, alive: Alive) -> Iterator[pl.DataFrame]:
        """Rows that stand with too few others in some difference."""
        if not self.beside.sent or self._copied(alive):
            return
        old = self.beside.of(ROWS, self.beside.sent)
        # What had been of k persons is so still where nobody left: only what changed is counted.
        more = any(self.k > one.k for one in self.beside.sent)
        for index in range(self.beside.slices):
            split = self.beside.split(alive, index)
            lone = split.came.group_by(CLASS).agg(_persons("here")).filter(pl.col("here") < self.k)
            yield split.came.join(lone, on=CLASS, how="semi")
            left = split.gone.group_by(GROUP).agg(_persons("gone"))
            here = split.here if more else old.among(split.here, left[GROUP])
            stay = here.group_by(GROUP).agg(_persons("here")).join(left, on=GROUP, how="left").fill_null(0)
            few = stay.filter((pl.col("here") < self.k) | pl.col("gone").is_between(1, self.k - 1))
            if few.height:
                keys = old.among(here, few[GROUP])[KEY]
                yield split.rows.filter(pl.col(KEY).is_in(keys.implode()))

    def _copied(self, alive: Alive, *, joined: bool = False) -> Sent | None:
        """The earlier release that has the very same rows, and to be `joined` the same pseudonyms, if there is one."""
        if not self.beside.sent or self.beside.slices > 1:
            return None
        rows, agreement = self.beside.sum(alive), self.digests.plan.agreement_digest
        alike = (one for one in self.beside.sent if (one.rows, one.total) == rows and one.k >= self.k)
        return next((one for one in alike if not joined or one.agreement == agreement), None)

    # Joining.

    def _joined(self, alive: Alive, *, trim: bool = False) -> Iterator[pl.DataFrame]:
        """Rows that a pseudonym joins to a history of too few; to `trim`, those of them that would be new in it."""
        if not self.beside.sent or not self.digests.units or self._copied(alive, joined=True):
            return
        for name, column in self.digests.units.items():

            def sides(name: str = name, column: str = column) -> Iterator[histories.Sides]:
                return (self._sides(alive, name, column, index) for index in range(self.beside.slices))

            few = histories.few(sides, self.k, single=column == ENTITY, trim=trim)
            for index, keys in enumerate(few):
                rows = self.beside.of_unit(alive, column, index)
                yield histories.rows_of(rows, keys, self.beside.old_unit(name, index), trim=trim)

    def _sides(self, alive: Alive, name: str, column: str, index: int) -> histories.Sides:
        """The pseudonyms that are left and those that are not; the same while no row is suppressed."""
        held, single = self._sides_of.get(name), column == ENTITY
        if held is not None and same(held[0], alive):
            return held[1]
        rows, old = self.beside.of_unit(alive, column, index), self.beside.old_unit(name, index)
        if held is None:
            sides = histories.sides(rows, old, single=single)
        else:
            before, left = self.beside.of_unit(held[0], column, index), self.beside.left(alive)
            changed = before.filter(~left.gather(before[AT])).select(KEY).unique()
            sides = histories.without(held[1], rows, old, changed, single=single)
        if self.beside.slices == 1:
            self._sides_of[name] = (list(alive), sides)
        return sides

    def _cells(self, alive: Alive) -> Iterator[pl.DataFrame]:
        """Rows that stand with too few others once they are joined to releases of other quasi-identifiers."""
        if not self._others or self._copied(alive, joined=True):
            return
        for record, sent in self._others:
            yield from self._beside(alive, record, sent)

    def _beside(self, alive: Alive, record: SentRecord, sent: tuple[Sent, ...]) -> Iterator[pl.DataFrame]:
        theirs = records.kept(self.earlier.folder, ROWS, record, sent)
        fields = [] if self._share_units(record, sent) else self.digests.comparable(record.fields)
        by_field = self.beside.by_field(alive)
        mine = by_field.select(CLASS, _common(mine for mine, _ in fields))
        common = theirs.groups.with_columns(_common(other for _, other in fields))[COMMON]
        classes_of = theirs.groups.select(CLASS).with_columns(common)
        slices = self.beside.slices if fields else 1
        for index in range(slices):
            classes = mine.filter(pl.col(COMMON) % slices == index)
            rows, _ = self.beside.new(alive, lambda batch: batch.join(classes, on=CLASS))  # noqa: B023 - called at once
            old = theirs.persons(theirs.entries(common % slices == index)).join(classes_of.unique(CLASS), on=CLASS)
            found = cells.few(self.beside.with_own(rows, classes[CLASS]), old, self.k, most=MOST_PAIRS)
            if found is None:
                raise records.full("an earlier selection of fields has too little in common with this one", sent)
            yield found

    def _share_units(self, record: SentRecord, sent: tuple[Sent, ...]) -> bool:
        """Whether pseudonyms join these releases to the new one: then rows need nothing else in common."""
        under = self.digests.plan.agreement_digest in {one.agreement for one in sent}
        kept = self.digests.outlives and not set(self.digests.units).isdisjoint(record.units)
        return bool(self.digests.units) and (under or kept)

    # What is written.

    def _rows_union(self, alive: Alive, groups: Groups) -> Iterator[pl.DataFrame]:
        for index in range(self.beside.slices):
            split = self.beside.split(alive, index)
            yield from groups.split(
                split.here, split.gone, self.beside.of(ROWS, self.beside.sent) if self.beside.sent else None
            )
            yield from groups.new(split.came, self.beside.by_field(alive))

    def _unit_union(self, alive: Alive, name: str, groups: Groups) -> Iterator[pl.DataFrame]:
        """The distinct classes and persons of every pseudonym, which is the key."""
        column, on = self.digests.units.get(name), [KEY, ENTITY, CLASS]
        new = pl.DataFrame(schema=dict.fromkeys(on, pl.UInt64))
        if column is not None:
            batches = self.beside.numbered((CLASS, ENTITY, column), alive)
            found = (
                batch.select(pl.col(column).alias(KEY), ENTITY, CLASS).drop_nulls(KEY).unique() for batch in batches
            )
            new = pl.concat([new, *found]).unique()
        if self.beside.record is not None and self.beside.sent and name in self.beside.record.units:
            old = self.beside.of(name, self.beside.sent)
            entries = old.entries()
            entries = entries.with_columns(old.groups[CLASS].gather(entries[GROUP]).alias(CLASS))
            yield from groups.split(entries.join(new, on=on, how="semi"), entries.join(new, on=on, how="anti"), old)
            new = new.join(entries, on=on, how="anti")
        yield from groups.new(new)


def _incomparable(why: str, sent: Iterable[Sent]) -> SluicegateError:
    """REFRESH_PENDING until the last of these releases is to be gone."""
    until = rfc3339(max(one.until for one in sent))
    message = f"earlier releases {why}; another one is made after {until}"
    return SluicegateError(Reason.REFRESH_PENDING, message, metadata={"until": until})


def _persons(name: str) -> pl.Expr:
    return pl.col(ENTITY).n_unique().alias(name)


def _common(fields: Iterable[int]) -> pl.Expr:
    """The tuple of these fields' digests; the same for every class where there are none."""
    each = [pl.col(str(place)).alias(str(index)) for index, place in enumerate(fields)]
    return (pl.struct(each).hash(3) if each else pl.lit(0, dtype=pl.UInt64)).alias(COMMON)

"""A release in the making, as digests, beside what its recipient was sent under the same definition.

All of it is in memory, some classes at a time: about `budget` entries of each side. A portion that is all is held.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from connectors.measures.tally import repeated
from connectors.sent import histories, records
from connectors.sent.cells import OWN
from connectors.sent.digests import CLASS, ENTITY, KEY, SentDigests
from connectors.sent.records import GROUP, ROWS, Kept, Sent, SentRecord

Batches = Callable[[Sequence[str]], Iterable[pl.DataFrame]]
Alive = Sequence[pl.Series | None]

AT = "#at"
_COPY = 0x9E37_79B9_7F4A_7C15


@dataclass(frozen=True, slots=True)
class Split:
    """Some classes of a release beside what was sent: its rows, which of them are new, and of the old entries those
    that it has and those that it has no longer."""

    rows: pl.DataFrame
    came: pl.DataFrame
    here: pl.DataFrame
    gone: pl.DataFrame
    copies: bool

    def without(self, left: pl.Series) -> Split:
        """What remains of it when some rows are left; there are no copies, which would be numbered anew."""
        stays = left.gather(self.rows[AT])
        goes = self.here[KEY].is_in(self.rows[KEY].filter(~stays).implode())
        return Split(
            self.rows.filter(stays),
            self.came.filter(left.gather(self.came[AT])),
            self.here.filter(~goes),
            pl.concat([self.gone, self.here.filter(goes)]),
            copies=False,
        )


@dataclass(slots=True)
class Beside:
    """The rows of a release (`batches` of digests), and what of the `record` its recipient still has (`sent`)."""

    digests: SentDigests
    folder: Path
    record: SentRecord | None
    sent: tuple[Sent, ...]
    batches: Batches = field(repr=False)
    rows: int
    budget: int
    _kept: dict[tuple[str, ...], Kept] = field(init=False, default_factory=dict, repr=False)
    _held: tuple[Alive, Split] | None = field(init=False, default=None, repr=False)
    _whole: tuple[Alive, pl.DataFrame, bool] | None = field(init=False, default=None, repr=False)
    _sum: tuple[Alive, tuple[int, int]] | None = field(init=False, default=None, repr=False)
    _fields: pl.DataFrame | None = field(init=False, default=None, repr=False)

    @property
    def slices(self) -> int:
        """In how many portions classes are compared."""
        held = self.of(ROWS, self.sent).height if self.sent else 0
        return max(1, -(-max(held, self.rows) // self.budget))

    def of(self, name: str, sent: tuple[Sent, ...]) -> Kept:
        """What one file of the record, which there is, has of some releases."""
        if self.record is None:
            raise ValueError("nothing was sent before")
        at = (name, *(one.release for one in sent))
        if at not in self._kept:
            self._kept[at] = records.kept(self.folder, records.file(self.record, name), self.record, sent)
        return self._kept[at]

    def split(self, alive: Alive, index: int) -> Split:
        """Some classes of the rows that are left, beside what was sent. The last ones, if all, are held: rows only
        become fewer."""
        if self._held is not None:
            before, split = self._held
            if not same(before, alive):
                split = split.without(self.left(alive)) if not split.copies else self.anew(alive, 0)
                self._held, self._whole = (list(alive), split), (list(alive), split.rows, split.copies)
            return split
        split = self.anew(alive, index)
        if self.slices == 1:
            self._held = (list(alive), split)
        return split

    def anew(self, alive: Alive, index: int) -> Split:
        """The same, from the rows."""
        slices = self.slices
        if slices == 1:
            rows, copies = self.whole(alive)
        else:
            rows, copies = self.new(alive, lambda batch: batch.filter(pl.col(CLASS) % slices == index))
        if self.sent:
            old = self.of(ROWS, self.sent)
            entries = old.entries(old.groups[CLASS] % slices == index if slices > 1 else None)
            stays = entries[KEY].is_in(rows[KEY].implode())
            came = rows.filter(~pl.col(KEY).is_in(entries[KEY].implode()))
            return Split(rows, came, entries.filter(stays), entries.filter(~stays), copies)
        nothing = pl.DataFrame(schema=records.ENTRY)
        return Split(rows, rows, nothing, nothing, copies)

    def whole(self, alive: Alive) -> tuple[pl.DataFrame, bool]:
        """`new` of all classes, where one portion is all. Held until others are asked for."""
        if self._whole is None or not same(self._whole[0], alive):
            self._whole = (list(alive), *self.new(alive, pl.DataFrame.clone))
        return self._whole[1:]

    def sum(self, alive: Alive) -> tuple[int, int]:
        """How many rows are left, and the sum of their digests: other rows have another one. To tell it, they need
        not be compared one by one. (0, 0) where they are more than one portion."""
        if self.slices > 1:
            return 0, 0
        if self._sum is None or not same(self._sum[0], alive):
            self._sum = (list(alive), self._summed(alive))
        return self._sum[1]

    def _summed(self, alive: Alive) -> tuple[int, int]:
        # Copies have digests of their own, so what is the sum of an earlier release without looking for them has none.
        found = [(batch.height, int(batch[KEY].sum())) for batch in self.numbered((KEY,), alive)]
        plain = sum(rows for rows, _ in found), sum(total for _, total in found) % 2**64
        if plain in {(one.rows, one.total) for one in self.sent}:
            return plain
        rows, _ = self.whole(alive)
        return rows.height, int(rows[KEY].sum())

    def numbered(self, columns: Sequence[str], alive: Alive) -> Iterator[pl.DataFrame]:
        """The rows that are left, each with its place over all batches."""
        at = 0
        for batch, mask in zip(self.batches(columns), alive, strict=True):
            numbered = batch.with_row_index(AT, offset=at)
            at += batch.height
            yield numbered if mask is None else numbered.filter(mask)

    def new(self, alive: Alive, some: Callable[[pl.DataFrame], pl.DataFrame]) -> tuple[pl.DataFrame, bool]:
        """The rows of some classes; equal ones, if there are, are told apart by which copy they are."""
        rows = pl.concat(some(batch) for batch in self.numbered((CLASS, ENTITY, KEY), alive))
        again = repeated(rows[KEY])
        if again.is_empty():
            return rows, False
        twice = pl.col(KEY).is_in(again.implode())
        copy = pl.int_range(pl.len(), dtype=pl.UInt64).over(KEY) * pl.lit(_COPY, dtype=pl.UInt64)
        return pl.concat([rows.filter(~twice), rows.filter(twice).with_columns(pl.col(KEY) + copy)]), True

    def of_unit(self, alive: Alive, column: str, index: int) -> pl.DataFrame:
        """The rows of some pseudonyms, which are their keys."""
        columns = tuple(dict.fromkeys((CLASS, ENTITY, column)))
        frames = (
            batch.with_columns(pl.col(column).alias(KEY)).filter(pl.col(KEY) % self.slices == index)
            for batch in self.numbered(columns, alive)
        )
        return pl.concat(frames)

    def old_unit(self, name: str, index: int) -> histories.Old:
        """What some pseudonyms joined in earlier releases. A person's own is another under another agreement."""
        sent, single = self.sent, self.digests.units[name] == ENTITY
        if single:
            sent = tuple(one for one in sent if one.agreement == self.digests.plan.agreement_digest)
        if self.record is None or not sent or not (single or name in self.record.units):
            return histories.Old(pl.DataFrame(schema=records.ENTRY), pl.DataFrame(schema={CLASS: pl.UInt64}), [])
        old = self.of(ROWS if single else name, sent)
        entries = old.entries()
        if single:
            entries = entries.with_columns(pl.col(ENTITY).alias(KEY))
        if self.slices > 1:
            entries = entries.filter(pl.col(KEY) % self.slices == index)
        return histories.Old(entries, old.groups, old.bits)

    def by_field(self, alive: Alive) -> pl.DataFrame:
        """A digest of each quasi-identifier of each class. Classes only become fewer, so it is made once."""
        if self._fields is None:
            first = list[pl.DataFrame]()
            seen = pl.Series([], dtype=pl.UInt64)
            for batch in self.numbered((CLASS,), alive):
                few = batch[batch[CLASS].arg_unique()]
                first.append(few.filter(~few[CLASS].is_in(seen.implode())))
                seen = pl.concat([seen, first[-1][CLASS]])
            # Most classes are met at once, and values are what costs: the last batches are seldom read.
            last = max((index for index, new in enumerate(first) if new.height), default=0)
            whole = itertools.islice(self.numbered(self.digests.class_columns, alive), last + 1)
            found = [
                self.digests.by_field(batch.join(new, on=AT, how="semi"))
                for batch, new in zip(whole, first, strict=False)
            ]
            self._fields = pl.concat(found)
        return self._fields

    def with_own(self, rows: pl.DataFrame, classes: pl.Series) -> pl.DataFrame:
        """The rows with `OWN`."""
        if not self.sent:
            return rows.with_columns(pl.col(CLASS).alias(OWN))
        old = self.of(ROWS, self.sent)
        entries = old.entries(old.groups[CLASS].is_in(classes.implode()))
        labels = old.groups.select(pl.struct(CLASS, *old.bits).hash(1)).to_series()
        known = entries.select(KEY, labels.gather(entries[GROUP]).alias(OWN))
        return rows.join(known, on=KEY, how="left").with_columns(pl.coalesce(OWN, CLASS))

    def left(self, alive: Alive) -> pl.Series:
        """Which rows of all batches are left."""
        masks = zip(self.batches((CLASS,)), alive, strict=True)
        return pl.concat(pl.repeat(True, batch.height, eager=True) if mask is None else mask for batch, mask in masks)


def same(one: Alive, other: Alive) -> bool:
    """Whether the same rows are left."""
    return len(one) == len(other) and all(a is b for a, b in zip(one, other, strict=True))

"""Counting distinct items of classes, as far as a bound needs it and no further."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import polars as pl

SLICE = 262_144  # rows counted at once
ROWS = 4_000_000  # grouped at once


class TooManyOpenError(Exception):
    """More classes are undecided than the budget holds."""


def repeated(values: pl.Series) -> pl.Series:
    """Those values that come more than once, nulls aside. Sorting tells it, and is cheaper than grouping."""
    ordered = values.sort()
    again = ordered.slice(1) == ordered.slice(0, max(0, len(ordered) - 1))
    return ordered.slice(1).filter(again.fill_null(False)).unique()


def changes(values: pl.Series) -> pl.Series:
    """Where a value is another than the one before it; the first is."""
    return (values != values.shift(1)).fill_null(True)


def on_each(values: pl.Series, first: pl.Series) -> pl.Series:
    """One value a stretch, on all rows of it; `first` marks where a stretch begins."""
    return values.gather(first.cum_sum() - 1)


class Tally:
    """Distinct items of each class, counted up to `enough` and no further.

    A class that has enough is closed: its later rows cost one lookup. So memory is that of the classes
    that have not enough yet, and more of them than the budget raise.
    """

    def __init__(self, enough: int, budget: int) -> None:
        self._enough, self._budget = enough, budget
        self._closed: pl.DataFrame | None = None
        self._open: pl.DataFrame | None = None
        self._pending: list[pl.DataFrame] = []
        self._waiting = 0

    def add(self, rows: pl.DataFrame) -> None:
        """Take in (class, item) pairs; a null item counts nothing."""
        rows = rows.drop_nulls("item")
        if self._closed is not None and self._closed.height:
            rows = rows.join(self._closed, on="class", how="anti")
        self._pending.append(rows)
        self._waiting += rows.height
        if self._waiting >= max(SLICE // 2, self._open.height if self._open is not None else 0):
            self._settle()

    def counts(self, name: str) -> pl.DataFrame:
        """(class, count) of every class seen; closed ones have `enough`."""
        self._settle()
        counted = self._open.group_by("class").agg(pl.len().alias(name)) if self._open is not None else _none(name)
        if self._closed is None:
            return counted
        closed = self._closed.with_columns(pl.lit(self._enough, dtype=pl.UInt32).alias(name))
        return pl.concat([counted, closed])

    def _settle(self) -> None:
        if not self._pending:
            return
        frames = [frame for frame in ([self._open] if self._open is not None else []) + self._pending if frame.height]
        self._pending, self._waiting = [], 0
        if not frames:
            return
        merged = pl.concat(frames).unique()
        done = merged.group_by("class").len().filter(pl.col("len") >= self._enough).select("class")
        if done.height:
            merged = merged.join(done, on="class", how="anti")
            self._closed = done if self._closed is None else pl.concat([self._closed, done])
        self._open = merged
        if merged.height > self._budget:
            raise TooManyOpenError


def _none(name: str) -> pl.DataFrame:
    return pl.DataFrame(schema={"class": pl.UInt64, name: pl.UInt32})


def counted_exactly(
    classes: Callable[[], Iterable[pl.DataFrame]], items: Mapping[str, str], rows: int, budget: int
) -> dict[str, pl.DataFrame]:
    """Distinct items of every class, to the end: per name of `items`, whose values are columns, a table of
    (class, count). More `rows` than the budget are counted in slices of the items' hashes, since the items
    of one class alone may exceed it; an item is in one slice, so counts add up."""
    slices = max(1, -(-rows // budget))
    counts: dict[str, list[pl.DataFrame]] = {name: [] for name in items}
    for index in range(slices):
        pairs = {name: [pl.DataFrame(schema={"class": pl.UInt64, name: pl.UInt64})] for name in items}
        for frame in classes():
            for name, column in items.items():
                mine = frame.select("class", pl.col(column).alias(name))
                pairs[name].append(mine.filter(pl.col(name) % slices == index) if slices > 1 else mine)
        for name, frames in pairs.items():
            counts[name].append(pl.concat(frames).drop_nulls().group_by("class").agg(pl.col(name).n_unique()))
    if slices == 1:
        return {name: tables[0] for name, tables in counts.items()}
    return {name: pl.concat(tables).group_by("class").agg(pl.col(name).sum()) for name, tables in counts.items()}


class Pairs:
    """How many rows of each class have each value, column by column, as far as all pairs fit."""

    def __init__(self, columns: Iterable[str], most: int) -> None:
        self._columns, self._most = tuple(columns), most
        self._held: dict[str, pl.DataFrame] = {}
        self._pending: list[pl.DataFrame] = []
        self._waiting = 0

    def add(self, rows: pl.DataFrame) -> None:
        """Take in rows with their class. Raises TooManyOpenError beyond that many pairs of one column."""
        # Many at once: batch by batch nearly every pair would be new.
        self._pending.append(rows.select("class", *self._columns))
        self._waiting += rows.height
        if self._waiting >= ROWS:
            self.settle()

    def take(self, column: str) -> pl.DataFrame:
        """(class, value, rows) of a column, which are held no longer."""
        self.settle()
        return self._held.pop(column)

    def settle(self) -> None:
        """Count what was taken in and not yet counted. Raises as `add` does."""
        if not self._pending:
            return
        rows = pl.concat(self._pending)
        self._pending, self._waiting = [], 0
        for column in self._columns:
            # By two keys the streaming engine groups in half the time of the other.
            grouped = rows.lazy().group_by("class", value=pl.col(column)).len("rows")
            counted = grouped.collect(engine="streaming")
            held = self._held.get(column)
            self._held[column] = counted if held is None else summed([held, counted], ["class", "value"])
            if self._held[column].height > self._most:
                raise TooManyOpenError


def summed(tables: Iterable[pl.DataFrame], keys: list[str]) -> pl.DataFrame:
    """The `rows` of tables of counts, added up by these keys."""
    return pl.concat(tables).group_by(keys).agg(pl.col("rows").sum())


class Units:
    """The class of every unit of a grouping, kept as long as there are few. To be told of a unit again does no harm."""

    def __init__(self, most: int) -> None:
        self._most, self._tables = most, list[pl.DataFrame]()
        self._many = False

    def add(self, units: pl.DataFrame) -> None:
        """Take in a table of unit and class."""
        self._many = self._many or sum(table.height for table in (*self._tables, units)) > self._most
        self._tables = [] if self._many else [*self._tables, units]

    def of(self, classes: pl.Series) -> pl.Series | None:
        """The units of these classes; None if there were too many to keep."""
        return None if self._many else units_of(classes, self._tables)


def units_of(classes: pl.Series, tables: Iterable[pl.DataFrame]) -> pl.Series:
    """The units of these classes in tables of unit and class, nulls aside."""
    found = [table.filter(pl.col("class").is_in(classes.implode())).to_series() for table in tables]
    return pl.concat(found).drop_nulls() if found else pl.Series([], dtype=pl.UInt64)


class Census:
    """Counts of all classes of one grouping: those that meet every bound, and those that do not."""

    def __init__(self, k: int, least: dict[str, int], *, units: int, spread: Sequence[str]) -> None:
        """`least`: hash column of a sensitive field -> its l. `units`: of how many to keep the class, and how many
        pairs of a class and a value of the columns of `spread`."""
        self.least = least
        self.units = Units(units)
        self.pairs = Pairs(spread, units) if spread else None
        self._all_seen = False
        self.alone = self.entities = 0  # entities that are alone in a class, and all, once for each class
        self.lowest = dict.fromkeys(("n", *least), 2**32 - 1)
        self._bounds = {"n": k, **least}
        self._kept: list[pl.DataFrame] = []
        self._failing: list[pl.Series] = []

    def see(self, rows: pl.DataFrame) -> None:
        """Count pairs of these rows too, in the first reading of all rows and while there are few."""
        self._counted(lambda pairs: pairs.add(rows))

    def all_seen(self) -> None:
        """All rows were read once."""
        self._counted(Pairs.settle)
        self._all_seen = True

    def _counted(self, how: Callable[[Pairs], None]) -> None:
        if self.pairs is None or self._all_seen:
            return
        try:
            how(self.pairs)
        except TooManyOpenError:
            self.pairs = None

    def take(self, counts: Mapping[str, pl.DataFrame]) -> None:
        """Add classes: per column a table of (class, count)."""
        table = counts["n"]
        for column in self.least:
            table = table.join(counts[column], on="class", how="left")
        table = table.with_columns(pl.col(column).fill_null(0) for column in self.least)
        if not table.height:
            return
        for column in self._bounds:
            self.lowest[column] = min(self.lowest[column], int(table[column].min()))  # type: ignore[arg-type]
        self.alone += int((table["n"] == 1).sum())
        self.entities += int(table["n"].sum())
        good = pl.all_horizontal(pl.col(column) >= bound for column, bound in self._bounds.items())
        self._kept.append(table.filter(good))
        self._failing.append(table.filter(~good)["class"])

    @property
    def kept(self) -> pl.DataFrame:
        """One row a class that meets every bound."""
        return pl.concat(self._kept) if self._kept else _none("n")

    @property
    def failing(self) -> pl.Series:
        """The classes that miss a bound."""
        return pl.concat(self._failing) if self._failing else pl.Series("class", [], pl.UInt64)

"""What a pseudonym joins over several releases: its history, the classes that it had in each of them.

Who was in one class then and is in another now may stand alone though both classes are large. So a history is a class
again: the persons of one history and one new class must be k, and so must those of it who are gone. Sets are told apart
by sums of their members' digests, as in `measures.composite`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import cast

import polars as pl

from connectors.measures.tally import repeated
from connectors.sent.digests import CLASS, ENTITY, KEY
from connectors.sent.records import GROUP

_LABEL, _HISTORY = "#label", "#history"


@dataclass(frozen=True, slots=True)
class Old:
    """What pseudonyms had in earlier releases: `entries` (`KEY`, `ENTITY`, `GROUP`), their groups, of `bits`."""

    entries: pl.DataFrame
    groups: pl.DataFrame
    bits: list[str]

    def of_class(self, entries: pl.DataFrame) -> pl.DataFrame:
        """The entries with their `CLASS`."""
        return entries.with_columns(self.groups[CLASS].gather(entries[GROUP]).alias(CLASS))

    def histories(self) -> pl.DataFrame:
        """The history of every pseudonym: the sum over its classes of a digest of the class and of the releases in
        which it had it, in whichever rows."""
        label = pl.struct(CLASS, *self.bits).hash(1).alias(_LABEL)
        each = self.groups.select(label).to_series().gather(self.entries[GROUP])
        if not _repeated(self.entries[KEY]):
            return self.entries.select(KEY, each.alias(_HISTORY))
        labelled = self.of_class(self.entries.select(KEY, GROUP)).with_columns(each.alias(_LABEL))
        found = labelled.group_by(KEY).agg(
            pl.col(_LABEL).unique().sum().alias(_HISTORY), pl.col(_LABEL).n_unique(), pl.col(CLASS).n_unique()
        )
        several = found.filter(pl.col(_LABEL) != pl.col(CLASS)).select(KEY)
        found = found.select(KEY, _HISTORY)
        if several.is_empty():
            return found
        # Of these, one class's rows are not all in the same releases.
        rows = labelled.select(KEY, GROUP, CLASS).join(several, on=KEY, how="semi")
        rows = rows.with_columns(self.groups[column].gather(rows[GROUP]).alias(column) for column in self.bits)
        classes = rows.group_by(KEY, CLASS).agg(pl.col(self.bits).bitwise_or())
        exact = classes.group_by(KEY).agg(label.sum().alias(_HISTORY))
        return pl.concat([found.join(several, on=KEY, how="anti"), exact])


@dataclass(frozen=True, slots=True)
class Sides:
    """Pseudonyms that a release has, each with its persons, history and classes; and those that it has no longer."""

    here: pl.DataFrame
    gone: pl.DataFrame


def sides(rows: pl.DataFrame, old: Old, *, single: bool) -> Sides:
    """Of rows (`KEY`, the pseudonym, `ENTITY` and `CLASS`) and old entries; all of a pseudonym must be here. `single`:
    it is the person's own."""
    classes = rows.select(KEY, CLASS)
    if _repeated(classes[KEY]):
        classes = classes.group_by(KEY).agg(pl.col(CLASS).unique().sum())
    history = old.histories()
    here = classes.join(history, on=KEY, how="left").with_columns(pl.col(_HISTORY).fill_null(0))
    gone = history.join(classes.select(KEY), on=KEY, how="anti")
    if single:
        return Sides(here, gone)
    return Sides(
        here.join(rows.select(KEY, ENTITY).unique(), on=KEY),
        gone.join(old.entries.select(KEY, ENTITY).unique(), on=KEY),
    )


def without(before: Sides, rows: pl.DataFrame, old: Old, changed: pl.DataFrame, *, single: bool) -> Sides:
    """The sides once rows of some pseudonyms, `changed`, are there no more: `rows` are what is left."""
    some = Old(old.entries.join(changed, on=KEY, how="semi"), old.groups, old.bits)
    now = sides(rows.join(changed, on=KEY, how="semi"), some, single=single)
    return Sides(
        pl.concat([before.here.join(changed, on=KEY, how="anti"), now.here]), pl.concat([before.gone, now.gone])
    )


def few(sides: Callable[[], Iterable[Sides]], k: int, *, single: bool, trim: bool) -> Iterator[pl.DataFrame]:
    """The pseudonyms, `KEY`, that stand with too few persons, portion by portion; to `trim`, without those whose like
    are gone. A person's own pseudonym is in one portion, so that what is held of it is counts."""
    persons = pl.col("persons").sum() if single else pl.col(ENTITY).n_unique().alias("persons")

    def tally(frame: pl.DataFrame, by: list[str]) -> pl.DataFrame:
        return frame.group_by(by).agg(pl.len().alias("persons")) if single else frame.select(*by, ENTITY).unique()

    by = [_HISTORY, CLASS]
    here, gone = [], []
    for side in sides():
        here.append(tally(side.here, by))
        gone.append(tally(side.gone, [_HISTORY]))
    bad = pl.concat(here).group_by(by).agg(persons)
    if trim:
        bad = bad.filter(pl.col("persons") < k)
    else:
        left = pl.concat(gone).group_by(_HISTORY).agg(persons).rename({"persons": "gone"})
        lone = (pl.col("persons") < k) | ((pl.col(_HISTORY) != 0) & pl.col("gone").is_between(1, k - 1))
        bad = bad.join(left, on=_HISTORY, how="left").with_columns(pl.col("gone").fill_null(0)).filter(lone)
    for side in sides() if bad.height else ():
        yield side.here.join(bad, on=by, how="semi").select(KEY).unique()


def rows_of(rows: pl.DataFrame, keys: pl.DataFrame, old: Old, *, trim: bool) -> pl.DataFrame:
    """The rows of those pseudonyms; to `trim`, those in a class that the pseudonym, which stays, never had."""
    found = rows.join(keys, on=KEY, how="semi")
    if not trim:
        return found
    seen = old.of_class(old.entries.join(keys, on=KEY, how="semi")).select(KEY, CLASS).unique()
    seen = seen.with_columns(seen=pl.lit(True))
    known = pl.col("seen").fill_null(False)
    return found.join(seen, on=[KEY, CLASS], how="left").filter(~known & known.any().over(KEY)).drop("seen")


def _repeated(values: pl.Series) -> bool:
    """Whether some value comes more than once: sets of one member need no gathering."""
    if cast(int, values.approx_n_unique()) * 2 < len(values):
        return True
    return not repeated(values).is_empty()

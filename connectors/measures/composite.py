"""Composite classes: what one pseudonym joins is the whole set of its tuples, as one hash.

A set's hash is the sum of its tuples' hashes; of one tuple, the tuple's own. Grouping by a pseudonym and joining
the sets back costs three times what sorting does, after which a pseudonym's rows lie together and its tuples are
counted once by looking at neighbours.
"""

from __future__ import annotations

from functools import cached_property

import polars as pl

from connectors.measures.tally import changes, on_each, repeated

SOME = 65_536  # rows that are looked at first for whether a unit has more than one
_LOW = 2**24 - 1  # of a sorted key: bits of the tuple below those of the unit


class Joined:
    """Rows whose unit may have more of them. `row` names the column of tuples' hashes, `unit` that of pseudonyms'
    hashes; all rows of a unit must be here. A null pseudonym joins nothing: such a row stands for itself."""

    def __init__(self, rows: pl.DataFrame, row: str, unit: str) -> None:
        self._unit = unit
        self._together, self._apart = _parted(rows, row, unit)
        self._first = changes(self._together[unit])
        self._sets = _sets(self._together, row, self._first)

    @cached_property
    def rows(self) -> pl.DataFrame:
        """The rows with their `class`, in any order."""
        return pl.concat([self._together.with_columns(on_each(self._sets, self._first)), self._apart])

    @cached_property
    def units(self) -> pl.DataFrame:
        """The `class` of every unit, once: a table of unit and class. Rows without a pseudonym are one each."""
        units = pl.DataFrame([self._together[self._unit].filter(self._first), self._sets])
        return pl.concat([units, self._apart.select(self._unit, "class")])


def _parted(rows: pl.DataFrame, row: str, unit: str) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Those rows whose unit may have more, so that a unit's lie together and in them those of a tuple; and all others
    with their class, which is their tuple."""
    if not any(len(repeated(some)) for some in (rows[unit].head(SOME), rows[unit])):
        return rows.clear(), rows.with_columns(pl.col(row).alias("class"))
    single = rows.filter(pl.col(unit).is_null()).with_columns(pl.col(row).alias("class"))
    return _together(rows.drop_nulls(unit) if single.height else rows, row, unit), single


def _together(rows: pl.DataFrame, row: str, unit: str) -> pl.DataFrame:
    """Sorted by the high bits of the unit and the low bits of the tuple, which costs half of sorting by both; the few
    units that share those bits, and tuples of one unit, are then sorted by both."""
    high, low = pl.lit(2**64 - 1 - _LOW, dtype=pl.UInt64), pl.lit(_LOW, dtype=pl.UInt64)
    units, tuples = pl.col(unit), pl.col(row)
    ordered = rows.sort((units & high) | (tuples & low))
    other_unit, other_tuple = units != units.shift(1), tuples != tuples.shift(1)
    close = ((units ^ units.shift(1)) & high) == 0
    alike = ((tuples ^ tuples.shift(1)) & low) == 0
    confused = ordered.filter(close & (other_unit | (alike & other_tuple))).select((units & high).unique()).to_series()
    if confused.is_empty():
        return ordered
    places = ordered.select((units & high).is_in(confused.implode()).arg_true()).to_series()
    exact = ordered[places].sort(unit, row)
    return pl.DataFrame([column.scatter(places, exact[column.name]) for column in ordered.iter_columns()])


def _sets(together: pl.DataFrame, row: str, first: pl.Series) -> pl.Series:
    """The class of each unit, in their order; `first` marks where a unit begins. Sums wrap around."""
    counts = first | changes(together[row])
    tuples = together.select(pl.when(counts).then(pl.col(row)).otherwise(0)).to_series()
    reached = tuples.cum_sum().filter(first.shift(-1, fill_value=True))
    return (reached - reached.shift(1, fill_value=0)).alias("class")

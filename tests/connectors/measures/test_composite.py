"""Classes of what a pseudonym joins: against sets of Python, hashes close to each other included."""

from __future__ import annotations

from collections import defaultdict

import polars as pl
from hypothesis import example, given
from hypothesis import strategies as st

from connectors.measures.composite import SOME, Joined

MOST = 2**64
# Hashes that share their high bits, their low bits, or all but one: sorting by some of them confuses these.
CLOSE = st.sampled_from([high << 40 | low for high in (0, 1, 2**24 - 1) for low in (0, 1, 2**24, 2**24 + 1, 2**40 - 1)])
Pairs = list[tuple[int | None, int]]
PAIRS = st.lists(st.tuples(st.none() | CLOSE, CLOSE), max_size=60)


def _rows(pairs: Pairs) -> pl.DataFrame:
    schema = {"unit": pl.UInt64, "row": pl.UInt64, "at": pl.Int64}
    return pl.DataFrame([(*pair, at) for at, pair in enumerate(pairs)], schema=schema, orient="row")


def _classes(pairs: Pairs) -> list[int]:
    sets = defaultdict[int | None, set[int]](set)
    for unit, row in pairs:
        sets[unit].add(row)
    return [row if unit is None else sum(sets[unit]) % MOST for unit, row in pairs]


@given(pairs=PAIRS)
@example(pairs=[(2**24, 1), (2**24 + 1, 2), (2**24, 3)])  # units that share their high bits, tuples in between
@example(pairs=[(5, 2**24), (5, 2**25), (5, 2**24)])  # tuples of one unit that share their low bits
@example(pairs=[(5, MOST - 1), (5, MOST - 2), (6, 1)])  # a sum that wraps around
def test_a_class_is_the_set_of_what_its_unit_joins(pairs: Pairs) -> None:
    found = Joined(_rows(pairs), "row", "unit").rows.sort("at")
    assert found["at"].to_list() == list(range(len(pairs)))
    assert found.select("unit", "row").rows() == pairs
    assert found["class"].to_list() == _classes(pairs)


@given(pairs=PAIRS)
@example(pairs=[(2**24, 1), (2**24 + 1, 2), (2**24, 3)])
def test_a_unit_is_told_once_and_rows_without_one_each(pairs: Pairs) -> None:
    found = Joined(_rows(pairs), "row", "unit").units
    whole = list(zip((unit for unit, _ in pairs), _classes(pairs), strict=True))
    expected = [*{pair for pair in whole if pair[0] is not None}, *(pair for pair in whole if pair[0] is None)]
    assert found.columns == ["unit", "class"]
    assert sorted(found.rows(), key=str) == sorted(expected, key=str)


def test_units_that_have_one_row_at_first_and_more_later_are_joined() -> None:
    """Whether any unit has more is looked for in some rows first."""
    many = SOME + 10
    pairs: Pairs = [(unit << 30, 7) for unit in range(many)] + [(0, 8)]
    found = Joined(_rows(pairs), "row", "unit").units.sort("unit")
    assert found["class"].to_list() == [15] + [7] * (many - 1)

"""How values are spread within classes: against the definitions, computed plainly over lists."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from fractions import Fraction
from typing import Any

import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from connectors.measures import spread
from connectors.measures.spread import Limit
from contracts.dtypes import DATE, INT64, STRING, timestamp
from contracts.errors import Reason, SluicegateError
from tests.connectors import plans

KEEP = {"mask": "keep"}
Pair = tuple[int, Any]

NUMBERS = st.none() | st.integers(-3, 3)
NAMES = st.none() | st.sampled_from("abcde")


def _plainly(rows: list[Pair], ordered: bool) -> dict[int, tuple[float, float | None, float]]:
    """Per class: variational distance, ordered distance, entropy. A null is a value, the first one."""
    every = [value for _, value in rows]
    places = sorted(set(every), key=lambda value: (value is not None, value))
    whole = Counter(every)
    found = {}
    for one in {group for group, _ in rows}:
        mine = Counter(value for group, value in rows if group == one)
        size = sum(mine.values())
        gaps = [Fraction(mine[value], size) - Fraction(whole[value], len(rows)) for value in places]
        carried = [sum(gaps[: index + 1], Fraction(0)) for index in range(len(places) - 1)]
        moved = float(sum(map(abs, carried), Fraction(0)) / (len(places) - 1)) if len(places) > 1 else 0.0
        shares = [count / (size - mine[None]) for value, count in mine.items() if value is not None]
        entropy = math.exp(-sum(share * math.log(share) for share in shares))
        found[one] = (float(sum(map(abs, gaps), Fraction(0)) / 2), moved if ordered else None, entropy)
    return found


def _frames(rows: list[Pair], size: int, dtype: Any) -> list[pl.DataFrame]:
    frame = pl.DataFrame(rows, schema={"class": pl.UInt64, "s": dtype}, orient="row")
    return [frame.slice(start, size) for start in range(0, len(rows), size)]


def _measured(frames: Iterable[pl.DataFrame], limit: Limit, budget: int) -> pl.DataFrame:
    frames = list(frames)
    of = spread.whole(frames, limit)
    assert of is not None
    return spread.by_class(lambda: frames, {limit: of}, budget=budget)[limit]


@pytest.mark.parametrize(("values", "dtype", "ordered"), [(NUMBERS, pl.Int64, True), (NAMES, pl.String, False)])
def test_it_is_what_the_definitions_say_however_it_is_sliced(values: Any, dtype: Any, ordered: bool) -> None:
    @settings(max_examples=150, deadline=None)
    @given(
        rows=st.lists(st.tuples(st.integers(0, 6), values), min_size=1, max_size=40),
        size=st.integers(1, 50),
        budget=st.sampled_from([1, 4, 1000]),
    )
    @example(rows=[(0, None), (1, None)], size=1, budget=1)
    def check(rows: list[Pair], size: int, budget: int) -> None:
        limit = Limit("s", "s", ordered, None, None)
        table = _measured(_frames(rows, size, dtype), limit, budget)
        expected = _plainly(rows, ordered)
        assert sorted(table["class"].to_list()) == sorted(expected)
        for row in table.iter_rows(named=True):
            variational, moved, entropy = expected[row["class"]]
            assert row["variational"] == pytest.approx(variational, abs=1e-12)
            assert row["ordered"] == (None if moved is None else pytest.approx(moved, abs=1e-12))
            assert row["entropy"] == pytest.approx(entropy)

    check()


def test_the_example_that_the_ordered_distance_was_made_for() -> None:
    """Salaries of 3 to 11 thousand in classes of three, after Li, Li and Venkatasubramanian (2007): one
    of the three lowest is at 0.375, one from all over at 0.167, and by names alone both are at 2/3."""
    near, across = [3, 4, 5], [6, 8, 11]
    rows = [(0, v * 1000) for v in near] + [(1, v * 1000) for v in across] + [(2, v * 1000) for v in (7, 9, 10)]
    table = _measured(_frames(rows, 4, pl.Int64), Limit("s", "s", True, None, None), 1000).sort("class")
    assert table["ordered"].to_list()[:2] == [pytest.approx(0.375), pytest.approx(1 / 6)]
    assert table["variational"].to_list()[:2] == [pytest.approx(2 / 3), pytest.approx(2 / 3)]


def test_classes_that_miss_a_bound_are_named() -> None:
    rows = [(0, "flu")] * 9 + [(0, "gout")] + [(1, "flu")] * 5 + [(1, "gout")] * 5
    frames = _frames(rows, 20, pl.String)

    def missing(t: float | None, entropy: float | None) -> list[int]:
        limit = Limit("s", "s", False, t, entropy)
        return sorted(spread.missing(_measured(frames, limit, 1000), limit).to_list())

    # The whole is 0.7 flu: both classes are 0.2 away, which is not more than 0.2.
    assert missing(0.2, None) == []
    assert missing(0.19, None) == [0, 1]
    assert missing(None, 1.9) == [0]
    assert missing(None, 2.0) == [0]
    assert missing(0.19, 1.1) == [0, 1]
    assert missing(None, None) == []


def test_a_field_of_too_many_values_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spread, "MOST_VALUES", 3)
    limit = Limit("income", "s", True, 0.2, None)
    few = spread.whole(_frames([(0, i % 3) for i in range(9)], 2, pl.Int64), limit)
    assert few is not None
    assert few.height == 3
    with pytest.raises(SluicegateError) as caught:
        spread.whole(_frames([(0, i) for i in range(4)], 2, pl.Int64), limit)
    assert caught.value.reason is Reason.DATA_INVALID
    assert "income" in caught.value.message
    unbound = Limit("income", "s", True, None, None)
    assert spread.whole(_frames([(0, i) for i in range(4)], 2, pl.Int64), unbound) is None


def test_what_is_measured_follows_the_plan() -> None:
    fields = {"a": (KEEP, INT64), "b": (KEEP, STRING), "c": (KEEP, DATE), "d": (KEEP, timestamp("us"))}
    plan = plans.plan(fields, sensitive={"a": 2, "b": 2}, t={"c": 0.3}, entropy={"c": 1.5, "d": 2.0})
    assert {limit.field: limit for limit in spread.limits(plan)} == {
        "c": Limit("c", "c", True, 0.3, 1.5),
        "d": Limit("d", "d", True, None, 2.0),
    }
    every = {limit.field: (limit.column, limit.ordered) for limit in spread.limits(plan, every=True)}
    assert every == {"a": ("a", True), "b": ("#value.b", False), "c": ("c", True), "d": ("d", True)}
    with pytest.raises(SluicegateError):
        spread.limits(plans.plan(fields, t={"e": 0.2}))

"""What is drawn, shuffled and shared among groups."""

from __future__ import annotations

import datetime as dt
import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.masks.masking import masked
from contracts import dtypes as d
from contracts.plan import Plan
from tests.connectors.masks.trying import (
    DECIMALS,
    FLOATS,
    INTEGERS,
    STAMPS,
    Keys,
    Words,
    column,
    ends,
    mask,
    plan_of,
    quick,
    values_of,
)

DAY = dt.timedelta(days=1)
SHIFT = {"mask": "shift_date", "days": 20, "entity": "person"}


def shifted(frame: pl.DataFrame, dtype: d.DType, keys: Keys | None = None, fields: str = "v") -> pl.DataFrame:
    plan = plan_of(*((name, SHIFT, dtype) for name in fields))
    return masked(frame.lazy(), plan, keys or Keys()).collect(engine="streaming")


@pytest.mark.parametrize("dtype", [d.DATE, *STAMPS], ids=str)
@quick
@given(
    rows=st.lists(
        st.tuples(st.sampled_from(["anna", "bo", "王"]), st.dates(dt.date(1950, 1, 1), dt.date(2200, 1, 1))),
        min_size=1, max_size=8,
    )
)  # fmt: skip
def test_intervals_are_kept_within_a_person(dtype: d.DType, rows: list[tuple[str, dt.date]]) -> None:
    days = [day if dtype == d.DATE else dt.datetime(day.year, day.month, day.day, 8, 30) for _, day in rows]
    frame = pl.DataFrame({"person": [person for person, _ in rows], "v": column(days, dtype), "w": column(days, dtype)})
    result = shifted(frame, dtype, fields="vw")
    moved: dict[str, set[dt.timedelta]] = {}
    for name in "vw":
        for (person, _), before, after in zip(rows, frame[name].to_list(), result[name].to_list(), strict=True):
            moved.setdefault(person, set()).add(after.astimezone(dt.UTC) - before.astimezone(dt.UTC)
                                                if dtype.zone else after - before)  # fmt: skip
    for by in moved.values():
        assert len(by) == 1
        assert min(by) % DAY == dt.timedelta(0)
        assert 1 <= abs(min(by) / DAY) <= 20


def test_every_number_of_days_is_drawn_and_another_recipient_or_limit_draws_others() -> None:
    people = [f"person {number}" for number in range(2000)]
    frame = pl.DataFrame({"person": people, "v": [dt.date(2026, 1, 1)] * 2000})
    first, again, other = (
        [(day - dt.date(2026, 1, 1)) / DAY for day in shifted(frame, d.DATE, keys)["v"].to_list()]
        for keys in (Keys("another agreement"), Keys(release="another"), Keys(recipient="another"))
    )
    assert first == again, "one shift in every release"
    assert set(first) == {*range(-20, 21)} - {0}
    assert max(Counter(first).values()) < 100  # 50 each
    assert sum(a == b for a, b in zip(first, other, strict=True)) < 120
    spellings = pl.DataFrame({"person": ["bo", " BO "], "v": [dt.date(2026, 1, 1)] * 2})
    assert shifted(spellings, d.DATE)["v"].n_unique() == 1


def test_a_date_without_a_person_is_null_and_none_leaves_the_calendar() -> None:
    ends = [dt.date(1, 1, 1), dt.date(9999, 12, 31), dt.date(2026, 1, 1), None]
    frame = pl.DataFrame({"person": ["a", "a", None, "a"], "v": ends})
    first, last, unknown, none = shifted(frame, d.DATE)["v"].to_list()
    assert abs(first - dt.date(1, 1, 21)) <= 20 * DAY
    assert abs(last - dt.date(9999, 12, 11)) <= 20 * DAY
    assert unknown is none is None
    edges = pl.Series("v", [-(2**63) + 1, 2**63 - 1]).cast(pl.Datetime("ns"))
    assert shifted(pl.DataFrame({"person": ["a", "b"], "v": edges}), d.timestamp("ns"))["v"].null_count() == 0


def noisy(values: Sequence[object], dtype: d.DType, words: Words, keys: Keys | None = None) -> list[Any]:
    """The values with noise, each of a person of its own."""
    frame = pl.DataFrame({"v": column(values, dtype), "person": [f"p{number}" for number in range(len(values))]})
    plan = plan_of(("v", {"mask": "noise", **words}, dtype), entity="person")
    return masked(frame.lazy(), plan, keys or Keys()).collect(engine="streaming")["v"].to_list()


@pytest.mark.parametrize(
    ("distribution", "deviation", "within"),
    [("laplace", 2**0.5, 0.632), ("normal", 1, 0.683), ("uniform", 3**-0.5, 1.0)],
)
def test_noise_is_of_its_distribution(distribution: str, deviation: float, within: float) -> None:
    """Its mean, its standard deviation, and the share that lies within one scale, over 40,000 draws."""
    found = noisy([0.0] * 40_000, d.FLOAT64, {"distribution": distribution, "scale": 7})
    drawn = pl.Series(found) / 7
    assert abs(float(drawn.mean())) < 0.03  # type: ignore[arg-type]
    assert abs(float(drawn.std()) - deviation) < 0.03  # type: ignore[arg-type]
    assert abs(float((drawn.abs() <= 1).mean()) - within) < 0.015  # type: ignore[arg-type]
    assert drawn.n_unique() == 40_000


def test_noise_of_a_person_is_the_same_in_every_release_and_averaging_gains_nothing() -> None:
    words = {"distribution": "normal", "scale": 100}
    first = noisy([1000] * 50, d.INT32, words)
    assert first == noisy([1000] * 50, d.INT32, words, Keys(release="another"))
    assert first == noisy([1000] * 50, d.INT32, words, Keys("another agreement"))
    assert first != noisy([1000] * 50, d.INT32, words, Keys(recipient="another"))
    assert len(set(first)) > 30
    plan = plan_of(("v", {"mask": "noise", **words}, d.INT32))
    frame = pl.DataFrame({"v": column([1000] * 50, d.INT32)}).lazy()
    of_rows = [masked(frame, plan, Keys(release=name)).collect()["v"].to_list() for name in ("a", "a", "b")]
    assert of_rows[0] == of_rows[1] != of_rows[2]


def test_two_masks_of_noise_on_one_value_cannot_be_solved_for_it() -> None:
    """Of one draw, the value plus once and plus three times of it would be two equations with two unknowns."""
    values = [float(number) for number in range(2_000)]
    one, three = (
        noisy(values, d.FLOAT64, {"distribution": "laplace", "scale": scale}, Keys(f"for purpose {scale}"))
        for scale in (1, 3)
    )
    solved = (pl.Series(one) * 3 - pl.Series(three)) / 2
    assert float((solved - pl.Series(values)).abs().median()) > 1  # type: ignore[arg-type]


@pytest.mark.parametrize("dtype", INTEGERS, ids=str)
@quick
@given(data=st.data())
def test_noise_on_whole_numbers_stays_in_the_type_and_is_exact(dtype: d.DType, data: st.DataObject) -> None:
    low, high = ends(dtype)
    values = data.draw(st.lists(st.integers(low, high) | st.sampled_from([low, high]), min_size=1, max_size=8))
    scale = data.draw(st.integers(1, 10**15))
    for before, after in zip(
        values, noisy(list(values), dtype, {"distribution": "uniform", "scale": scale}), strict=True
    ):
        assert low <= after <= high
        assert abs(after - before) <= scale


@quick
@given(values=st.lists(st.decimals(-(10**6), 10**6, places=2), min_size=1, max_size=8))
def test_noise_with_a_base_is_a_function_of_the_rounded_value(values: list[Decimal]) -> None:
    dtype = d.DType("decimal", precision=10, scale=2)
    result = noisy(list(values), dtype, {"distribution": "laplace", "scale": 5, "base": 0.25})
    assert all(found % Decimal("0.25") == 0 for found in result)
    plain = noisy([int(value) for value in values], d.INT64, {"distribution": "laplace", "scale": 50, "base": 10})
    assert all(found % 10 == 0 for found in plain)


def test_noise_leaves_what_is_no_number_and_nulls() -> None:
    words = {"distribution": "laplace", "scale": 1}
    nothing, endless, none = noisy([float("nan"), float("inf"), None], d.FLOAT64, words)
    assert nothing != nothing
    assert endless == float("inf")
    assert none is None


def streamed(frame: pl.DataFrame, plan: Plan, size: int = 1000) -> pl.DataFrame:
    """As a release collects it: batch by batch."""
    batches = masked(frame.lazy(), plan, Keys()).collect_batches(chunk_size=size, maintain_order=True)
    return pl.concat(batches)


@quick
@given(
    rows=st.lists(st.tuples(st.none() | st.integers(0, 5), st.none() | st.sampled_from("xy")), max_size=30),
    least=st.integers(2, 6),
)
def test_a_shuffle_keeps_the_values_of_each_group_and_the_places_of_nulls(
    rows: list[tuple[int | None, str | None]], least: int
) -> None:
    frame = pl.DataFrame({"v": [v for v, _ in rows], "g": [g for _, g in rows]}, schema={"v": pl.Int64, "g": pl.String})
    plan = plan_of(("v", {"mask": "shuffle", "within": "g", "least": least}, d.INT64))
    result = masked(frame.lazy(), plan, Keys()).collect()["v"].to_list()
    for group in ("x", "y", None):
        before = [v for v, g in rows if g == group]
        after = [v for v, (_, g) in zip(result, rows, strict=True) if g == group]
        alike = Counter(before) == Counter(after) and [v is None for v in before] == [v is None for v in after]
        assert alike if len(before) - before.count(None) >= least else not any(v is not None for v in after)


def test_a_shuffle_is_over_the_whole_release_and_another_in_each() -> None:
    size = 20_000
    frame = pl.DataFrame({"v": range(size)})
    plan = plan_of(("v", {"mask": "shuffle"}, d.INT64))
    dealt = streamed(frame, plan)["v"]
    assert sorted(dealt) == [*range(size)]
    assert sum(value < size // 2 for value in dealt.head(size // 2)) == pytest.approx(size / 4, rel=0.05)
    assert sum(value == at for at, value in enumerate(dealt)) < 10  # one is what chance leaves in place
    other = masked(frame.lazy(), plan, Keys(release="another")).collect()["v"]
    assert sum(a == b for a, b in zip(dealt, other, strict=True)) < 10


def test_few_persons_are_not_shuffled_among_themselves() -> None:
    frame = pl.DataFrame({"v": range(20), "person": ["a"] * 10 + ["b"] * 10})
    for least, nulls in ((2, 0), (3, 20)):
        plan = plan_of(("v", {"mask": "shuffle", "least": least}, d.INT64), entity="person")
        assert masked(frame.lazy(), plan, Keys()).collect()["v"].null_count() == nulls


NUMBERS_AND_TIMES = [*INTEGERS, *FLOATS, *DECIMALS, d.DATE, d.timestamp("us"), d.timestamp("ns", "Asia/Shanghai")]


@pytest.mark.parametrize("dtype", NUMBERS_AND_TIMES, ids=str)
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_a_mean_is_shared_by_enough_and_lies_among_its_own(dtype: d.DType, data: st.DataObject) -> None:
    of_type = st.floats(-1e6, 1e6, width=32) if dtype.kind == "float" else values_of(dtype)
    some = data.draw(st.lists(of_type, min_size=1, max_size=6))
    values = data.draw(st.lists(st.sampled_from(some) | of_type | st.none(), max_size=24))
    people = data.draw(st.lists(st.sampled_from("abcdefgh"), min_size=len(values), max_size=len(values)))
    k = data.draw(st.integers(2, 5))
    frame = pl.DataFrame({"v": column(values, dtype), "person": pl.Series(people, dtype=pl.String)})
    plan = plan_of(("v", {"mask": "microaggregate", "k": k}, dtype), entity="person")
    result = masked(frame.lazy(), plan, Keys()).collect(engine="streaming")
    both = result.rename({"v": "after"}).with_columns(frame).drop_nulls("v")
    assert result["v"].is_null().equals(frame["v"].is_null()) or both["person"].n_unique() < k
    if both["person"].n_unique() < k:
        assert both["after"].null_count() == both.height
        return
    assert both.group_by("v").agg(pl.col("after").n_unique())["after"].eq(1).all(), "equal values stay equal"
    groups = both.group_by("after").agg(pl.col("person").n_unique(), low=pl.col("v").min(), high=pl.col("v").max())
    assert groups["person"].min() >= k  # type: ignore[operator]
    assert (groups["after"].is_between(groups["low"], groups["high"])).all()
    assert both.sort("v")["after"].is_sorted()


def _plain_means(values: list[int | None], people: list[str] | None, k: int) -> list[int | None]:
    """The groups of the docstring, value by value."""
    rows = [(value, row if people is None else people[row]) for row, value in enumerate(values) if value is not None]
    seen: set[object] = set()
    reached: list[tuple[int, int]] = []  # of every level: its value, and how many entities appeared up to it
    for level in sorted({value for value, _ in rows}):
        seen |= {who for value, who in rows if value == level}
        reached.append((level, len(seen)))
    if len(seen) < k:
        return [None] * len(values)
    number, before, groups = 0, 0, defaultdict(list)
    for cut in sorted({(count - 1) // k for _, count in reached}):
        most = max(count for _, count in reached if (count - 1) // k == cut)
        number += most - before >= k
        groups[max(1, number)] += [level for level, count in reached if (count - 1) // k == cut]
        before = most
    mean = {}
    for levels in groups.values():
        of = [value for value, _ in rows if value in levels]
        mean |= dict.fromkeys(levels, math.floor(sum(of) / len(of) + 0.5))
    return [None if value is None else mean[value] for value in values]


@quick
@given(
    rows=st.lists(st.tuples(st.none() | st.integers(-30, 30), st.sampled_from("abcdefgh")), max_size=40),
    k=st.integers(2, 6),
    named=st.booleans(),
)
def test_means_are_those_of_the_definition(rows: list[tuple[int | None, str]], k: int, named: bool) -> None:
    values, people = [value for value, _ in rows], [who for _, who in rows]
    frame = pl.DataFrame({"v": pl.Series(values, dtype=pl.Int64), "person": pl.Series(people, dtype=pl.String)})
    plan = plan_of(("v", {"mask": "microaggregate", "k": k}, d.INT64), entity="person" if named else None)
    found = masked(frame.lazy(), plan, Keys()).collect()["v"].to_list()
    assert found == _plain_means(values, people if named else None, k)


def test_known_means() -> None:
    words = {"mask": "microaggregate", "k": 3}
    assert mask([1, 2, 3, 10, 20, 30, 31], words, d.INT32).to_list() == [2, 2, 2, 23, 23, 23, 23]
    assert mask([1, 7, 7, 7, 7, 8, 9], words, d.INT64).to_list() == [7] * 7  # nobody is left alone at either end
    assert mask([0.5, float("nan"), 1.5, None, 4.0], words, d.FLOAT64).to_list()[::2] == [2.0, 2.0, 2.0]
    assert (
        mask([Decimal("0.01"), Decimal("0.02"), Decimal("0.04")], words, DECIMALS[0]).to_list() == [Decimal("0.02")] * 3
    )
    assert mask([2**63 - 1] * 3, words, d.INT64).to_list() == [2**63 - 1] * 3
    assert mask([5, 6], words, d.INT8).to_list() == [None, None]


def test_means_are_over_the_whole_release() -> None:
    frame = pl.DataFrame({"v": [number % 100 for number in range(20_000)]})
    plan = plan_of(("v", {"mask": "microaggregate", "k": 15_000}, d.INT64))
    assert streamed(frame, plan)["v"].n_unique() == 1


@quick
@given(values=st.lists(st.none() | st.sampled_from("abcde"), max_size=20), least=st.integers(2, 6))
def test_rare_counts_rows_of_the_whole_release(values: list[str | None], least: int) -> None:
    counts = Counter(values)
    result = mask(list(values), {"mask": "rare", "min_count": least}, d.STRING).to_list()
    assert result == [None if value is None else value if counts[value] >= least else "other" for value in values]


def test_rare_counts_persons_where_there_are_any() -> None:
    frame = pl.DataFrame({"v": ["a"] * 4 + ["b"] * 2, "person": ["1", "1 ", "1", "1", "1", "2"]}).lazy()
    plan = plan_of(("v", {"mask": "rare", "min_count": 2}, d.STRING), entity="person")
    assert masked(frame, plan, Keys()).collect()["v"].to_list() == ["other"] * 4 + ["b"] * 2

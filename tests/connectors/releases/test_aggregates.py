"""Figures of aggregates: contributions are bounded on any table, and noise is as wide as it was paid for."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from connectors.releases import aggregates, aggregating, noise
from connectors.releases.aggregates import sensitivity, totals
from connectors.spooling.order import ReleaseKey
from contracts.aggregate import MICRO, PICO, threshold
from contracts.aggregate_plan import PlannedMeasure
from contracts.errors import Reason, SluicegateError
from contracts.plan import Plan
from tests import statistics

KEY = ReleaseKey(b"7" * 32, "rel-aaaaaaaaaa")
HOSPITALS = ("H01", "H02", "H03", "H04", None)
PERSONS = st.sampled_from(["a", "b", "c", "d", None])
VALUES = st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1))
ROWS = st.lists(st.tuples(PERSONS, st.sampled_from(HOSPITALS), VALUES), max_size=25)


def table(rows: list[tuple[Any, ...]]) -> pl.LazyFrame:
    kinds = {"#who": pl.String, "hospital_code": pl.String, "stay_minutes": pl.Int64}
    return pl.DataFrame(rows, schema=kinds, orient="row").lazy()


def true(plan: Plan, rows: list[tuple[Any, ...]]) -> dict[str | None, dict[str, int]]:
    found = totals(plan, table(rows), KEY, source="rows")
    return {row.pop("hospital_code"): row for row in found.rows(named=True)}


def changed(before: dict[Any, dict[str, int]], after: dict[Any, dict[str, int]], column: str) -> int:
    return sum(
        abs(before.get(group, {}).get(column, 0) - after.get(group, {}).get(column, 0)) for group in {*before, *after}
    )


# --- contributions


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    rows=ROWS, groups=st.integers(1, 3), each=st.integers(1, 3), bounds=st.tuples(st.integers(-9, 5), st.integers(6, 9))
)
def test_one_person_changes_no_figure_by_more_than_its_sensitivity(
    rows: list[tuple[Any, ...]], groups: int, each: int, bounds: tuple[int, int]
) -> None:
    """Neighbouring tables: all rows of one person, whatever they say, are added."""
    lower, upper = bounds
    plan = statistics.compiled(
        statistics.aggregate(
            contribution={"groups": groups, "rows": each},
            measures={
                "n": {"count": "rows"},
                "who": {"count": "persons"},
                "total": {"sum": "stay_minutes", "lower": lower, "upper": upper},
                "mean": {"mean": "stay_minutes", "lower": lower, "upper": upper},
            },
        )
    )
    assert plan.aggregate is not None
    without, all_rows = true(plan, [row for row in rows if row[0] != "a"]), true(plan, rows)
    for measure in plan.aggregate.measures:
        for column, most in sensitivity(plan.aggregate, measure).items():
            assert changed(without, all_rows, column) <= most
    assert changed(without, all_rows, "#persons") <= groups
    for group in all_rows.values():
        assert group["#persons"] <= 4


def test_the_bound_is_reached_so_it_is_no_larger_than_it_must_be() -> None:
    plan = statistics.compiled()
    assert plan.aggregate is not None
    rows = [("a", hospital, 10_000) for hospital in ("H01", "H02", "H03") for _ in range(9)]
    found = true(plan, rows)
    assert len(found) == 2
    for measure in plan.aggregate.measures:
        for column, most in sensitivity(plan.aggregate, measure).items():
            assert changed({}, found, column) == most


def test_what_one_person_keeps_depends_on_that_person_alone() -> None:
    """Else a person could push another's rows out, and change more than its own."""
    plan = statistics.compiled(statistics.aggregate(contribution={"groups": 1, "rows": 1}))
    mine = [("a", hospital, minutes) for hospital in ("H01", "H02", "H03") for minutes in (1, 20, 300)]
    alone = true(plan, mine)
    for other in range(20):
        both = true(plan, [(f"b{other}", "H04", 7), *mine])
        assert {group: both[group] for group in alone} == alone


def test_another_agreement_keeps_other_rows() -> None:
    plan = statistics.compiled(statistics.aggregate(contribution={"groups": 1, "rows": 1}))
    rows = [(f"p{person}", hospital, 5) for person in range(40) for hospital in ("H01", "H02", "H03")]
    found = {
        tuple(
            sorted(totals(plan, table(rows), ReleaseKey(bytes([seed]) * 32, "r"), source="rows")["#persons"].to_list())
        )
        for seed in range(8)
    }
    assert len(found) > 1


def test_rows_of_nobody_and_values_that_are_none_add_nothing() -> None:
    plan = statistics.compiled()
    found = true(plan, [(None, "H01", 5), ("a", "H01", None), ("a", "H01", -7), ("b", "H01", 5)])
    assert found["H01"] == {
        "#persons": 2,
        "visits#n": 3,
        "patients#n": 2,
        "minutes#sum": 5,
        "mean_stay#sum": 5,
        "mean_stay#n": 2,
    }


def test_floats_are_whole_steps_before_they_are_added() -> None:
    half = PlannedMeasure(name="x", kind="sum", persons=False, field="v", base="0.5", lower=-2, upper=5)
    values = pl.DataFrame({"v": [0.74, 0.76, float("nan"), float("inf"), float("-inf"), None, 1e308]})
    assert values.select(aggregates.in_units(half)).to_series().to_list() == [1, 2, None, 5, -2, None, 5]


# --- noise


@pytest.mark.parametrize(("sensitivity", "micro"), [(1, 1_000_000), (6, 250_000), (3600, 333_333)])
def test_noise_is_as_wide_as_epsilon_says(sensitivity: int, micro: int) -> None:
    """Mean 0 and the mean distance of a discrete Laplace distribution, by 40,000 draws: what is allowed is six
    times the standard error, so that chance fails one run in hundreds of millions."""
    draws = 40_000
    found = noise.noisy([1000] * draws, sensitivity=sensitivity, micro_epsilon=micro)
    off = [value - 1000 for value in found]
    scale = sensitivity * MICRO / micro
    p = math.exp(-1 / scale)
    variance, distance = 2 * p / (1 - p) ** 2, 2 * p / (1 - p * p)
    assert abs(sum(off) / draws) < 6 * math.sqrt(variance / draws)
    assert abs(sum(map(abs, off)) / draws - distance) < 6 * math.sqrt((variance - distance**2) / draws)
    assert len(set(found)) > 3


def test_two_draws_share_nothing() -> None:
    one, two = (noise.noisy([0] * 200, sensitivity=1000, micro_epsilon=1000) for _ in range(2))
    assert one != two


def test_a_figure_beyond_all_numbers_is_clamped() -> None:
    high, low = noise.noisy([2**90, -(2**90)], sensitivity=1, micro_epsilon=MICRO)
    assert high > 2**61
    assert low < -(2**61)


@pytest.mark.parametrize(
    ("groups", "micro", "pico"), [(1, 1_000_000, 1_000_000), (4, 100_000, 1000), (40, 77_777, 10**7)]
)
def test_the_stated_threshold_costs_no_more_delta_than_was_paid(groups: int, micro: int, pico: int) -> None:
    """The contract's own arithmetic against OpenDP's."""
    least = threshold(groups, micro, pico)
    noise.crowded([], groups=groups, micro_epsilon=micro, pico_delta=pico, threshold=least)
    with pytest.raises(SluicegateError) as caught:
        noise.crowded([], groups=groups, micro_epsilon=micro, pico_delta=pico, threshold=max(2, least // 2))
    assert caught.value.reason is Reason.INTERNAL
    scale = groups * MICRO / micro
    p = math.exp(-1 / scale)
    assert groups * p ** (least - 1) / (1 + p) <= pico / PICO


def test_a_group_of_one_person_does_not_show() -> None:
    places = noise.crowded(
        [1, 10_000, 1, 20_000], groups=2, micro_epsilon=MICRO, pico_delta=1000, threshold=threshold(2, MICRO, 1000)
    )
    assert places == [1, 3]


# --- tables


def test_without_a_list_groups_of_few_are_left_out(tmp_path: Path) -> None:
    plan, frame = statistics.compiled(), statistics.visits(tmp_path / "v.parquet")
    rows = frame.lazy().select("hospital_code", "stay_minutes", pl.col("citizen_id").alias("#who"))
    made = aggregates.compute(plan, rows, KEY, source="visits")
    assert made["hospital_code"].to_list() == ["H01", "H02", "H03"]
    assert made.columns == ["hospital_code", "visits", "patients", "minutes", "mean_stay"]
    assert {str(kind) for kind in made.dtypes} == {"String", "Int64", "Float64"}
    assert all(0 <= value <= 600 for value in made["mean_stay"])
    # 900 persons of which each is in two of three groups; noise of scale 2 / 0.25 at most for these.
    assert 1600 < made["patients"].sum() < 2000


def test_listed_groups_are_sent_whoever_is_in_them(tmp_path: Path) -> None:
    terms = statistics.aggregate(groups={"hospital_code": ["H03", "H77", "H01"]}, delta=None, budget={"epsilon": 3})
    plan, frame = statistics.compiled(terms), statistics.visits(tmp_path / "v.parquet")
    rows = frame.lazy().select("hospital_code", "stay_minutes", pl.col("citizen_id").alias("#who"))
    made = aggregates.compute(plan, rows, KEY, source="visits")
    assert made["hospital_code"].to_list() == ["H03", "H77", "H01"]
    assert abs(made["patients"][1]) < 400 < made["patients"][0]
    assert made.null_count().sum_horizontal().item() == 0


def test_a_table_without_a_row_is_one_too() -> None:
    plan = statistics.compiled()
    made = aggregates.compute(plan, table([]), KEY, source="visits")
    assert made.height == 0
    assert made.columns == list(aggregating.schema(plan))

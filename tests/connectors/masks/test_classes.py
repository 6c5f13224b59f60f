"""Buckets, rounding, clipping and hierarchies, against the definition."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts import dtypes as d
from tests.connectors.masks.trying import INTEGERS, Words, ends, mask, quick


@pytest.mark.parametrize("dtype", INTEGERS, ids=str)
@quick
@given(data=st.data())
def test_buckets_and_rounding_of_whole_numbers(dtype: d.DType, data: st.DataObject) -> None:
    low, high = ends(dtype)
    edge = st.sampled_from([low, low + 1, high, high - 1])
    values = data.draw(st.lists(st.integers(low, high) | edge, min_size=1, max_size=8))
    size, origin = data.draw(st.integers(2, 10**15)), data.draw(st.integers(-(10**9), 10**9))
    result = mask(list(values), {"mask": "bucket", "size": size, "origin": origin}, dtype).to_list()
    assert result == [max(low, value - (value - origin) % size) for value in values]
    rounded = mask(list(values), {"mask": "round", "base": size}, dtype).to_list()
    assert rounded == [min(high, max(low, (2 * value + size) // (2 * size) * size)) for value in values]


@quick
@given(
    values=st.lists(st.decimals(-(10**6), 10**6, places=2), min_size=1, max_size=8),
    step=st.sampled_from([0.05, 0.3, 1, 12.5, 1000]),
)
def test_buckets_and_rounding_of_decimals_are_exact(values: list[Decimal], step: float) -> None:
    dtype, size = d.DType("decimal", precision=10, scale=2), Decimal(str(step))
    result = mask(list(values), {"mask": "bucket", "size": step}, dtype).to_list()
    assert result == [(value / size).to_integral_value("ROUND_FLOOR") * size for value in values]
    rounded = mask(list(values), {"mask": "round", "base": step}, dtype).to_list()
    assert rounded == [((2 * value + size) / (2 * size)).to_integral_value("ROUND_FLOOR") * size for value in values]


def test_floats_are_coarsened_and_what_is_no_number_stays_so() -> None:
    values = [-7.5, 0.0, 14.999, 15.0, float("inf"), None]
    assert mask(list(values), {"mask": "bucket", "size": 10, "origin": 5}, d.FLOAT64).to_list() == [
        -15,
        -5,
        5,
        15,
        float("inf"),
        None,
    ]
    assert mask([1.25, -1.25, 1.2], {"mask": "round", "base": 0.5}, d.FLOAT64).to_list() == [1.5, -1.0, 1.0]
    assert mask([31.23499, -0.005], {"mask": "geo_round", "decimals": 2}, d.FLOAT64).to_list() == [31.23, 0.0]
    assert mask([float("nan")], {"mask": "round", "base": 0.5}, d.FLOAT64).is_nan().all()


@quick
@given(values=st.lists(st.dates(dt.date(1, 1, 1), dt.date(9999, 12, 31)), min_size=1, max_size=8))
def test_buckets_of_dates(values: list[dt.date]) -> None:
    def years(value: dt.date, size: int, origin: int) -> dt.date | None:
        year = value.year - (value.year - origin) % size
        return dt.date(year, 1, 1) if year >= 1 else None

    cases: list[tuple[Words, Sequence[dt.date | None]]] = [
        ({"size": "20y"}, [years(value, 20, 1900) for value in values]),
        ({"size": "10y", "origin": "1985-01-01"}, [years(value, 10, 1985) for value in values]),
        ({"size": "1q"}, [value.replace(month=(value.month - 1) // 3 * 3 + 1, day=1) for value in values]),
        ({"size": "1w"}, [value - dt.timedelta(days=value.weekday()) for value in values]),
    ]
    for words, expected in cases:
        result = mask(list(values), {"mask": "bucket", **words}, d.DATE)
        # Python knows no year before 1; the engine does.
        assert [
            found if want else None for found, want in zip(result.dt.strftime("%Y-%m-%d"), expected, strict=True)
        ] == [want.strftime("%Y-%m-%d").rjust(10, "0") if want else None for want in expected]


def test_breaks_and_clipping() -> None:
    ages = [-5, 0, 17, 18, 64, 65, 120, None]
    assert mask(list(ages), {"mask": "bucket", "breaks": [0, 18, 65]}, d.INT16).to_list() == [
        0,
        0,
        0,
        18,
        18,
        65,
        65,
        None,
    ]
    assert mask(list(ages), {"mask": "clip", "lower": 0, "upper": 90}, d.INT16).to_list() == [
        0,
        0,
        17,
        18,
        64,
        65,
        90,
        None,
    ]
    assert mask([1.5, 99.5, None], {"mask": "clip", "upper": 90}, d.FLOAT64).to_list() == [1.5, 90.0, None]
    born = [dt.date(1911, 3, 4), dt.date(1980, 1, 1), None]
    assert mask(list(born), {"mask": "clip", "lower": "1935-01-01"}, d.DATE).to_list() == [
        dt.date(1935, 1, 1),
        born[1],
        None,
    ]
    many = {"mask": "bucket", "breaks": list(range(100))}
    assert mask([55, 1000, -1], many, d.INT64).to_list() == [55, 99, 0]


def test_hierarchies_answer_for_unknown_values_too() -> None:
    table = {"J10": ["influenza", "respiratory"], "J11": ["influenza", "respiratory"]}
    words = {"mask": "hierarchy", "table": table, "level": 2, "other": "rest"}
    assert mask(["J10", "A00", None, ""], words, d.STRING).to_list() == ["respiratory", "rest", None, "rest"]
    assert mask([7, 8], {"mask": "hierarchy", "table": {"7": ["odd"]}}, d.INT32).to_list() == ["odd", "other"]

"""The tables of one round of the calendar, against the engine's own functions of dates."""

from __future__ import annotations

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.masks import calendar


@settings(max_examples=40, deadline=None)
@given(
    numbers=st.lists(st.integers(-95_000_000, 95_000_000), min_size=1, max_size=8),
    months=st.sampled_from([1, 5, 6, 7, 12, 36, 84, 240, 4800, 9600, 119_988]),
    origin=st.integers(-50_000, 50_000),
)
def test_every_round_of_the_calendar_is_as_the_first(numbers: list[int], months: int, origin: int) -> None:
    """As far as the engine itself can say what date a day is."""
    frame = pl.DataFrame({"n": numbers, "day": numbers}, schema={"n": pl.Int32, "day": pl.Date})
    day, number = pl.col("day"), pl.col("n")
    for part in ("year", "quarter", "month", "week", "day", "weekday"):
        assert frame.select(calendar.part(number, part)).to_series().to_list() == (
            frame.select(getattr(day.dt, part)()).to_series().to_list()
        )
    for unit in ("1d", "1w", "1mo", "1q", "1y"):
        both = frame.select(found=calendar.start(number, unit), wanted=day.dt.truncate(unit))
        assert both["found"].equals(both["wanted"])
    begins = calendar.class_start(number, months, origin)
    month = (begins.dt.year().cast(pl.Int64) - 1970) * 12 + begins.dt.month() - 1
    within = (day.dt.year().cast(pl.Int64) - 1970) * 12 + day.dt.month() - 1 - month
    found = frame.filter(number.abs() < 90_000_000).select(
        first=begins.dt.day() == 1, whole=(month - origin) % months == 0, here=within.is_between(0, months - 1)
    )
    assert found.to_dict(as_series=False) == {name: [True] * found.height for name in ("first", "whole", "here")}

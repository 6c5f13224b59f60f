"""Time made coarse, by the clock and the calendar of a zone."""

from __future__ import annotations

import datetime as dt
from itertools import takewhile
from zoneinfo import ZoneInfo, available_timezones

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts import dtypes as d
from contracts.errors import Reason, SluicegateError
from tests.connectors.masks.trying import mask, quick

ZONES = ["Asia/Shanghai", "America/Sao_Paulo", "Australia/Lord_Howe", "Asia/Kolkata", "Etc/UTC"]


@pytest.mark.parametrize("zone", ZONES)
@quick
@given(
    moments=st.lists(
        st.datetimes(dt.datetime(1971, 1, 1), dt.datetime(2037, 1, 1), timezones=st.just(dt.UTC)),
        min_size=1,
        max_size=8,
    )
)
def test_truncation_is_by_the_wall_clock_of_the_zone(zone: str, moments: list[dt.datetime]) -> None:
    local = [moment.astimezone(ZoneInfo(zone)) for moment in moments]
    starts = {
        "day": [moment.date() for moment in local],
        "week": [moment.date() - dt.timedelta(days=moment.weekday()) for moment in local],
        "month": [moment.date().replace(day=1) for moment in local],
        "quarter": [moment.date().replace(month=(moment.month - 1) // 3 * 3 + 1, day=1) for moment in local],
        "year": [moment.date().replace(month=1, day=1) for moment in local],
    }
    for unit, expected in starts.items():
        assert (
            mask(
                list(moments), {"mask": "truncate", "unit": unit, "zone": zone}, d.timestamp("us", "Etc/UTC")
            ).to_list()
            == expected
        )
        naive = [moment.replace(tzinfo=None) for moment in local]
        assert mask(naive, {"mask": "truncate", "unit": unit, "zone": zone}, d.timestamp("us")).to_list() == expected
    for unit in ("hour", "minute"):
        found = mask(list(moments), {"mask": "truncate", "unit": unit, "zone": zone}, d.timestamp("us", "Etc/UTC"))
        assert found.dtype == pl.Datetime("us", zone)
        assert instants(found) == [clock_start(moment, unit, ZoneInfo(zone)) for moment in moments]


def instants(found: pl.Series) -> list[dt.datetime | None]:
    """As universal time: Python takes no two times of different zones for the same where a clock shows one twice."""
    return found.dt.convert_time_zone("UTC").to_list()


def clock_start(moment: dt.datetime, unit: str, zone: ZoneInfo) -> dt.datetime:
    """The start of the hour or minute, gone back to minute by minute: when the clock last showed it, or else since
    when the clock is as it is."""
    tidy = {"second": 0, "microsecond": 0}
    now = moment.astimezone(zone)
    wanted = now.replace(**tidy, minute=0 if unit == "hour" else now.minute, tzinfo=None)
    before = [moment.replace(**tidy) - dt.timedelta(minutes=back) for back in range(180)]
    showing = [each for each in before if each.astimezone(zone).replace(tzinfo=None) == wanted]
    alike = takewhile(lambda each: each.astimezone(zone).utcoffset() == now.utcoffset(), before)
    return showing[0] if showing else list(alike)[-1]


# Moments at which a clock was changed: by an hour, by less, in the middle of an hour.
CHANGES = {
    "Europe/Berlin": ("2024-03-31T01:00", "2024-10-27T01:00"),
    "Australia/Lord_Howe": ("2024-04-06T15:00", "2024-10-05T15:30"),
    "America/St_Johns": ("2010-03-14T03:31", "2010-11-07T02:31"),
    "America/Caracas": ("2007-12-09T07:00", "2016-05-01T07:00"),
    "Asia/Kathmandu": ("1985-12-31T18:30",),
}


@pytest.mark.parametrize(("zone", "change"), [(zone, at) for zone, times in CHANGES.items() for at in times])
@quick
@given(microseconds=st.lists(st.integers(-8_000_000_000, 8_000_000_000), min_size=1, max_size=8))
def test_hours_in_which_the_clock_is_changed(zone: str, change: str, microseconds: list[int]) -> None:
    at = dt.datetime.fromisoformat(f"{change}+00:00")
    assert len({(at - dt.timedelta(seconds=ago)).astimezone(ZoneInfo(zone)).utcoffset() for ago in (0, 1)}) == 2
    moments = [at + dt.timedelta(microseconds=each) for each in microseconds]
    for unit in ("hour", "minute"):
        for kept in ("ms", "us", "ns"):
            field = d.timestamp(kept, "Etc/UTC")
            found = mask(list(moments), {"mask": "truncate", "unit": unit, "zone": zone}, field)
            assert instants(found) == [clock_start(moment, unit, ZoneInfo(zone)) for moment in moments]


@quick
@given(
    zone=st.sampled_from(sorted(available_timezones() - {"Factory", "localtime"})),
    moment=st.datetimes(dt.datetime(1840, 1, 1), dt.datetime(2160, 1, 1), timezones=st.just(dt.UTC)),
)
def test_hours_of_every_zone_and_time_are_by_the_engine_s_clock(zone: str, moment: dt.datetime) -> None:
    (start,) = instants(
        mask([moment], {"mask": "truncate", "unit": "hour", "zone": zone}, d.timestamp("us", "Etc/UTC"))
    )
    assert start is not None
    assert start <= moment
    before = start - dt.timedelta(microseconds=1)
    shown = pl.Series([moment, start, before]).dt.convert_time_zone(zone).dt.replace_time_zone(None)
    hour = shown.dt.truncate("1h")
    # The clock shows the start of the moment's hour; or shows this hour since, and another one before, by a change.
    assert hour[0] == hour[1]
    assert shown[1] == hour[1] or hour[2] != hour[1] or shown[1] - shown[2] != moment.resolution


@pytest.mark.parametrize(
    ("zone", "shown", "start"),
    [
        ("Australia/Lord_Howe", "2024-04-07T01:45", "2024-04-07T01:00+11:00"),  # of the two times 01:45 the first
        ("Australia/Lord_Howe", "2024-10-06T02:45", "2024-10-06T02:30+11:00"),  # 02:00 was skipped
        ("Australia/Lord_Howe", "2024-10-06T02:15", None),  # no clock showed that
        ("America/St_Johns", "2010-03-14T01:20", "2010-03-14T01:01-02:30"),
        ("Europe/Berlin", "2024-10-27T02:30", "2024-10-27T02:00+02:00"),
        ("Europe/Berlin", "2024-03-31T02:30", None),
    ],
)
def test_hours_of_a_wall_clock_that_is_changed(zone: str, shown: str, start: str | None) -> None:
    truncate = {"mask": "truncate", "unit": "hour", "zone": zone}
    found = mask([dt.datetime.fromisoformat(shown), None], truncate, d.timestamp("us"))
    assert instants(found) == [None if start is None else dt.datetime.fromisoformat(start), None]


@quick
@given(
    days=st.lists(st.none() | st.dates(dt.date(1, 1, 1), dt.date(9999, 12, 31)), max_size=12),
    near=st.lists(st.none() | st.dates(dt.date(2023, 12, 25), dt.date(2024, 3, 5)), max_size=200),
)
def test_dates_are_the_calendars_whether_few_days_or_many_lie_between(
    days: list[dt.date | None], near: list[dt.date | None]
) -> None:
    parts = {"year": "%Y", "month": "%m", "day": "%d", "week": "%V", "weekday": "%u"}
    for values in (days, near):
        for part, form in parts.items():
            wanted = [None if day is None else int(day.strftime(form)) for day in values]
            assert mask(values, {"mask": "date_part", "part": part}, d.DATE).to_list() == wanted
        quarters = [day and dt.date(day.year, (day.month - 1) // 3 * 3 + 1, 1) for day in values]
        assert mask(values, {"mask": "truncate", "unit": "quarter"}, d.DATE).to_list() == quarters
        halves = [day and dt.date(day.year, 1 if day.month < 7 else 7, 1) for day in values]
        assert mask(values, {"mask": "bucket", "size": "6mo"}, d.DATE).to_list() == halves


def test_a_moment_beyond_every_date_is_refused_and_not_taken_for_another() -> None:
    beyond = pl.Series("v", [2**62], dtype=pl.Int64).cast(pl.Datetime("ms"))
    for words in ({"mask": "truncate", "unit": "month"}, {"mask": "date_part", "part": "year"}):
        with pytest.raises(pl.exceptions.InvalidOperationError):
            mask(beyond, {**words, "zone": "Etc/UTC"}, d.timestamp("ms"))
    for number in (2**62, 2**63 - 1, -(2**63) + 1):
        moment = pl.Series("v", [None, number], dtype=pl.Int64).cast(pl.Datetime("ms", "Etc/UTC"))
        with pytest.raises(pl.exceptions.InvalidOperationError):
            mask(moment, {"mask": "truncate", "unit": "hour", "zone": "Asia/Shanghai"}, d.timestamp("ms", "Etc/UTC"))


def test_a_day_whose_midnight_does_not_exist_is_still_a_day() -> None:
    """In Sao Paulo the clock went from 0:00 to 1:00 on 4 November 2018."""
    skipped = dt.datetime(2018, 11, 4, 0, 30)
    words = {"mask": "truncate", "unit": "day", "zone": "America/Sao_Paulo"}
    assert mask([skipped], words, d.timestamp("us")).to_list() == [dt.date(2018, 11, 4)]
    assert mask([dt.datetime(2018, 11, 4, 3, 30, tzinfo=dt.UTC)], words, d.timestamp("us", "Etc/UTC")).to_list() == [
        dt.date(2018, 11, 4)
    ]
    assert mask([skipped], {**words, "unit": "hour"}, d.timestamp("us")).to_list() == [None]


def test_date_parts_follow_the_zone() -> None:
    moment = [dt.datetime(2025, 12, 31, 17, 5, tzinfo=dt.UTC)]  # the first hour of 2026 in Shanghai
    parts = {"year": 2026, "quarter": 1, "month": 1, "week": 1, "day": 1, "weekday": 4, "hour": 1}
    for part, expected in parts.items():
        words = {"mask": "date_part", "part": part, "zone": "Asia/Shanghai"}
        assert mask(list(moment), words, d.timestamp("us", "Etc/UTC")).to_list() == [expected]


def test_a_zone_that_only_the_contract_knows_is_refused_before_any_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("contracts.technique._zones", frozenset)  # a machine without a zone database
    words = {"mask": "truncate", "unit": "day", "zone": "Mars/Olympus"}
    with pytest.raises(SluicegateError) as caught:
        mask([dt.datetime(2026, 1, 1)], words, d.timestamp("us"))
    assert caught.value.reason is Reason.PLAN_REFUSED

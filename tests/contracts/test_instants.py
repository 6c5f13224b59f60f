"""Instants and durations: one spelling in, epoch seconds out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.errors import Reason, SluicegateError
from contracts.instants import Duration, duration, epoch, rfc3339

FIRST, LAST = epoch("0001-01-01T00:00:00Z"), epoch("9999-12-31T23:59:59Z")


@given(st.integers(FIRST, LAST))
def test_every_instant_reads_back(seconds):
    assert epoch(rfc3339(seconds)) == seconds


@given(st.integers(FIRST, LAST), st.integers(FIRST, LAST))
def test_the_spelling_sorts_like_the_time(one, other):
    assert (rfc3339(one) < rfc3339(other)) == (one < other)


def test_known_instants():
    assert epoch("1970-01-01T00:00:00Z") == 0
    assert epoch("2026-03-02T09:00:00Z") == 1772442000
    assert rfc3339(0) == "1970-01-01T00:00:00Z"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2026-03-02",
        "2026-03-02T09:00:00",
        "2026-03-02T09:00:00+00:00",
        "2026-03-02T09:00:00.000Z",
        "2026-03-02 09:00:00Z",
        "2026-02-30T09:00:00Z",
        "2026-03-02T24:00:00Z",
        "2026-03-02T09:00:60Z",
        "2026-03-02T09:00:00Z\n",
        "0000-01-01T00:00:00Z",
        "٢٠٢٦-03-02T09:00:00Z",
    ],
)
def test_other_spellings_are_refused(text):
    with pytest.raises(SluicegateError) as caught:
        epoch(text)
    assert caught.value.reason is Reason.INVALID_ARGUMENT


@pytest.mark.parametrize("seconds", [10**30, -(10**30), LAST + 1, FIRST - 1])
def test_instants_beyond_the_calendar_are_refused(seconds):
    with pytest.raises(SluicegateError) as caught:
        rfc3339(seconds)
    assert caught.value.reason is Reason.INVALID_ARGUMENT


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("P90D", Duration(0, 90, 0)),
        ("P1Y6M", Duration(18, 0, 0)),
        ("P2W", Duration(0, 14, 0)),
        ("PT10M", Duration(0, 0, 600)),
        ("P1DT2H3S", Duration(0, 1, 7203)),
        ("PT24H", Duration(0, 0, 86_400)),
    ],
)
def test_durations(text, expected):
    assert duration(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "P",
        "PT",
        "P1DT",
        "P0D",
        "PT0S",
        "-P1D",
        "P-1D",
        "1D",
        "P1.5D",
        "p1d",
        "P1H",
        "P1D ",
        "P1M1Y",
        "P99999999999D",
    ],
)
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(SluicegateError) as caught:
        duration(text)
    assert caught.value.reason is Reason.INVALID_ARGUMENT


@pytest.mark.parametrize(
    ("start", "text", "end"),
    [
        ("2026-01-31T12:00:00Z", "P1M", "2026-02-28T12:00:00Z"),
        ("2028-01-31T12:00:00Z", "P1M", "2028-02-29T12:00:00Z"),
        ("2024-02-29T00:00:00Z", "P1Y", "2025-02-28T00:00:00Z"),
        ("2026-12-15T00:00:00Z", "P13M", "2028-01-15T00:00:00Z"),
        ("2026-03-02T09:00:00Z", "P1DT1H", "2026-03-03T10:00:00Z"),
    ],
)
def test_a_duration_later(start, text, end):
    assert rfc3339(duration(text).after(epoch(start))) == end


def test_a_duration_past_the_calendar_is_refused():
    for text in ("P9999Y", "P999999D"):
        with pytest.raises(SluicegateError) as caught:
            rfc3339(duration(text).after(epoch("9000-01-01T00:00:00Z")))
        assert caught.value.reason is Reason.INVALID_ARGUMENT


@given(
    st.builds(Duration, st.integers(0, 1200), st.integers(0, 4000), st.integers(0, 10**6)),
    st.integers(epoch("1900-01-01T00:00:00Z"), epoch("2200-01-01T00:00:00Z")),
)
def test_shortest_and_longest_bound_every_calendar(length, start):
    assert length.shortest <= length.after(start) - start <= length.longest

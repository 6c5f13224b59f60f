"""Instants and durations, in the two spellings of this product.

Documents carry RFC 3339 UTC to the second (`2026-01-31T12:00:00Z`) and ISO 8601 durations (`P90D`,
`P1Y6M`, `PT10M`); everything that computes uses integer epoch seconds. Nothing here reads a clock.
"""

from __future__ import annotations

import calendar
import re
from datetime import UTC, datetime

from msgspec import Struct

from contracts.errors import Reason, SluicegateError, Violation

# How far two honest clocks may disagree, in seconds. Only ever used to accept what is a little too
# new; nothing that has ended is accepted a little longer.
SKEW = 60

_INSTANT = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}Z", re.ASCII)
_DURATION = re.compile(
    r"P(?=\d|T\d)(?:(\d{1,4})Y)?(?:(\d{1,5})M)?(?:(\d{1,5})W)?(?:(\d{1,6})D)?"
    r"(?:T(?=\d)(?:(\d{1,7})H)?(?:(\d{1,8})M)?(?:(\d{1,9})S)?)?",
    re.ASCII,
)


def epoch(instant: str) -> int:
    """Epoch seconds of an RFC 3339 UTC instant. Raises INVALID_ARGUMENT for any other spelling."""
    try:
        if not _INSTANT.fullmatch(instant):
            raise ValueError
        return int(datetime.strptime(instant, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC).timestamp())
    except (ValueError, OverflowError):
        raise SluicegateError(
            Reason.INVALID_ARGUMENT, f"not an instant: {instant[:40]!r}; write RFC 3339 UTC, 2026-01-31T12:00:00Z"
        ) from None


def rfc3339(seconds: int) -> str:
    """The RFC 3339 UTC spelling of epoch seconds. Raises INVALID_ARGUMENT outside years 1 to 9999."""
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ").rjust(20, "0")
    except (ValueError, OverflowError, OSError):
        raise SluicegateError(
            Reason.INVALID_ARGUMENT, f"{seconds} epoch seconds is no instant of the calendar"
        ) from None


def demand_future(instant: int, now: int, what: str) -> None:
    """Refuse an end (epoch seconds) that is over already. Raises INVALID_ARGUMENT naming what is allowed."""
    if instant <= now:
        raise SluicegateError(
            Reason.INVALID_ARGUMENT,
            f"{what} must lie in the future",
            (Violation(what, f"found {rfc3339(instant)}; allowed: any instant after {rfc3339(now)}", code="past"),),
        )


class Duration(Struct, frozen=True):
    """An ISO 8601 duration: calendar months and days, and seconds of the clock."""

    months: int
    days: int
    seconds: int

    def after(self, instant: int) -> int:
        """The epoch second that lies this long after another: months first (the 31st becomes the
        month's last day), then days, then seconds."""
        start = datetime.fromtimestamp(instant, UTC)
        month = start.year * 12 + start.month - 1 + self.months
        year, month = divmod(month, 12)
        try:
            day = min(start.day, calendar.monthrange(year, month + 1)[1])
            shifted = start.replace(year=year, month=month + 1, day=day)
        except (ValueError, calendar.IllegalMonthError):
            raise SluicegateError(Reason.INVALID_ARGUMENT, "the duration ends after the year 9999") from None
        return int(shifted.timestamp()) + self.days * 86_400 + self.seconds

    @property
    def shortest(self) -> int:
        """The least number of seconds it can last, whatever the months."""
        return self.months // 12 * 365 * 86_400 + self.months % 12 * 28 * 86_400 + self.days * 86_400 + self.seconds

    @property
    def longest(self) -> int:
        """The greatest number of seconds it can last, whatever the months."""
        return self.months // 12 * 366 * 86_400 + self.months % 12 * 31 * 86_400 + self.days * 86_400 + self.seconds


def duration(text: str) -> Duration:
    """Parse an ISO 8601 duration of whole units. Raises INVALID_ARGUMENT, also for one of no length."""
    match = _DURATION.fullmatch(text)
    if match is None:
        raise SluicegateError(
            Reason.INVALID_ARGUMENT, f"not a duration: {text[:40]!r}; write ISO 8601, for example P90D, P1Y6M or PT10M"
        )
    years, months, weeks, days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    result = Duration(years * 12 + months, weeks * 7 + days, hours * 3600 + minutes * 60 + seconds)
    if result == Duration(0, 0, 0):
        raise SluicegateError(Reason.INVALID_ARGUMENT, f"a duration of no length: {text!r}")
    return result

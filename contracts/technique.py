"""What every masking technique has in common: its family, its promises, and exact sizes.

The techniques themselves stand in `contracts.techniques`; how each is carried out, in
`connectors.masks.masking`. Terms follow ISO/IEC 20889.
"""

from __future__ import annotations

import datetime as dt
import re
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from functools import lru_cache
from typing import Annotated, ClassVar, Literal, Self

from msgspec import Meta, Struct

from contracts.dtypes import LIST, DType
from contracts.errors import nearest


class Family(StrEnum):
    """Kinds of techniques. Two techniques of different families are never compared by strength
    alone when a contract changes."""

    NONE = "none"
    SUPPRESSION = "suppression"
    PARTIAL = "partial-masking"
    PSEUDONYM = "pseudonym"
    GENERALISATION = "generalisation"
    RANDOMISATION = "randomisation"


class Technique(Struct, frozen=True, tag_field="mask", forbid_unknown_fields=True, kw_only=True):
    """Base of all techniques. In a contract `{mask: <id>, <parameter>: <value>...}`.

    Class attributes:
      `family`            the kind of technique;
      `strength`          0 the value passes .. 5 nothing of the value is left (null or not null may show);
      `reversible`        whether the value can be had back from the output, with a key or without;
      `joinable`          whether it is made to join rows of one person: a pseudonym (then k is composite);
      `order_preserving`  whether a <= b implies masked(a) <= masked(b);
      `sent`              whether a column leaves at all;
      `remnant`           whether what is left of the value can help to single a person out, so that
                          it counts as a quasi-identifier when the field is direct or semi-private;
      `per_row`           whether one row's output depends on that row alone;
      `draws`             whether it draws random numbers by the row's place in the release;
      `randomised`        whether chance goes into the value itself, so that classes and distinct values are
                          counted on what it was before;
      `each`              whether of a list it masks each element by itself: lists keep their lengths and order,
                          null lists, empty ones and null elements stay what they are. Else a list is one value;
      `kinds`             the kinds of types it works on; `output` the one type it produces, if it is one.

    Nulls stay null under every technique.
    """

    family: ClassVar[Family]
    strength: ClassVar[int]
    reversible: ClassVar[bool] = False
    joinable: ClassVar[bool] = False
    order_preserving: ClassVar[bool] = False
    sent: ClassVar[bool] = True
    remnant: ClassVar[bool] = True
    per_row: ClassVar[bool] = True
    draws: ClassVar[bool] = False
    randomised: ClassVar[bool] = False
    each: ClassVar[bool] = False
    kinds: ClassVar[tuple[str, ...]]
    output: ClassVar[DType | None] = None

    @property
    def id(self) -> str:
        """The word that stands after `mask:`."""
        return str(self.__struct_config__.tag)

    @property
    def grounds(self) -> str | None:
        """The words in the contract that say why a value that can be had back must be sent; None without."""
        return None

    @property
    def reads(self) -> tuple[str, ...]:
        """Other fields whose values go into the output."""
        return ()

    @property
    def reveals(self) -> tuple[str, ...]:
        """Those of them whose values show in the output: what holds for the field holds for them."""
        return ()

    def problems(self, dtype: DType) -> tuple[str, ...]:
        """Why this technique, with these parameters, cannot work on that type. Empty: it can."""
        return self.only(dtype)

    def accepts(self, dtype: DType) -> bool:
        """Whether this technique, with these parameters, works on that type."""
        return not self.problems(dtype)

    def produces(self, dtype: DType) -> DType:
        """The type that is sent. Meaningful only for a type that is accepted."""
        return LIST if self.each and dtype.kind == "list" else self.output or dtype

    def resolved(self, dtype: DType) -> Self:  # noqa: ARG002 - for those that need it
        """The same technique with every default that depends on the type written out: what a plan
        and a receipt record."""
        return self

    def only(self, dtype: DType) -> tuple[str, ...]:
        """The problem of a type that is none of `kinds`; also of integers wider than 64 bits."""
        if dtype.kind in self.kinds and not (dtype.kind == "integer" and dtype.bits > 64):
            return ()
        return (f"{self.id} works on {_listed(self.kinds)}; this field is {dtype}",)


ANY_KIND = ("string", "boolean", "integer", "float", "decimal", "date", "timestamp", "time", "binary", "list")
NUMBERS = ("integer", "float", "decimal")


# Parameters that several techniques have.
Label = Annotated[str, Meta(min_length=1, max_length=64, description="a text of 1 to 64 characters")]
Name = Annotated[
    str,
    Meta(
        pattern=r"^[a-z0-9][a-z0-9-]{0,62}$", description="a name of lower-case letters, digits and hyphens, at most 63"
    ),
]
Number = Annotated[int, Meta(ge=-(2**53), le=2**53)] | float


def _listed(words: tuple[str, ...]) -> str:
    return " or ".join(filter(None, (", ".join(words[:-1]), words[-1])))


# --- time -------------------------------------------------------------------------------------

Unit = Literal["minute", "hour", "day", "week", "month", "quarter", "year"]
CalendarUnit = Literal["day", "week", "month", "quarter", "year"]
# From fine to coarse; a week lies across months, so week and month are not comparable.
UNITS: tuple[str, ...] = ("minute", "hour", "day", "week", "month", "quarter", "year")
CALENDAR_UNITS = UNITS[2:]

Zone = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+)*$",
        max_length=64,
        description="an IANA time zone such as Asia/Shanghai or Etc/UTC",
    ),
]


@lru_cache(maxsize=1)
def _zones() -> frozenset[str]:
    from zoneinfo import available_timezones

    return frozenset(available_timezones())


def check_zone(zone: str | None) -> None:
    """Raise ValueError for a zone that the machine's zone database does not know. A machine without
    such a database lets it pass: the gateway's engine, which has its own, checks again."""
    if zone is not None and _zones() and zone not in _zones():
        hint = nearest(zone, _zones()) or "for example Asia/Shanghai or Etc/UTC"
        raise ValueError(f"zone: {zone!r} is not an IANA time zone; {hint}")


def zone_problems(name: str, dtype: DType, zone: str | None) -> tuple[str, ...]:
    """A timestamp without zone says nothing about days until a zone is stated."""
    if dtype.kind == "timestamp" and dtype.zone is None and zone is None:
        return (f"{name} of a timestamp without zone needs `zone`, the zone that its wall clock shows",)
    return ()


# --- numbers and sizes ------------------------------------------------------------------------


def exact(value: int | float | str) -> Decimal:
    """The number as written: 0.1 is a tenth, not its binary neighbour. Raises ValueError."""
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        raise ValueError(f"{value!r} is not a number") from None
    if not number.is_finite():
        raise ValueError("numbers are finite")
    return number


def date_of(value: object) -> dt.date | None:
    """The ISO date in a string, or None."""
    try:
        return dt.date.fromisoformat(value) if isinstance(value, str) and len(value) == 10 else None
    except ValueError:
        return None


class Span(Struct, frozen=True):
    """A length of time on the calendar: so many days or so many months."""

    count: int
    unit: Literal["days", "months"]


_SPAN = re.compile(r"^([1-9][0-9]{0,3})(d|w|mo|q|y)$")
_SPAN_UNITS: dict[str, tuple[int, Literal["days", "months"]]] = {
    "d": (1, "days"),
    "w": (7, "days"),
    "mo": (1, "months"),
    "q": (3, "months"),
    "y": (12, "months"),
}


def span_of(value: object) -> Span | None:
    """The span in a string like `20y`, `6mo`, `2w`; None for anything else."""
    if not isinstance(value, str) or not (match := _SPAN.match(value)):
        return None
    factor, unit = _SPAN_UNITS[match[2]]
    return Span(int(match[1]) * factor, unit)


def fits_number(parameter: str, number: Decimal, dtype: DType) -> tuple[str, ...]:
    """Whether a parameter can be compared exactly with values of that type."""
    if dtype.kind == "integer" and number != number.to_integral_value():
        return (f"{parameter} must be a whole number for {dtype}",)
    if dtype.kind == "decimal" and number.scaleb(dtype.scale) != number.scaleb(dtype.scale).to_integral_value():
        return (f"{parameter} has more decimals than {dtype}",)
    return ()


def step_problems(parameter: str, number: Decimal, dtype: DType) -> tuple[str, ...]:
    """A step must fit the type and be coarser than its finest step: a mask that changes nothing is
    `keep`, and must say so."""
    if found := fits_number(parameter, number, dtype):
        return found
    finest = {"integer": Decimal(1), "decimal": Decimal(1).scaleb(-dtype.scale)}.get(dtype.kind)
    if finest is not None and number <= finest:
        return (f"{parameter} {number} changes nothing on {dtype}: choose a larger one, or say keep",)
    return ()

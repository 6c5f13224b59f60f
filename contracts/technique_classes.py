"""Techniques that put a value into a named class: time units, code levels, ancestors, rare categories."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

import msgspec
from msgspec import Meta

from contracts.dtypes import DATE, INT8, INT32, STRING, DType, timestamp
from contracts.technique import Family, Label, Technique, Unit, Zone, check_zone, zone_problems


class Truncate(Technique, frozen=True, kw_only=True, tag="truncate"):
    """The start of the minute, hour, day, week (Monday), month, quarter or year in a zone.

    Precondition: timestamps, or dates with a unit longer than a day. A timestamp without zone needs
    `zone`; one with a zone is taken in its own unless `zone` says otherwise.
    Output: a date for day and longer, so that no clock change can move it; else a timestamp in that zone. An hour
    whose start the zone skipped begins with the change of its clock. A wall-clock time that the zone skipped becomes
    null.
    Residual risk: rare moments; it counts as a quasi-identifier.
    Source: ISO/IEC 20889, generalization (rounding of time).

    >>> str(Truncate(unit="week", zone="Etc/UTC").produces(timestamp("us")))
    'date'
    """

    unit: Unit
    zone: Zone | None = None

    family: ClassVar[Family] = Family.GENERALISATION
    strength: ClassVar[int] = 2
    kinds: ClassVar[tuple[str, ...]] = ("timestamp", "date")
    order_preserving: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_zone(self.zone)

    def problems(self, dtype: DType) -> tuple[str, ...]:
        """See the base; each problem names what would do."""
        if found := self.only(dtype):
            return found
        if dtype.kind == "date" and self.unit in ("minute", "hour", "day"):
            return (f"truncate to {self.unit} changes nothing on date: choose a longer unit, or say keep",)
        return zone_problems("truncate", dtype, self.zone)

    def produces(self, dtype: DType) -> DType:
        """See the base."""
        if self.unit not in ("minute", "hour"):
            return DATE
        return timestamp(dtype.unit, self.zone or dtype.zone)

    def resolved(self, dtype: DType) -> Self:
        """See the base."""
        return msgspec.structs.replace(self, zone=self.zone or dtype.zone)


class DatePart(Technique, frozen=True, kw_only=True, tag="date_part"):
    """One part of a date or time: year, quarter, month, ISO week, day, weekday (Monday 1), hour.

    Precondition: dates, or timestamps (zone as in truncate); hour only of timestamps.
    Output: int32 for the year, else int8. Residual risk: rare parts; together with others a moment.
    Source: ISO/IEC 20889, generalization.

    >>> str(DatePart(part="weekday").produces(DATE))
    'int8'
    """

    part: Literal["year", "quarter", "month", "week", "day", "weekday", "hour"]
    zone: Zone | None = None

    family: ClassVar[Family] = Family.GENERALISATION
    strength: ClassVar[int] = 3
    kinds: ClassVar[tuple[str, ...]] = ("timestamp", "date")

    def __post_init__(self) -> None:
        check_zone(self.zone)

    def problems(self, dtype: DType) -> tuple[str, ...]:
        """See the base; each problem names what would do."""
        if found := self.only(dtype):
            return found
        if dtype.kind == "date" and self.part == "hour":
            return ("a date has no hour",)
        return zone_problems("date_part", dtype, self.zone)

    def produces(self, dtype: DType) -> DType:  # noqa: ARG002 - whatever the type was
        """See the base."""
        return INT32 if self.part == "year" else INT8

    def resolved(self, dtype: DType) -> Self:
        """See the base."""
        return msgspec.structs.replace(self, zone=self.zone or dtype.zone)


class Prefix(Technique, frozen=True, kw_only=True, tag="prefix"):
    """The first `length` characters: the coarser level of a code that is built from left to right.

    Precondition: text whose beginning is its coarser form (postcode, ICD-10, address). Output: text.
    Residual risk: a value of at most `length` characters passes whole, being that coarse already. Of a list each
    element is masked; how many there are shows, and in which order.
    Source: ISO/IEC 20889, generalization.

    >>> Prefix(length=3).accepts(DType("integer", bits=64))
    False
    """

    length: Annotated[int, Meta(ge=1, le=64, description="a whole number from 1 to 64")]

    family: ClassVar[Family] = Family.GENERALISATION
    strength: ClassVar[int] = 2
    kinds: ClassVar[tuple[str, ...]] = ("string", "list")
    each: ClassVar[bool] = True
    order_preserving: ClassVar[bool] = True


class Hierarchy(Technique, frozen=True, kw_only=True, tag="hierarchy"):
    """The ancestor of a value, from a table in the contract.

    Precondition: text, or whole numbers read as text. `table` maps each value to its ancestors, the
    nearest first; `level` 1 takes the nearest. Output: text; a value that is not in the table becomes
    `other`, never itself. Residual risk: few people under one ancestor. Of a list each element
    is masked; how many there are shows, and in which order.
    Source: ISO/IEC 20889, generalization.

    >>> Hierarchy(table={"J10": ("influenza",)}, level=1).family
    <Family.GENERALISATION: 'generalisation'>
    """

    table: Annotated[
        dict[str, tuple[Label, ...]],
        Meta(
            min_length=1, max_length=10_000, description="a map of 1 to 10000 values, each to a list of its ancestors"
        ),
    ]
    level: Annotated[int, Meta(ge=1, le=16, description="a whole number from 1 to 16")] = 1
    other: Label = "other"

    family: ClassVar[Family] = Family.GENERALISATION
    strength: ClassVar[int] = 3
    kinds: ClassVar[tuple[str, ...]] = ("string", "integer", "list")
    each: ClassVar[bool] = True
    output: ClassVar[DType | None] = STRING

    def __post_init__(self) -> None:
        short = sum(len(ancestors) < self.level for ancestors in self.table.values())
        if short:
            raise ValueError(f"table: {short} of {len(self.table)} values have no ancestor at level {self.level}")


class Rare(Technique, frozen=True, kw_only=True, tag="rare"):
    """Categories seen on fewer than `min_count` entities of the release become `other`.

    Precondition: text, or whole numbers read as text. Counted on the rows in scope: distinct entities,
    or rows where the contract names no entity. Output: text.
    Residual risk: every common value passes as it is. Of a list each element is masked, and counted once for an
    entity (or row) however often it has it; how many there are shows, in which order, and rare sets of common ones.
    Source: ISO/IEC 20889, generalization (combining rare values).

    >>> Rare(min_count=20).per_row
    False
    """

    min_count: Annotated[int, Meta(ge=2, le=10**9, description="a whole number from 2 to 1000000000")]
    other: Label = "other"

    family: ClassVar[Family] = Family.GENERALISATION
    strength: ClassVar[int] = 1
    kinds: ClassVar[tuple[str, ...]] = ("string", "integer", "list")
    each: ClassVar[bool] = True
    output: ClassVar[DType | None] = STRING
    per_row: ClassVar[bool] = False

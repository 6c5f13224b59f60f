"""Techniques that randomise: a value moves, takes on noise, changes places, or joins its neighbours."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from msgspec import Meta

from contracts.dtypes import DType
from contracts.technique import ANY_KIND, NUMBERS, Family, Technique, exact, step_problems

FieldName = Annotated[str, Meta(min_length=1, max_length=256, description="the name of a field of the contract")]
_TAIL = 64  # times its scale: no noise that is drawn here lies further out


class ShiftDate(Technique, frozen=True, kw_only=True, tag="shift_date"):
    """A date moved by a number of whole days that is one entity's own: up to `days` either way, never none.

    Precondition: dates or timestamps; `entity` is the field that tells persons apart, where bounds are required
    the one that they name. The number comes from a secret of the recipient and the entity alone.
    Output: same type. All dates of an entity that are masked with the same `days` move alike, so intervals within
    the entity are kept exactly (a day is 24 hours), in every release, under whichever agreement. Null where the
    entity is null. What would leave the years 1 to 9999 (or a timestamp's range) stays at their ends.
    Residual risk: the intervals themselves, which recognise whoever knows two of them; about when it was. It
    counts as a quasi-identifier, and is measured by the date before it was moved.
    Source: ISO/IEC 20889, randomization; date shifting as in the HIPAA guidance on expert determination.

    >>> ShiftDate(days=30, entity="patient").reads
    ('patient',)
    """

    days: Annotated[int, Meta(ge=1, le=3650, description="a whole number from 1 to 3650")]
    entity: FieldName

    family: ClassVar[Family] = Family.RANDOMISATION
    strength: ClassVar[int] = 1
    kinds: ClassVar[tuple[str, ...]] = ("date", "timestamp")
    randomised: ClassVar[bool] = True

    @property
    def reads(self) -> tuple[str, ...]:
        """See the base."""
        return (self.entity,)


class Noise(Technique, frozen=True, kw_only=True, tag="noise"):
    """A random number added to the value. It is not differential privacy, and no such bound is claimed.

    Precondition: numbers. `scale` is the b of laplace, the standard deviation of normal, the greatest distance of
    uniform. With `base` the value is rounded to it first and the noise is a multiple of it.
    Output: same type (decimals with 38 digits); whole numbers and decimals take whole steps of their type; beyond
    the type's ends, its end. About persons the number comes from a secret of recipient and dataset, the mask, the
    entity and the value: pulled again it is the same, also under another agreement, so averaging pulls gains nothing.
    Else it is drawn a row and release.
    Residual risk: roughly the value, and where noise happens to be small the value itself; averages over many
    persons stay. Where it counts as a quasi-identifier or needs an l bound, it is measured by the value before the
    noise (rounded to `base`), so that chance cannot pass for protection.
    Source: ISO/IEC 20889, randomization (noise addition).

    >>> Noise(distribution="laplace", scale=2).problems(DType("string"))
    ('noise works on integer, float or decimal; this field is string',)
    """

    distribution: Literal["laplace", "normal", "uniform"]
    scale: (
        Annotated[int, Meta(ge=1, le=10**15, description="a positive number up to 10^15")]
        | Annotated[float, Meta(gt=0, le=1e15)]
    )
    base: (
        Annotated[int, Meta(ge=1, le=10**15, description="a positive number not above `scale`")]
        | Annotated[float, Meta(gt=0, le=1e15)]
        | None
    ) = None

    family: ClassVar[Family] = Family.RANDOMISATION
    strength: ClassVar[int] = 1
    kinds: ClassVar[tuple[str, ...]] = NUMBERS
    draws: ClassVar[bool] = True
    randomised: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.base is not None and exact(self.base) > exact(self.scale):
            raise ValueError("base: above `scale` the noise would mostly be none: round instead, or lower it")

    def problems(self, dtype: DType) -> tuple[str, ...]:
        """See the base; each problem names what would do."""
        if found := self.only(dtype):
            return found
        scale = exact(self.scale)
        if dtype.kind == "integer" and scale < 1:
            return (f"scale {scale} changes hardly anything on {dtype}: choose at least 1",)
        if dtype.kind == "decimal" and scale.scaleb(dtype.scale) < 1:
            return (f"scale {scale} is less than the finest step of {dtype}",)
        if dtype.kind == "decimal" and scale * _TAIL >= exact(1).scaleb(37 - dtype.scale):
            return (f"scale {scale} is too large for {dtype}",)
        return () if self.base is None else step_problems("base", exact(self.base), dtype)

    def produces(self, dtype: DType) -> DType:
        """See the base."""
        return DType("decimal", precision=38, scale=dtype.scale) if dtype.kind == "decimal" else dtype


class Shuffle(Technique, frozen=True, kw_only=True, tag="shuffle"):
    """Every value goes to another row, drawn at random; with `within`, a row of the same value of that field.

    Precondition: none. The whole release is one deal, or each group of `within`; a list is one value.
    Output: same type, the same values as often. Nulls stay where they are. A group of fewer than `least` entities
    (rows, where the contract names no entity) becomes null: few have nobody to hide among.
    Residual risk: every value leaves as it is, beside other rows' fields; a rare one tells that its owner is in
    the release. What other fields say of a value undoes the deal: use `within` with care.
    Source: ISO/IEC 20889, randomization (permutation).

    >>> Shuffle(within="district").reads
    ('district',)
    """

    within: FieldName | None = None
    least: Annotated[int, Meta(ge=2, le=10**9, description="a whole number from 2 to 1000000000")] = 10

    family: ClassVar[Family] = Family.RANDOMISATION
    strength: ClassVar[int] = 1
    kinds: ClassVar[tuple[str, ...]] = ANY_KIND
    per_row: ClassVar[bool] = False
    draws: ClassVar[bool] = True

    @property
    def reads(self) -> tuple[str, ...]:
        """See the base."""
        return (self.within,) if self.within else ()


class Microaggregate(Technique, frozen=True, kw_only=True, tag="microaggregate"):
    """The mean of the value and its nearest neighbours: groups of at least `k` entities, in the values' order.

    Precondition: numbers, dates or timestamps. Groups are made over the whole release, of distinct entities
    (rows, where the contract names no entity); equal values are never parted.
    Output: same type; the mean to 15 digits, to the nearest step of the type, never outside its group. Where
    there are fewer than `k` entities in all, null. What is no number stays so.
    Residual risk: the outermost groups reach to the outermost values; another release, made from other rows, has
    other means, and the difference tells of the rows that changed. It counts as a quasi-identifier.
    Source: ISO/IEC 20889, microaggregation (univariate, of fixed least size).

    >>> Microaggregate(k=5).per_row
    False
    """

    k: Annotated[int, Meta(ge=2, le=1_000_000, description="a whole number from 2 to 1000000")]

    family: ClassVar[Family] = Family.GENERALISATION
    strength: ClassVar[int] = 2
    kinds: ClassVar[tuple[str, ...]] = (*NUMBERS, "date", "timestamp")
    order_preserving: ClassVar[bool] = True
    per_row: ClassVar[bool] = False

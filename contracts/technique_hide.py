"""Techniques that hide a value or replace it: keep, suppression, partial masking, pseudonyms."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from msgspec import Meta, Struct

from contracts.dtypes import BOOLEAN, FLOAT64, INT64, STRING, DType
from contracts.technique import ANY_KIND, CalendarUnit, Family, Name, Number, Technique, Zone, check_zone, exact


class Keep(Technique, frozen=True, kw_only=True, tag="keep"):
    """The value passes as it is.

    Precondition: the standard allows it for the field, or `justification` says why it must.
    Output: the value, same type.
    Residual risk: all of it; a kept direct identifier is refused, and a kept list of indirect ones.
    Source: none; ISO/IEC 20889 speaks of an unchanged attribute.

    >>> Keep().produces(STRING) == STRING
    True
    """

    justification: (
        Annotated[str, Meta(min_length=3, max_length=500, description="a sentence of 3 to 500 characters")] | None
    ) = None

    family: ClassVar[Family] = Family.NONE
    strength: ClassVar[int] = 0
    kinds: ClassVar[tuple[str, ...]] = ANY_KIND
    reversible: ClassVar[bool] = True
    order_preserving: ClassVar[bool] = True

    @property
    def grounds(self) -> str | None:
        """See the base."""
        return self.justification


class Drop(Technique, frozen=True, kw_only=True, tag="drop"):
    """The column is not sent; listing it so says that leaving it out is meant.

    Precondition: none. Output: no column.
    Residual risk: none from this field.
    Source: ISO/IEC 20889, suppression (of an attribute).

    >>> Drop().sent
    False
    """

    family: ClassVar[Family] = Family.SUPPRESSION
    strength: ClassVar[int] = 5
    kinds: ClassVar[tuple[str, ...]] = (*ANY_KIND, "other")
    sent: ClassVar[bool] = False
    remnant: ClassVar[bool] = False


class Null(Technique, frozen=True, kw_only=True, tag="null"):
    """Every value becomes null: the column stays for the reader's schema, empty.

    Precondition: none. Output: nulls of the same type, for lists too. Residual risk: none.
    Source: ISO/IEC 20889, suppression (of an attribute).

    >>> Null().produces(STRING) == STRING
    True
    """

    family: ClassVar[Family] = Family.SUPPRESSION
    strength: ClassVar[int] = 5
    kinds: ClassVar[tuple[str, ...]] = ANY_KIND
    remnant: ClassVar[bool] = False


class Constant(Technique, frozen=True, kw_only=True, tag="constant"):
    """Every value becomes the same one.

    Precondition: none. Output: `value`: string, int64, float64 or boolean by how it is written; a list is one
    value, so nothing tells how many elements it had.
    Residual risk: whether there was a value, since nulls stay null.
    Source: ISO/IEC 20889, suppression (of an attribute).

    >>> str(Constant(value="withheld").produces(INT64))
    'string'
    """

    value: (
        bool
        | Number
        | Annotated[
            str,
            Meta(
                max_length=256,
                description="a boolean, a finite number within 2^53, or a text of at most 256 characters",
            ),
        ]
    )

    family: ClassVar[Family] = Family.SUPPRESSION
    strength: ClassVar[int] = 5
    kinds: ClassVar[tuple[str, ...]] = ANY_KIND
    remnant: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if isinstance(self.value, float):
            exact(self.value)

    def produces(self, dtype: DType) -> DType:  # noqa: ARG002 - whatever the type was
        """See the base."""
        return {bool: BOOLEAN, int: INT64, float: FLOAT64, str: STRING}[type(self.value)]


class Partial(Technique, frozen=True, kw_only=True, tag="partial"):
    """The first and last characters stay, the middle becomes `mask_char`; the length is kept.

    Precondition: text, or whole numbers read as text. Characters are Unicode code points.
    Output: text. A value too short to have `min_masked` characters hidden is hidden whole, as
    keep_first + keep_last + min_masked mask characters, so it never passes unchanged.
    Residual risk: what is shown, and the length; where few candidates fit, the value itself. It counts
    as a quasi-identifier. Of a list each element is masked; how many there are shows, and in which order.
    Source: ISO/IEC 20889, masking (of a direct identifier in part).

    >>> str(Partial(keep_first=3).produces(INT64))
    'string'
    """

    keep_first: Annotated[int, Meta(ge=0, le=32, description="a whole number from 0 to 32")] = 0
    keep_last: Annotated[int, Meta(ge=0, le=32, description="a whole number from 0 to 32")] = 0
    mask_char: Annotated[
        str, Meta(min_length=1, max_length=1, description="one printable character that is neither letter nor digit")
    ] = "*"
    min_masked: Annotated[int, Meta(ge=1, le=64, description="a whole number from 1 to 64")] = 4

    family: ClassVar[Family] = Family.PARTIAL
    strength: ClassVar[int] = 2
    kinds: ClassVar[tuple[str, ...]] = ("string", "integer", "list")
    each: ClassVar[bool] = True
    output: ClassVar[DType | None] = STRING

    def __post_init__(self) -> None:
        if self.mask_char.isalnum() or not self.mask_char.isprintable() or self.mask_char.isspace():
            raise ValueError(
                "mask_char: one printable character that is neither letter nor digit, so that nobody takes it for data"
            )

    @property
    def shortest(self) -> int:
        """Length from which on a value is shown in part; shorter ones are hidden whole."""
        return self.keep_first + self.keep_last + self.min_masked


class Period(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Limits a pseudonym to a time: the `unit` that `field` falls in goes into the hashed message,
    so rows join within that unit only. `zone` as in truncate; by default that of the field's own
    truncate mask."""

    field: str
    unit: CalendarUnit
    zone: Zone | None = None

    def __post_init__(self) -> None:
        check_zone(self.zone)


class Hmac(Technique, frozen=True, kw_only=True, tag="hmac"):
    """A keyed pseudonym: HMAC-SHA-256 under a key of this agreement and `domain`, 128 bits of it.

    Precondition: text, whole numbers or dates. `normalise: text` trims, applies NFKC and upper case,
    so that spellings join; `exact` hashes as it stands. An empty text becomes null.
    Output: 32 lower-case hex digits; equal within one agreement and domain (and period), never across.
    Residual risk: rows of one person join, so bounds are counted over all rows that a pseudonym
    joins. Irreversible once the agreement's secret is destroyed; before, only by the department.
    Of a list each element is masked, without `period`, in a domain of its own; how many there are shows, and in
    which order. Lists of direct or indirect identifiers are refused unless they are quasi-identifiers: rows that
    share an element would join, and no bound counts that.
    Source: ISO/IEC 20889, pseudonymization by cryptographic hash with a key; RFC 2104, RFC 5869.

    >>> Hmac(domain="person", period=Period(field="visit_ts", unit="week")).reads
    ('visit_ts',)
    """

    domain: Name
    bits: Literal[128] = 128
    normalise: Literal["text", "exact"] = "text"
    period: (
        Annotated[
            Period,
            Meta(description="{field: <a field of the contract>, unit: day, week, month, quarter or year, zone?}"),
        ]
        | None
    ) = None

    family: ClassVar[Family] = Family.PSEUDONYM
    strength: ClassVar[int] = 4
    kinds: ClassVar[tuple[str, ...]] = ("string", "integer", "date", "list")
    each: ClassVar[bool] = True
    output: ClassVar[DType | None] = STRING
    joinable: ClassVar[bool] = True
    remnant: ClassVar[bool] = False

    @property
    def reads(self) -> tuple[str, ...]:
        """See the base."""
        return (self.period.field,) if self.period else ()

    def problems(self, dtype: DType) -> tuple[str, ...]:
        """See the base."""
        if self.period is not None and dtype.kind == "list":
            return ("hmac of a list has no period: its elements are of no time of their own",)
        return self.only(dtype)


class RandomId(Technique, frozen=True, kw_only=True, tag="random_id"):
    """A random number a row, drawn once for a release; equal values get different numbers, and other
    releases other ones. Drawn under a key of the release, from the row's place, never from its value.

    Precondition: none. Output: 32 lower-case hex digits; one for a list.
    Residual risk: whether there was a value. No join, not even with itself.
    Source: ISO/IEC 20889, pseudonymization independent of the attribute's value.

    >>> RandomId().joinable
    False
    """

    bits: Literal[128] = 128

    family: ClassVar[Family] = Family.PSEUDONYM
    strength: ClassVar[int] = 5
    draws: ClassVar[bool] = True
    kinds: ClassVar[tuple[str, ...]] = ANY_KIND
    output: ClassVar[DType | None] = STRING
    remnant: ClassVar[bool] = False

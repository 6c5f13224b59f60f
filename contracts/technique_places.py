"""Techniques that coarsen where somebody is: networks of addresses, cells of the earth."""

from __future__ import annotations

from typing import Annotated, ClassVar

from msgspec import Meta

from contracts.dtypes import STRING, DType
from contracts.technique import Family, Label, Technique


class IpPrefix(Technique, frozen=True, kw_only=True, tag="ip_prefix"):
    """The network that an address lies in: its first `v4` or `v6` bits.

    Precondition: text, one IPv4 or IPv6 address a value; space around it does not matter.
    Output: text, the network as `203.0.113.0/24` or `2001:db8::/48` (RFC 4632, RFC 5952). An IPv4 address that
    is mapped into IPv6 is taken as IPv4. What is no address becomes `other`, never itself.
    Residual risk: a small network is one household or one company; it counts as a quasi-identifier.
    Of a list each element is masked; how many there are shows, and in which order.
    Source: ISO/IEC 20889, generalization.

    >>> IpPrefix().accepts(STRING)
    True
    """

    v4: Annotated[int, Meta(ge=8, le=28, description="a whole number from 8 to 28")] = 24
    v6: Annotated[int, Meta(ge=16, le=56, description="a whole number from 16 to 56")] = 48
    other: Label = "other"

    family: ClassVar[Family] = Family.GENERALISATION
    strength: ClassVar[int] = 2
    kinds: ClassVar[tuple[str, ...]] = ("string", "list")
    each: ClassVar[bool] = True
    output: ClassVar[DType | None] = STRING


class Geohash(Technique, frozen=True, kw_only=True, tag="geohash"):
    """The cell of the earth that a place lies in: its geohash of `precision` characters.

    Precondition: the field is the latitude in degrees, `longitude` names the field of the longitude, which is
    classified like it and need not be sent itself. Floats or decimals.
    Output: text; 5 characters are about 5 by 5 km, 6 about 1.2 by 0.6 km, 7 about 150 by 150 m. Null where either
    is null; what lies outside the earth (or is no number) becomes `other`.
    Residual risk: cells where one person lives, and neighbouring cells of very different population; it
    counts as a quasi-identifier.
    Source: ISO/IEC 20889, generalization; the public geohash encoding (base 32, bits in turn, longitude first).

    >>> Geohash(precision=5, longitude="lon").reveals
    ('lon',)
    """

    precision: Annotated[int, Meta(ge=1, le=8, description="a whole number from 1 to 8")]
    longitude: Annotated[str, Meta(min_length=1, max_length=256, description="the name of a field of the contract")]
    other: Label = "other"

    family: ClassVar[Family] = Family.GENERALISATION
    strength: ClassVar[int] = 2
    kinds: ClassVar[tuple[str, ...]] = ("float", "decimal")
    output: ClassVar[DType | None] = STRING

    @property
    def reads(self) -> tuple[str, ...]:
        """See the base."""
        return (self.longitude,)

    @property
    def reveals(self) -> tuple[str, ...]:
        """See the base."""
        return (self.longitude,)

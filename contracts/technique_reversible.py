"""Pseudonyms that the department can turn back: aes_siv and ff1. Only where a law says that it must."""

from __future__ import annotations

from typing import Annotated, ClassVar

from msgspec import Meta

from contracts.dtypes import STRING, DType
from contracts.technique import Family, Label, Name, Technique

LegalBasis = Annotated[
    str,
    Meta(
        pattern=r"^[a-z][a-z-]*:[A-Za-z]+$",
        max_length=120,
        description="the legal basis of turning it back, a DPV term such as dpv:LegalObligation",
    ),
]
LEAST_DOMAIN = 1_000_000  # SP 800-38G: with fewer values the cipher itself gives way


class AesSiv(Technique, frozen=True, kw_only=True, tag="aes_siv"):
    """The value encrypted deterministically: AES-256-SIV under a key of this agreement and `domain`.

    Precondition: text, whole numbers or dates. `legal_basis` names why it must be possible to turn the value back;
    without one the contract is refused. It encrypts what stands there: normalise in the source what is to join.
    An empty text becomes null.
    Output: lower-case hexadecimal digits, two for each byte of the value and 32 more. Equal within one agreement
    and domain, never across; altered ones are recognised. The department can turn it back until the agreement's
    secret is destroyed.
    Residual risk: rows of one person join, so bounds are counted over all rows that a pseudonym joins; the
    value's length shows; whoever gets at the key has every value. Of a list each element is masked; how many there
    are shows, and in which order. What hmac says of lists of identifiers and of domains holds.
    Source: ISO/IEC 20889, deterministic encryption; RFC 5297.

    >>> AesSiv(domain="person", legal_basis="dpv:LegalObligation").reversible
    True
    """

    domain: Name
    legal_basis: LegalBasis

    family: ClassVar[Family] = Family.PSEUDONYM
    strength: ClassVar[int] = 4
    kinds: ClassVar[tuple[str, ...]] = ("string", "integer", "date", "list")
    each: ClassVar[bool] = True
    output: ClassVar[DType | None] = STRING
    reversible: ClassVar[bool] = True
    joinable: ClassVar[bool] = True
    remnant: ClassVar[bool] = False

    @property
    def grounds(self) -> str | None:
        """See the base."""
        return self.legal_basis


class Ff1(Technique, frozen=True, kw_only=True, tag="ff1"):
    """The value encrypted to another of the same length and digits: FF1 of NIST SP 800-38G with AES-256.

    Off by default: prefer aes_siv, and state `unsafe_format_preserving: true` where the reader's system takes
    no other form. What leaves looks like a value, and may be somebody's.
    Precondition: text, or whole numbers read as text, of the digits 0-9 and a-z below `radix`. `legal_basis` as in
    aes_siv.
    Output: text of the same length and digits; equal within one agreement and domain, never across. A value with
    other characters, with fewer than a million possibilities or longer than the cipher takes (16 digits of
    radix 10 in either half) becomes `other`.
    Residual risk: as aes_siv; nothing tells an altered value from a true one; and the fewer values there can be,
    the sooner known pairs give others away. Of lists as aes_siv.
    Source: ISO/IEC 20889, format-preserving encryption; NIST SP 800-38G.

    >>> Ff1(domain="card", radix=10, legal_basis="dpv:LegalObligation", unsafe_format_preserving=True).shortest
    6
    """

    domain: Name
    radix: Annotated[int, Meta(ge=2, le=36, description="a whole number from 2 to 36")] = 10
    legal_basis: LegalBasis
    unsafe_format_preserving: bool = False
    other: Label = "other"

    family: ClassVar[Family] = Family.PSEUDONYM
    strength: ClassVar[int] = 4
    kinds: ClassVar[tuple[str, ...]] = ("string", "integer", "list")
    each: ClassVar[bool] = True
    output: ClassVar[DType | None] = STRING
    reversible: ClassVar[bool] = True
    joinable: ClassVar[bool] = True
    remnant: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not self.unsafe_format_preserving:
            raise ValueError(
                "unsafe_format_preserving: ff1 is off; allowed: true, to take the risk that it states, or use aes_siv"
            )

    @property
    def grounds(self) -> str | None:
        """See the base."""
        return self.legal_basis

    @property
    def shortest(self) -> int:
        """The least length of a value that has a million possibilities."""
        length = 1
        while self.radix**length < LEAST_DOMAIN:
            length += 1
        return length

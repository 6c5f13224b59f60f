"""The technique `redact`: what detectors find in a text is taken out of it, and nothing else."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import msgspec
from msgspec import Meta

from contracts.dtypes import STRING, DType
from contracts.technique import Family, Name, Technique

Word = Annotated[str, Meta(min_length=2, max_length=64, description="a text of 2 to 64 characters")]
Found = Literal["national-id", "bank-card", "phone", "plate", "email", "ip", "passport", "credit-code"]
MOST_WORDS = 2_000


class Redact(Technique, frozen=True, kw_only=True, tag="redact"):
    """What `detectors` find in a text becomes `[phone]`, `[email]` and so on; each word of a dictionary becomes
    that dictionary's name in brackets. The rest stays.

    Precondition: text that could be kept as it is: a value in which nothing is found passes unchanged, so to the
    standard this is `keep` (strength 0). Words are matched wherever they stand, case of ASCII letters aside.
    They are part of the contract, which consumers read: wards and streets, never a list of residents.
    Output: text. What detectors still find after that makes the whole value `[redacted]`. In a value that is
    changed, full-width letters and digits become ordinary ones.
    Residual risk: all that detectors do not find, and they never prove absence: names, what is described,
    what is written unusually. Of a list each element is looked at by itself: what is cut across several is not
    found; how many there are shows, and in which order.
    Source: NIST SP 800-188 (redaction of identifiers in text fields); the detectors' own limits.

    >>> Redact(dictionaries={"ward": ("East Wing",)}).strength
    0
    """

    detectors: Annotated[
        tuple[Found, ...],
        Meta(
            min_length=1,
            max_length=8,
            description="some of national-id, bank-card, phone, plate, email, ip, passport, credit-code",
        ),
    ] = ("national-id", "bank-card", "phone", "plate", "email", "ip", "passport", "credit-code")
    dictionaries: Annotated[
        dict[Name, tuple[Word, ...]],
        Meta(max_length=16, description="{<name>: [<word of 2 to 64 characters>, ...]}, at most 16 of them"),
    ] = msgspec.field(default_factory=dict)

    family: ClassVar[Family] = Family.NONE
    strength: ClassVar[int] = 0
    reversible: ClassVar[bool] = True
    kinds: ClassVar[tuple[str, ...]] = ("string", "list")
    each: ClassVar[bool] = True
    output: ClassVar[DType | None] = STRING

    def __post_init__(self) -> None:
        if len(set(self.detectors)) < len(self.detectors):
            raise ValueError("detectors: each once")
        words = [word.lower() for found in self.dictionaries.values() for word in found]
        if len(words) > MOST_WORDS:
            raise ValueError(f"dictionaries: {len(words)} words; at most {MOST_WORDS} in all")
        if len(set(words)) < len(words):
            raise ValueError("dictionaries: a word stands in one dictionary, once")
        if any("[" in word or "]" in word or word != word.strip() for word in words):
            raise ValueError("dictionaries: words have no brackets, and no space around them")

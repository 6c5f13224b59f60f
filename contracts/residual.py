"""What must not be found in the rows that leave, whatever their columns are called, and who may say otherwise.

`Kind` names what detectors look for; `connectors.identifiers.detectors` finds it. A contract excuses a column by what
it declares already, never by a switch of its own: see `excused`.
"""

from __future__ import annotations

from enum import StrEnum

from contracts.dtypes import DType
from contracts.model import Field, Identifiability, Tier
from contracts.technique_classes import Hierarchy, Prefix
from contracts.technique_hide import Constant, Hmac, Keep, Null, Partial, RandomId
from contracts.technique_reversible import AesSiv, Ff1
from contracts.techniques import AnyTechnique


class Kind(StrEnum):
    """What a detector means. Where the standard has a category of it, it has the same name."""

    NATIONAL_ID = "national-id"
    BANK_CARD = "bank-card"
    PHONE = "phone"
    PLATE = "plate"
    EMAIL = "email"
    IP = "ip"
    PASSPORT = "passport"
    CREDIT_CODE = "credit-code"
    IMAGE = "image"
    BIOMETRIC = "biometric"
    VECTOR = "vector"


# What may be public, or what other numbers are taken for by chance. The rest is a person's alone, and no
# number of another kind passes its check digits and dates in earnest.
_EXCUSABLE = frozenset({Kind.BANK_CARD, Kind.PHONE, Kind.PLATE, Kind.EMAIL, Kind.IP, Kind.CREDIT_CODE})
_KINDS = frozenset({"string", "binary", "list", "other"})  # types of columns that can hold text, images or lists
_SHORTEST = 6  # characters of the shortest thing that any detector means: a@b.cn
_JOINING = frozenset("@.:+-/ ·(")  # mask characters that could make one thing of the two ends that are shown


def excused(field: Field, mask: AnyTechnique, *, about_persons: bool) -> tuple[Kind, ...]:
    """What that field may hold as it leaves, sorted. The contract has said so, where approvers saw it:

    1. It keeps the field and says why (`justification`), and the standard let it: a field of a category
       may hold what that category means.
    2. It keeps a field that it calls open and about nobody, and says why: the field may hold what can be public
       (a station's phone, a shop's e-mail address) - but never a citizen's id, a passport, an image or a template.
       Data about no person may hold series of numbers too, which otherwise look like a face turned into numbers.
    """
    if not isinstance(mask, Keep) or not mask.justification:
        return ()
    kinds = {kind for kind in Kind if kind == field.category}
    if field.classification == Tier.OPEN and field.identifiability == Identifiability.NONE:
        kinds |= _EXCUSABLE if about_persons else _EXCUSABLE | {Kind.VECTOR}
    return tuple(sorted(kinds))


def can_hold(mask: AnyTechnique, output: DType) -> bool:
    """Whether anything a detector means can be in what that mask makes. False only where the mask proves it:
    by its alphabet, by its length, or because all its words stand in the contract itself. What is enciphered
    may look like a phone number or a card (`ff1` is for that), and says nothing without the key."""
    match mask:
        case Hmac() | RandomId() | AesSiv() | Ff1() | Null() | Constant():
            return False
        case _ if output.kind == "list":
            return True  # what no element is long enough for, elements one after the other may be
        case Hierarchy():
            return False
        case Prefix():
            return mask.length >= _SHORTEST
        case Partial():
            # One end alone is too short, and the mask between two ends keeps them apart.
            return max(mask.keep_first, mask.keep_last) >= _SHORTEST or mask.mask_char in _JOINING
    if output.kind in ("integer", "float"):
        return output.bits >= 64  # a phone number needs 34 bits
    return output.kind in _KINDS or output.kind == "decimal"

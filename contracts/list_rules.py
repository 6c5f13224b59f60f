"""What lists may leave under, without looking at data. Bounds and classes count whole lists, and an outsider reads
elements: what elements say about persons beside that, nothing counts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from contracts.errors import Violation
from contracts.model import Field, Identifiability
from contracts.techniques import AesSiv, AnyTechnique, Ff1, Hmac

if TYPE_CHECKING:
    from contracts.plan_rules import Case

_PERSON = (Identifiability.DIRECT, Identifiability.INDIRECT)
_WHOLE = 5  # strength of the masks that leave nothing of a list but whether there was one


def violations(case: Case, quasi: tuple[str, ...]) -> Iterator[Violation]:
    """Every rule that the lists of a purpose break; `quasi` are the fields that form its classes."""
    for field, mask in case.sent:
        if field.logical_type == "array" and mask.strength < _WHOLE:
            yield from _bound(case, field)
            if field.identifiability in _PERSON and field.name not in quasi:
                message = f"rows that share an element of {field.name} would join, and no bound counts that"
                hint = "drop it, replace it whole (null, constant, random_id), or declare it a quasi-identifier"
                yield Violation(case.field_path(field.name), message, hint, code="LIST_JOINS")
            yield from _domain(case, field, mask)


def _bound(case: Case, field: Field) -> Iterator[Violation]:
    """Lists that differ may have one element in common: l, entropy and t, which count whole lists, are met, and
    everybody in the class has it."""
    require = case.purpose.effectiveness.require if case.purpose.effectiveness else None
    bounded = require is not None and any(field.name in bound for bound in (require.l, require.entropy_l, require.t))
    if field.identifiability is Identifiability.SENSITIVE:
        message = f"{field.name} is sensitive and a list: it would need an l bound, and none counts its elements"
        hint = "it cannot be sent as a list: drop it, replace it whole (null, constant), or send one value a row"
        yield Violation(case.field_path(field.name), message, hint, code="LIST_BOUND")
    elif bounded:
        message = f"{field.name} is a list, and no bound counts the elements that all lists of a class have in common"
        hint = "take the bound out, replace the list whole (null, constant), or send one value a row"
        yield Violation(case.field_path(field.name), message, hint, code="LIST_BOUND")


def _domain(case: Case, field: Field, mask: AnyTechnique) -> Iterator[Violation]:
    """Elements that are the pseudonyms of other fields link the rows of several persons, in no class."""
    if not isinstance(mask, Hmac | AesSiv | Ff1):
        return
    alike = [
        other.name
        for other, by in case.sent
        if other.name != field.name and isinstance(by, Hmac | AesSiv | Ff1) and by.domain == mask.domain
    ]
    if alike:
        message = f"elements of {field.name} would be pseudonyms of {', '.join(alike)} too, and no bound counts that"
        hint = f"give {field.name} a domain of its own"
        yield Violation(f"{case.field_path(field.name)}.domain", message, hint, code="LIST_DOMAIN")

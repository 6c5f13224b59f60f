"""The contract lint: every rule of format and standard that can be judged without the data.

    lint(contract, standard)   violations of a contract that was loaded
    check(raw)                 load and lint in one, all violations with their lines

What a purpose may send is judged by the rules that the plan compiler itself uses, so that a contract
that passes here is refused later only for what its data turns out to be.
"""

from __future__ import annotations

from collections.abc import Iterator

from contracts import odcs, plan
from contracts import standard as standards
from contracts.errors import Violation, nearest
from contracts.findings import refuse
from contracts.model import Contract, Field, Identifiability, Purpose, SharingClass
from contracts.odcs import LoadedContract
from contracts.odcs_fields import KINDS
from contracts.standard import Standard
from contracts.techniques import AesSiv, Ff1, Hmac


def check(raw: bytes, *, name: str = "contract", standard: Standard | None = None) -> LoadedContract:
    """Load a contract and lint it, by the standard that it names unless another is given.

    Raises what `odcs.load` raises, and CONTRACT_INVALID with every lint violation and its line.
    """
    loaded = odcs.load(raw, name=name)
    held_to = standards.load(loaded.contract.sharing.standard) if standard is None else standard
    found = loaded.located(lint(loaded.contract, held_to))
    refuse(name, tuple(sorted(found, key=lambda violation: violation.line or 0)))
    return loaded


def lint(contract: Contract, standard: Standard) -> tuple[Violation, ...]:
    """Everything in the contract that breaks a rule. Empty: it may be published."""
    found = list(_fields(contract, standard))
    for id, purpose in contract.purposes.items():
        refusals = plan.refusals(plan.terms_for(contract, id), contract, standard)
        # A contract may say that it is not shared; only who asks for it is refused.
        found += (refusal for refusal in refusals if refusal.code != "NOT_SHARED")
        found += _purpose(contract, id, purpose, standard)
    if contract.sharing.class_ is not SharingClass.NOT_SHARED and not contract.purposes:
        message = f"a contract of class {contract.sharing.class_} has at least one purpose"
        found.append(Violation("customProperties.purposes", message, "list a purpose", code="PURPOSES_EMPTY"))
    return tuple(dict.fromkeys(found))


def _fields(contract: Contract, standard: Standard) -> Iterator[Violation]:
    """A category is of the standard, its field is not classified lower than it, nor declared as
    something that such a column cannot be."""
    for field in contract.fields:
        if field.category is None:
            continue
        path = f"schema.{contract.table}.properties.{field.name}"
        category = standard.categories.get(field.category)
        if category is None:
            message = f"the category {field.category!r} is not in {standard.id}"
            yield Violation(path, message, nearest(field.category, standard.categories), code="CATEGORY_UNKNOWN")
            continue
        if field.classification.rank < category.least_tier.rank:
            message = f"classified {field.classification}; a {field.category} is {category.least_tier} at least"
            yield Violation(f"{path}.classification", message, f"by {standard.id}", code="TIER_TOO_LOW")
        if field.identifiability not in category.identifiability:
            allowed = ", ".join(category.identifiability)
            message = f"declared {field.identifiability}; a {field.category} can be: {allowed}"
            yield Violation(f"{path}.customProperties.identifiability", message, code="IDENTIFIABILITY_WRONG")


def _purpose(contract: Contract, id: str, purpose: Purpose, standard: Standard) -> Iterator[Violation]:
    path = f"customProperties.purposes.{id}"
    for name in purpose.fields:
        if (field := contract.field(name)) is not None:
            yield from _mask(contract, purpose, field, path)
            yield from _opened(contract, id, field, purpose)
    if purpose.effectiveness is not None:
        declared = purpose.effectiveness.quasi_identifiers
        yield from _declared(contract, purpose, declared, path, standard)
        yield from _entity(contract, purpose.effectiveness.entity, f"{path}.effectiveness.entity")
    if purpose.aggregate is not None:
        yield from _entity(contract, purpose.aggregate.entity, f"{path}.aggregate.entity")


def _mask(contract: Contract, purpose: Purpose, field: Field, path: str) -> Iterator[Violation]:
    """The mask works on some type that the field's logical type can stand for."""
    mask = purpose.fields[field.name]
    kinds = KINDS.get(field.logical_type, frozenset())
    if mask.sent and not kinds & set(mask.kinds):
        message = f"{mask.id} works on {', '.join(mask.kinds)}; this field is {field.logical_type}"
        yield Violation(f"{path}.fields.{field.name}", message, "choose another mask", code="MASK_UNFIT")
    for name in mask.reveals if mask.sent else ():
        other = contract.field(name)
        if other is not None and not KINDS.get(other.logical_type, frozenset()) & set(mask.kinds):
            message = f"{mask.id} works on {', '.join(mask.kinds)}; {name} is {other.logical_type}"
            yield Violation(f"{path}.fields.{field.name}", message, "name another field", code="MASK_UNFIT")
    time = contract.field(mask.period.field) if isinstance(mask, Hmac) and mask.period is not None else None
    if time is not None and time.logical_type not in ("date", "timestamp"):
        message = f"a period needs a date or a timestamp; {time.name} is {time.logical_type}"
        yield Violation(f"{path}.fields.{field.name}.period.field", message, code="PERIOD_UNFIT")


def _opened(contract: Contract, id: str, field: Field, purpose: Purpose) -> Iterator[Violation]:
    """What can be turned back can be opened, which takes two people of two levels: an agreement keeps its contract
    for good, so who forgot to name them could never open a value of it."""
    mask, role = purpose.fields[field.name], contract.role(id)
    if isinstance(mask, AesSiv | Ff1) and (role is None or not role.both_levels(role.approvers)):
        message = f"{mask.id} can be turned back, and {id} does not name two people, one of each level, to order it"
        hint = f"name firstLevelApprovers and secondLevelApprovers of the role {id!r}"
        yield Violation("roles", message, hint, code="REVERSIBLE_WITHOUT_LEVELS")


def _declared(
    contract: Contract, purpose: Purpose, declared: tuple[str, ...], path: str, standard: Standard
) -> Iterator[Violation]:
    """The contract names its quasi-identifiers itself: whoever approves it must see what k is counted
    over. The plan adds a forgotten one, but nobody would have agreed to the bounds that result."""
    for name, mask in purpose.fields.items():
        field = contract.field(name)
        if field is None or name in declared or not standard.counts_as_quasi(field, mask):
            continue
        if field.identifiability is Identifiability.QUASI:
            why = "is a quasi-identifier"
        elif standard.fine_amount(field, mask):
            why = f"is an amount finer than {standard.rounding.get(field.category or '', 0):g}"
        else:
            why = f"leaves a remnant of a {field.classification}, {field.identifiability} field ({mask.id})"
        message = f"'{name}' {why}, but is not declared"
        yield Violation(f"{path}.effectiveness.quasiIdentifiers", message, f"add '{name}'", code="QUASI_NOT_DECLARED")


def _entity(contract: Contract, entity: str, at: str) -> Iterator[Violation]:
    """k counts entities. Counting rows instead, by naming the row's own key, would let one person
    with ten rows pass for ten."""
    field = contract.field(entity)
    if field is None:
        return
    if field.identifiability not in (Identifiability.DIRECT, Identifiability.INDIRECT):
        message = f"'{entity}' is {field.identifiability}; what tells entities apart is direct or indirect"
        yield Violation(at, message, _persons(contract), code="ENTITY_WRONG")
    elif (
        (field.unique or field.primary_key) and field.identifiability is Identifiability.INDIRECT and _persons(contract)
    ):
        message = f"'{entity}' is unique for each row, so k would count rows, not persons"
        yield Violation(at, message, _persons(contract), code="ENTITY_IS_ROW")


def _persons(contract: Contract) -> str:
    """A hint naming the fields that tell persons apart; empty if there are none."""
    direct = [f"'{field.name}'" for field in contract.fields if field.identifiability is Identifiability.DIRECT]
    return f"persons are told apart by {' or '.join(direct[:3])}" if direct else ""

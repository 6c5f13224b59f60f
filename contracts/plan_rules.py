"""What a purpose may send, judged without looking at data: every rule that the plan compiler, the
contract lint and the dry run share.

`violations` runs them all and reports everything at once. Rules that need the source's types stand in
`contracts.plan_types`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from msgspec import Struct

from contracts import aggregate_rules, list_rules, vocabulary, whole_rules
from contracts.errors import Violation, nearest
from contracts.model import Contract, Field, Identifiability, Purpose, SharingClass, SharingModel, Tier
from contracts.standard import Standard
from contracts.techniques import AnyTechnique, Hmac, RandomId, ShiftDate

LEAST_L = 2  # fewer than two different values in a class tell the value of everyone in it

_PERSON = (Identifiability.DIRECT, Identifiability.INDIRECT)


class Case(Struct, frozen=True, kw_only=True):
    """One purpose of one contract and the fields wanted of it, held against one standard."""

    contract: Contract
    purpose: Purpose
    name: str
    fields: tuple[str, ...]
    standard: Standard

    @property
    def path(self) -> str:
        """Where the purpose stands in the document."""
        return f"customProperties.purposes.{self.name}"

    def field_path(self, name: str) -> str:
        """Where a field's mask stands in the document."""
        return f"{self.path}.fields.{name}"

    @property
    def sent(self) -> tuple[tuple[Field, AnyTechnique], ...]:
        """The fields that leave with their masks, in the contract's order: wanted, offered, known and
        not dropped. What is not here is not sent."""
        masks = self.purpose.fields
        return tuple(
            (field, mask)
            for field in self.contract.fields
            if field.name in self.fields and (mask := masks.get(field.name)) is not None and mask.sent
        )

    @property
    def declared(self) -> tuple[str, ...]:
        """The quasi-identifiers that the contract declares for this purpose."""
        return self.purpose.effectiveness.quasi_identifiers if self.purpose.effectiveness else ()


def about_persons(contract: Contract) -> bool:
    """Whether the dataset is about persons: some field of it, sent or not, plays a part in
    recognising one."""
    return any(field.identifiability != Identifiability.NONE for field in contract.fields)


def quasi_identifiers(case: Case) -> tuple[str, ...]:
    """The fields sent that form the classes, in the contract's order: declared ones, those that the
    standard counts, and `quasi` fields under a pseudonym (equal values still show as equal)."""

    def counts(field: Field, mask: AnyTechnique) -> bool:
        hashed = field.identifiability == Identifiability.QUASI and mask.joinable
        return field.name in case.declared or hashed or case.standard.counts_as_quasi(field, mask)

    return tuple(field.name for field, mask in case.sent if counts(field, mask))


def pseudonyms(case: Case) -> tuple[str, ...]:
    """The fields sent whose equal values join the rows of one person: keyed pseudonyms of a direct or
    indirect identifier, and an indirect identifier that is kept and not unique a row. Where there is
    one, k is composite."""
    quasi = quasi_identifiers(case)
    return tuple(
        field.name
        for field, mask in case.sent
        if field.identifiability in _PERSON and field.name not in quasi and joins(field, mask)
    )


def joins(field: Field, mask: AnyTechnique) -> bool:
    """Whether equal values of that field join rows under that mask: made for it, or values pass."""
    return mask.joinable or (mask.strength == 0 and not field.unique)


def violations(case: Case) -> tuple[Violation, ...]:
    """Every rule that the purpose breaks, in the order of the document. Empty: it may be sent, as far
    as can be told without the data."""
    bounds = (_bounds, _risk, _sensitive, _spread, whole_rules.violations)
    of_rows = (_floors, _grounds, _periods, _read, _shifts, _lists, *bounds)
    kind = of_rows if case.purpose.aggregate is None else (aggregate_rules.violations, _read)
    rules = (_sharing, _fields, _names, _negative_list, _uses, *kind, _rows, _approvers)
    return tuple(found for rule in rules for found in rule(case))


def _sharing(case: Case) -> Iterator[Violation]:
    sharing = case.contract.sharing
    if sharing.class_ is SharingClass.NOT_SHARED:
        basis = sharing.legal_basis or "not stated"
        yield Violation("customProperties.sharing.class", f"not shared; legal basis: {basis}", code="NOT_SHARED")
    if sharing.standard != case.standard.id:
        message = f"the contract is held to {sharing.standard}, not to {case.standard.id}"
        yield Violation("customProperties.sharing.standard", message, "load that standard", code="STANDARD_OTHER")


def _fields(case: Case) -> Iterator[Violation]:
    """Wanted fields are offered, offered fields are known, and something is sent."""
    known = {field.name for field in case.contract.fields}
    for name in case.fields:
        if name not in case.purpose.fields:
            message = f"the purpose does not offer the field {name[:64]!r}"
            yield Violation(
                case.field_path(name[:64]), message, nearest(name, case.purpose.fields), code="FIELD_NOT_OFFERED"
            )
        elif name not in known:
            message = f"the schema has no field {name[:64]!r}"
            yield Violation(case.field_path(name[:64]), message, nearest(name, known), code="FIELD_UNKNOWN")
    if len(set(case.fields)) != len(case.fields):
        yield Violation(f"{case.path}.fields", "a field is named twice", code="FIELD_TWICE")
    if not case.sent:
        yield Violation(
            f"{case.path}.fields", "no field would be sent", "list one with a mask other than drop", code="NOTHING_SENT"
        )


def _floors(case: Case) -> Iterator[Violation]:
    """The standard's floors. Two of them hold whatever a standard says: what is prohibited does not
    leave, and a direct identifier is never kept."""
    bounds = case.purpose.effectiveness.require.l if case.purpose.effectiveness else {}
    for field, mask in case.sent:
        path = case.field_path(field.name)
        breaches = case.standard.breaches(field, mask, l_bound=bounds.get(field.name))
        for breach in breaches:
            yield Violation(path, breach.message, breach.why, code=f"FLOOR_{_constant(breach.floor)}")
        if breaches:
            continue
        if field.classification is Tier.PROHIBITED:
            yield Violation(path, "a prohibited field never leaves", "drop it", code="FLOOR_PROHIBITED")
        elif field.identifiability is Identifiability.DIRECT and mask.id == "keep":
            message = f"{mask.id} would send a direct identifier"
            yield Violation(path, message, "drop it, or use hmac", code="FLOOR_DIRECT_IDENTIFIER")


def _grounds(case: Case) -> Iterator[Violation]:
    """What can be turned back leaves only on a legal basis that says so."""
    known = [word for word in vocabulary.legal_bases() if word != vocabulary.ROOT_LEGAL_BASIS]
    for field, mask in case.sent:
        if mask.reversible and mask.strength > 0 and mask.grounds not in known:
            message = f"{mask.id} can be turned back, and {(mask.grounds or 'nothing')[:80]!r} is no legal basis of DPV"
            path = f"{case.field_path(field.name)}.legal_basis"
            yield Violation(path, message, nearest(mask.grounds or "", known), code="REVERSIBLE_WITHOUT_BASIS")


def _constant(words: str) -> str:
    return words.upper().replace("-", "_")


def _names(case: Case) -> Iterator[Violation]:
    """Columns of a gateway's own, beside those that leave, begin with #: hashes would take a field's place."""
    for field, _ in case.sent:
        if field.name.startswith("#"):
            message = "names that begin with # are those of a gateway's own columns"
            yield Violation(case.field_path(field.name), message, "give the column another name", code="NAME_RESERVED")


def _negative_list(case: Case) -> Iterator[Violation]:
    """Fields and combinations that never leave, in any form but dropped."""
    sent = {field.name for field, _ in case.sent} | {name for _, mask in case.sent for name in mask.reveals}
    for name in case.contract.negative_list.fields:
        if name in sent:
            yield Violation(
                case.field_path(name),
                "the negative list keeps this field in, in any form",
                "drop it",
                code="NEGATIVE_FIELD",
            )
    for number, group in enumerate(case.contract.negative_list.together):
        if group and sent.issuperset(group):
            message = f"the negative list never sends {', '.join(group)} together, in any form"
            yield Violation(f"{case.path}.fields", message, "drop one of them", code=f"NEGATIVE_TOGETHER_{number}")


def _uses(case: Case) -> Iterator[Violation]:
    """The purpose is a known one, and no kind of a use that the negative list excludes."""
    term = case.purpose.term
    if vocabulary.purpose(term) is None:
        message = f"{term[:80]!r} is not a purpose of DPV"
        yield Violation(f"{case.path}.term", message, nearest(term, vocabulary.purposes()), code="PURPOSE_TERM_UNKNOWN")
    for use in case.contract.negative_list.uses:
        if vocabulary.within(term, use):
            kind = "" if term == use else f", and {term} is a kind of it"
            yield Violation(f"{case.path}.term", f"the negative list excludes {use}{kind}", code="NEGATIVE_USE")


def _periods(case: Case) -> Iterator[Violation]:
    known = {field.name for field in case.contract.fields}
    for field, mask in case.sent:
        if isinstance(mask, Hmac) and mask.period and mask.period.field not in known:
            path, message = (
                f"{case.field_path(field.name)}.period.field",
                f"the schema has no field {mask.period.field[:64]!r}",
            )
            yield Violation(path, message, nearest(mask.period.field, known), code="PERIOD_FIELD_UNKNOWN")


def _read(case: Case) -> Iterator[Violation]:
    """What a mask reads is known. A field that shows in another's mask is judged as that other is, so the
    two must be alike."""
    known = [item.name for item in case.contract.fields]
    for field, mask in case.sent:
        path = case.field_path(field.name)
        for name in mask.reads:
            other = case.contract.field(name)
            if other is None and not isinstance(mask, Hmac):
                message = f"the schema has no field {name[:64]!r}"
                yield Violation(path, message, nearest(name, known), code="MASK_FIELD_UNKNOWN")
            if other is None or name not in mask.reveals:
                continue
            if name == field.name:
                message = f"{mask.id} needs another field besides {name}"
                yield Violation(path, message, "name the field of the longitude", code="MASK_FIELD_UNLIKE")
            elif _judged_by(other) != _judged_by(field):
                message = f"{mask.id} shows {name} too, which is not classified like {field.name}"
                hint = "give both the same classification, identifiability and category"
                yield Violation(path, message, hint, code="MASK_FIELD_UNLIKE")


def _shifts(case: Case) -> Iterator[Violation]:
    """Days are shifted by person: by anything that many share, one known date would give away all."""
    judged = case.purpose.effectiveness
    for field, mask in case.sent:
        if judged is not None and isinstance(mask, ShiftDate) and mask.entity != judged.entity:
            message = f"shift_date by {mask.entity[:64]!r}; persons are told apart by {judged.entity!r}"
            yield Violation(case.field_path(field.name), message, f"entity: {judged.entity}", code="SHIFT_ENTITY")


def _lists(case: Case) -> Iterator[Violation]:
    return list_rules.violations(case, quasi_identifiers(case))


def _judged_by(field: Field) -> tuple[object, ...]:
    return field.classification, field.identifiability, field.category


def _bounds(case: Case) -> Iterator[Violation]:
    """Data about persons leaves only under bounds that the standard holds sufficient."""
    path, judged = f"{case.path}.effectiveness", case.purpose.effectiveness
    if judged is None:
        if about_persons(case.contract):
            message = "data about persons needs bounds: sharingModel, entity, quasiIdentifiers, require.k"
            yield Violation(path, message, "declare them", code="BOUNDS_MISSING")
        return
    known = {field.name for field in case.contract.fields}
    named = {
        "entity": (judged.entity,),
        "quasiIdentifiers": judged.quasi_identifiers,
        "require.l": tuple(judged.require.l),
        "require.entropyL": tuple(judged.require.entropy_l),
        "require.t": tuple(judged.require.t),
    }
    for part, names in named.items():
        for name in names:
            if name not in known:
                message = f"the schema has no field {name[:64]!r}"
                yield Violation(f"{path}.{part}", message, nearest(name, known), code="BOUND_FIELD_UNKNOWN")
    if about_persons(case.contract) and not quasi_identifiers(case):
        message = "no field that is sent counts as a quasi-identifier, though the data is about persons"
        yield Violation(
            f"{path}.quasiIdentifiers", message, "declare those that are sent", code="QUASI_IDENTIFIERS_EMPTY"
        )
    least = case.standard.least_k(judged.sharing_model)
    if judged.require.k < least:
        message = f"k is {judged.require.k}; {judged.sharing_model} sharing needs at least {least}"
        yield Violation(
            f"{path}.require.k", message, f"{case.standard.id} tolerates a risk of 1/{least}", code="K_TOO_LOW"
        )
    for field, mask in case.sent:
        if field.name in case.declared and (
            isinstance(mask, RandomId) or (field.name == judged.entity and mask.joinable)
        ):
            message = f"{field.name} leaves as {mask.id}, one value a person or row: no class could hold k persons"
            yield Violation(
                f"{path}.quasiIdentifiers", message, "take it out; rows it joins are counted", code="QUASI_IS_PSEUDONYM"
            )
    yield from _suppression(f"{path}.require.maxSuppression", judged.on_violation, judged.require.max_suppression)


def _suppression(path: str, on_violation: str, share: float | None) -> Iterator[Violation]:
    if share is not None and not 0 <= share < 1:
        yield Violation(path, "a share is at least 0 and less than 1", "0.05 is a twentieth", code="SUPPRESSION_RANGE")
    if on_violation == "refuse" and share is not None:
        yield Violation(
            path,
            "with onViolation refuse nothing is suppressed",
            "remove it, or say suppress or propose",
            code="SUPPRESSION_CONTRADICTS",
        )
    if on_violation == "suppress" and share is None:
        yield Violation(
            path,
            "onViolation suppress needs a limit",
            "0.05 allows a twentieth of the rows",
            code="SUPPRESSION_UNBOUNDED",
        )


def _risk(case: Case) -> Iterator[Violation]:
    """A limit of the overall risk is no looser than the standard's, and can be met with the k that is
    required: under public sharing the overall risk is that of the smallest class."""
    judged = case.purpose.effectiveness
    if judged is None or (most := judged.require.max_risk) is None:
        return
    path, tolerated = f"{case.path}.effectiveness.require.maxRisk", case.standard.risk
    if most > tolerated:
        message = f"a risk of {most:g} is more than {case.standard.id} calls acceptable"
        yield Violation(path, message, f"{tolerated:g}, or less", code="RISK_TOO_HIGH")
    least = math.ceil(1 / most - 1e-9)
    if judged.sharing_model is SharingModel.PUBLIC and judged.require.k < least:
        message = f"k is {judged.require.k}; a risk of {most:g} under public sharing needs at least {least}"
        yield Violation(path, message, f"require a k of {least}", code="RISK_CONTRADICTS_K")


def _spread(case: Case) -> Iterator[Violation]:
    """A bound on how values are spread within classes needs a field that has values there, and does not
    form the classes itself."""
    judged = case.purpose.effectiveness
    if judged is None:
        return
    quasi = quasi_identifiers(case)
    for bound, fields in (("entropyL", judged.require.entropy_l), ("t", judged.require.t)):
        for field, mask in case.sent:
            if field.name not in fields:
                continue
            path = f"{case.path}.effectiveness.require.{bound}.{field.name}"
            if field.name in quasi:
                message = f"{field.name} forms the classes, so each class has one value of it"
                yield Violation(path, message, "take it out of one of the two", code="SPREAD_ON_QUASI")
            elif mask.strength == 5:
                message = f"{field.name} leaves as {mask.id}, without values that could be spread"
                yield Violation(path, message, "remove the bound", code="SPREAD_OF_NOTHING")


def _sensitive(case: Case) -> Iterator[Violation]:
    """What is sent of a sensitive field needs an l bound, and l cannot hold within classes that the
    field itself forms."""
    if case.purpose.effectiveness is None:
        return
    bounds, quasi = case.purpose.effectiveness.require.l, quasi_identifiers(case)
    for field, mask in case.sent:
        path = f"{case.path}.effectiveness.require.l.{field.name}"
        sensitive = field.identifiability is Identifiability.SENSITIVE and mask.strength < 5
        if field.name in quasi and (sensitive or field.name in bounds):
            fine = case.standard.fine_amount(field, mask)
            hint = (
                f"round it to at least {case.standard.rounding.get(field.category or '', 0):g}"
                if fine
                else "take it out of one of the two"
            )
            yield Violation(
                path, f"{field.name} forms the classes, so no class has two values of it", hint, code="L_ON_QUASI"
            )
        elif sensitive and bounds.get(field.name, 0) < LEAST_L:
            message = f"{field.name} is sensitive and sent, so l of at least {LEAST_L} is needed"
            yield Violation(path, message, "require it, or drop the field", code="L_TOO_LOW")


def _rows(case: Case) -> Iterator[Violation]:
    """A row scope tells something about every row that leaves, so it may use only what is sent."""
    sent = {field.name: (field, mask) for field, mask in case.sent}
    for name, condition in case.purpose.rows.items():
        path = f"{case.path}.rows.{name[:64]}"
        if name not in sent:
            hint = nearest(name, sent) or "send it, or drop the condition"
            yield Violation(
                path,
                "a row scope uses a field that is not sent: every row would disclose it",
                hint,
                code="ROWS_NOT_SENT",
            )
            continue
        field, mask = sent[name]
        if field.identifiability is Identifiability.SENSITIVE:
            yield Violation(
                path, "a row scope may not use a sensitive field: every row would disclose it", code="ROWS_SENSITIVE"
            )
        if condition.any_of is not None and mask.id != "keep":
            message = f"anyOf on a field that leaves as {mask.id}: every row would disclose more than its mask shows"
            yield Violation(path, message, "keep the field, or scope by another", code="ROWS_MASKED")
        if condition.any_of is None and condition.from_ is None and condition.until is None:
            yield Violation(path, "a condition needs anyOf, from or until", code="ROWS_EMPTY")
        if condition.any_of == ():
            yield Violation(path, "anyOf without a value lets no row pass", code="ROWS_EMPTY")


def _approvers(case: Case) -> Iterator[Violation]:
    """The purpose has as many approvers as its highest tier demands; a standing offer is approved by
    the signatures under the contract."""
    if case.contract.sharing.class_ is not SharingClass.CONDITIONAL or not case.sent:
        return
    tier = max((field.classification for field, _ in case.sent), key=lambda found: found.rank)
    role = case.contract.role(case.name)
    named = len({person.casefold() for person in role.approvers}) if role else 0
    if named < (needed := case.standard.approvals_needed(tier)):
        message = f"{named} approvers are named for {case.name}; its {tier} fields need {needed}"
        yield Violation("roles", message, f"add distinct people to the role {case.name!r}", code="APPROVERS_TOO_FEW")

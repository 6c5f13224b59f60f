"""The plan of a file that is masked already: its columns as they are, held to one purpose of a contract.

    of_file(contract, purpose, schema, standard) -> AsMasked

What made the file is not known: a gateway of this product, or somebody else's tool. So nothing follows from
the contract's masks but what outsiders can tell apart, and which form a pseudonym has.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from msgspec import Struct

from contracts import plan, plan_rules, residual
from contracts.dtypes import STRING, DType
from contracts.errors import Reason, SluicegateError, nearest
from contracts.model import Contract, Field, Identifiability, Tier
from contracts.plan import Plan, PlannedField
from contracts.plan_rules import Case
from contracts.plan_types import ENTITY_KINDS
from contracts.standard import Standard
from contracts.techniques import AnyTechnique, Constant, Hmac, Keep, Null, RandomId

EVERY_ROW = "#row"  # the entity of a file that does not tell persons apart: its rows


class AsMasked(Struct, frozen=True, kw_only=True):
    """A file seen through a purpose. `plan` keeps every column of it that can be sent at all, under the
    purpose's bounds; its entity is `EVERY_ROW` where no column tells persons apart. `masks` are the
    contract's, by column; `direct` names the columns that the purpose sends of direct identifiers, `strange`
    those that it does not send, `missing` the fields that it sends and the file has not."""

    plan: Plan
    masks: dict[str, AnyTechnique]
    direct: tuple[str, ...]
    strange: tuple[str, ...]
    missing: tuple[str, ...]

    @property
    def persons_known(self) -> bool:
        """Whether a column tells persons apart; else each row counts as one."""
        return self.plan.entity != EVERY_ROW

    @property
    def persons_certain(self) -> bool:
        """Whether that column has one value a person: a pseudonym that changes with the time has several."""
        mask = self.masks.get(self.plan.entity or "")
        return self.persons_known and not (isinstance(mask, Hmac) and mask.period is not None)


def of_file(contract: Contract, purpose: str, schema: Mapping[str, DType], standard: Standard) -> AsMasked:
    """The plan to judge a file of this schema by.

    Raises PLAN_REFUSED for a purpose that breaks rules itself, DATA_INVALID for a file without any column of
    the purpose, or, of data about persons, without one that forms classes.
    """
    terms = plan.terms_for(contract, purpose)
    if found := plan.refusals(terms, contract, standard):
        message = f"nothing can be held to {purpose[:64]}: {len(found)} rules are broken"
        raise SluicegateError(Reason.PLAN_REFUSED, message, found)
    case = Case(
        contract=contract,
        purpose=contract.purposes[purpose],
        name=purpose,
        fields=terms.fields,
        standard=standard,
    )
    masks = {field.name: mask for field, mask in case.sent}
    sent = [field for field, _ in case.sent if field.name in schema]
    if not sent:
        message = f"the file has no column that {purpose[:64]} sends"
        hint = f"it sends {', '.join(masks)}"
        raise SluicegateError(Reason.DATA_INVALID, f"{message}; {hint}", remedy="name the purpose of the file")
    strange = [name for name in schema if name not in masks]
    return AsMasked(
        plan=_plan(case, schema, [*(_kept(case, field, schema) for field in sent), *_others(case, schema, strange)]),
        masks={field.name: masks[field.name] for field in sent},
        direct=tuple(field.name for field in sent if field.identifiability is Identifiability.DIRECT),
        strange=tuple(strange),
        missing=tuple(name for name in masks if name not in schema),
    )


def types_of_text(contract: Contract, purpose: str, logical: Mapping[str, DType]) -> dict[str, DType]:
    """Which types the purpose's masks give to the columns of a file of text; `logical`: the type of each
    logical type. Columns that are kept are not named: they are read as the contract declares them."""
    masks, found = contract.purposes[purpose].fields, {}
    for field in contract.fields:
        mask, dtype = masks.get(field.name), logical.get(field.logical_type, STRING)
        if mask is not None and not isinstance(mask, Keep) and mask.sent and mask.accepts(dtype):
            found[field.name] = mask.resolved(dtype).produces(dtype)
    return found


def form(mask: AnyTechnique) -> str | None:
    """The regular expression of what a mask of a direct identifier makes, where only the mask makes it: None for
    masks whose output has no form of its own, the empty text for those that leave no value.

    >>> form(Hmac(domain="person")), form(Null()), form(Constant(value="-"))
    ('^[0-9a-f]{32}$', '', '^\\\\x{2d}$')
    """
    match mask:
        case Hmac() | RandomId():
            return f"^[0-9a-f]{{{mask.bits // 4}}}$"
        case Null():
            return ""
        case Constant():
            return "^" + "".join(f"\\x{{{ord(sign):x}}}" for sign in str(mask.value)) + "$"
    return None


def _kept(case: Case, field: Field, schema: Mapping[str, DType]) -> PlannedField:
    persons = plan_rules.about_persons(case.contract)
    dtype = schema[field.name]
    if dtype.kind == "other":
        message = f"the column {field.name} is of type {dtype}, which is never sent"
        raise SluicegateError(Reason.DATA_INVALID, message, remedy="convert the column, or leave it out")
    if dtype.kind == "list" and field.logical_type != "array":
        message = f"the column {field.name} is one of lists, and the contract declares {field.logical_type}"
        raise SluicegateError(Reason.DATA_INVALID, message, remedy="convert the column, or leave it out")
    return PlannedField(
        name=field.name,
        technique=Keep(),
        source=dtype,
        output=dtype,
        identifiability=field.identifiability,
        tier=field.classification,
        may_hold=residual.excused(field, case.purpose.fields[field.name], about_persons=persons),
    )


def _others(case: Case, schema: Mapping[str, DType], names: Iterable[str]) -> list[PlannedField]:
    """Columns that the purpose does not send: looked through for identifiers, and told."""
    found = []
    for name in names:
        known = case.contract.field(name)
        if schema[name].kind != "other":
            found.append(
                PlannedField(
                    name=name,
                    technique=Keep(),
                    source=schema[name],
                    output=schema[name],
                    identifiability=known.identifiability if known else Identifiability.NONE,
                    tier=known.classification if known else Tier.OPEN,
                )
            )
    return found


def _plan(case: Case, schema: Mapping[str, DType], fields: list[PlannedField]) -> Plan:
    judged, require = case.purpose.effectiveness, None
    quasi = tuple(name for name in plan_rules.quasi_identifiers(case) if name in schema)
    if judged is not None:
        require = judged.require
        if not quasi:
            wanted = plan_rules.quasi_identifiers(case)
            message = f"the file has no column that forms classes; {case.name} forms them by {', '.join(wanted)}"
            hint = nearest(wanted[0], schema) if wanted else ""
            raise SluicegateError(Reason.DATA_INVALID, message, remedy=hint or "name the purpose of the file")
    sent = {name for name, mask in case.purpose.fields.items() if mask.sent and name in schema}
    small = case.purpose.whole_release.suppress_small
    if small is not None and (missing := [name for name in small.fields if name not in schema]):
        message = f"the file has no column {missing[0]}, by which {case.name} leaves out small classes"
        raise SluicegateError(Reason.DATA_INVALID, message, remedy="name the purpose of the file")
    nothing = "sha256:" + "0" * 64  # no agreement stands behind a file
    return Plan(
        agreement_digest=nothing,
        document_digest=case.contract.document_digest,
        terms_digest=case.contract.terms_digest,
        standard_digest=case.standard.digest,
        dataset=case.contract.dataset,
        purpose=case.name,
        fields=tuple(fields),
        read=tuple(field.name for field in fields),
        entity=_entity(case, schema) if judged else None,
        quasi_identifiers=quasi if judged else (),
        sensitive={name: least for name, least in require.l.items() if name in sent} if require else {},
        entropy={name: least for name, least in require.entropy_l.items() if name in sent} if require else {},
        t={name: most for name, most in require.t.items() if name in sent} if require else {},
        pseudonyms=tuple(name for name in plan_rules.pseudonyms(case) if name in schema) if judged else (),
        k=require.k if require else None,
        tau=case.standard.tau(judged.sharing_model) if judged else None,
        tolerated=case.standard.risk,
        max_risk=require.max_risk if require else None,
        max_suppression=require.max_suppression if require else None,
        on_violation=judged.on_violation if judged else "refuse",
        sharing_model=judged.sharing_model if judged else None,
        rows={},  # whatever is in the file is judged
        refresh=case.purpose.refresh,
        order="keyed" if judged or small else "source",
        suppress_small=small,
    )


def _entity(case: Case, schema: Mapping[str, DType]) -> str:
    """The column that tells persons apart: the contract's, where the file has it and its mask, if the purpose
    sends it, lets equal values stay equal and others apart."""
    name = case.purpose.effectiveness.entity if case.purpose.effectiveness else EVERY_ROW
    mask = case.purpose.fields.get(name)
    alike = mask is None or not mask.sent or mask.joinable or mask.strength == 0
    return name if alike and name in schema and schema[name].kind in ENTITY_KINDS else EVERY_ROW

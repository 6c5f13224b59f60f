"""The plan: an agreement compiled against the data's schema. What a gateway carries out, to the letter.

    compile(terms_of(agreement), contract, schema, standard) -> Plan     or PLAN_REFUSED, every reason

A field that is not listed is not sent. The plan holds no key; its digest is pinned by intent and
receipt, so what was done can be compared with what was agreed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec
from msgspec import Struct

from contracts import aggregate_plan, aggregate_rules, canonical, plan_rules, plan_types, residual
from contracts.aggregate_plan import PlannedAggregate
from contracts.agreement import Agreement
from contracts.dtypes import DType
from contracts.errors import Reason, SluicegateError, Violation, nearest
from contracts.model import Contract, Identifiability, RowCondition, SharingModel, Tier
from contracts.receipt import FieldTreatment
from contracts.standard import Standard
from contracts.techniques import AnyTechnique, Sample, SuppressSmall


class PlanTerms(Struct, frozen=True, kw_only=True):
    """What an agreement says about a plan. Digests are empty where there is no agreement yet."""

    purpose: str
    fields: tuple[str, ...]
    agreement_digest: str = ""
    terms_digest: str = ""
    standard_digest: str = ""
    gateway: str = ""


def terms_of(agreement: Agreement) -> PlanTerms:
    """The terms of a signed agreement."""
    return PlanTerms(
        purpose=agreement.purpose,
        fields=agreement.fields,
        agreement_digest=canonical.digest(msgspec.to_builtins(agreement)),
        terms_digest=agreement.terms_digest,
        standard_digest=agreement.standard_digest,
        gateway=agreement.gateway,
    )


def terms_for(contract: Contract, purpose: str) -> PlanTerms:
    """The terms of everything that a purpose offers, without an agreement: for lint and dry run. An
    unknown purpose offers nothing, which `compile` reports."""
    found = contract.purposes.get(purpose)
    return PlanTerms(purpose=purpose, fields=tuple(found.fields) if found else ())


class PlannedField(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One column that is sent: its mask with every default written out, the type read and the type
    sent. `may_hold` names what detectors may find in it (`contracts.residual`), by what the contract says."""

    name: str
    technique: AnyTechnique
    source: DType
    output: DType
    identifiability: Identifiability
    tier: Tier
    may_hold: tuple[str, ...] = ()

    @property
    def treatment(self) -> FieldTreatment:
        """How the receipt says it: technique and parameters (never a key), and the type sent."""
        technique: dict[str, Any] = msgspec.to_builtins(self.technique)
        return FieldTreatment(name=self.name, technique=technique, type=str(self.output))


class Plan(Struct, frozen=True, kw_only=True):
    """Exactly what one agreement sends of one source.

    `fields` are the columns sent, in the contract's order; `read` the columns needed for that.
    `entity` tells persons apart and is read even when it is not sent. Classes are formed by
    `quasi_identifiers`; where `pseudonyms` are sent, by the whole set of tuples that one pseudonym
    joins (composite k). `sensitive` maps each sensitive field sent to its required l, `entropy` and `t`
    those that have such a bound to it. `k` and `entity` are None only for data about no person. `tau` and
    `tolerated` are the standard's: the highest risk of one class, and of a release that it calls
    acceptable; `max_risk` is the contract's own limit of the latter. `rows` is the row scope on values
    before masking, `sample` who of it leaves at all. `order` is `keyed` for data about persons, so that two
    recipients cannot zip their rows, and where `suppress_small` leaves rows out, so that nobody sees where.

    Of an aggregate `fields` are the columns that form groups, `measured` those whose values are added up, and
    `aggregate` says how; there are no bounds on rows then, because no row leaves.
    """

    agreement_digest: str
    document_digest: str
    terms_digest: str
    standard_digest: str
    dataset: str
    purpose: str
    fields: tuple[PlannedField, ...]
    read: tuple[str, ...]
    entity: str | None
    quasi_identifiers: tuple[str, ...]
    sensitive: dict[str, int]
    entropy: dict[str, float]
    t: dict[str, float]
    pseudonyms: tuple[str, ...]
    k: int | None
    tau: float | None
    tolerated: float
    max_risk: float | None
    max_suppression: float | None
    on_violation: Literal["suppress", "refuse", "propose"]
    sharing_model: SharingModel | None
    rows: dict[str, RowCondition]
    refresh: str
    order: Literal["keyed", "source"]
    measured: tuple[PlannedField, ...] = ()
    aggregate: PlannedAggregate | None = None
    sample: Sample | None = None
    suppress_small: SuppressSmall | None = None

    @property
    def digest(self) -> str:
        """`sha256:<hex>` of the plan's canonical JSON. What only some plans have is left out of
        others', so that their digests stay what they were."""
        stated = msgspec.to_builtins(self)
        if self.aggregate is None:
            del stated["aggregate"], stated["measured"]
        for name in ("sample", "suppress_small"):
            if stated[name] is None:
                del stated[name]
        return canonical.digest(stated)

    @property
    def composite(self) -> bool:
        """Whether k is counted over the tuples that a pseudonym joins."""
        return bool(self.pseudonyms)

    @property
    def alone(self) -> bool:
        """Whether it suppresses, or adds chance, so that other rows of the same days would undo it, and is about no
        person, so that nothing compares it with other releases: its recipient has none beside it."""
        if self.entity is not None or self.aggregate is not None:
            return False
        return self.suppress_small is not None or any(field.technique.randomised for field in self.fields)

    @property
    def lots(self) -> bool:
        """Whether something of it is drawn once for its recipient, under whichever agreement: a sample of entities, or
        numbers that follow from a person."""
        return self.sample is not None or any(field.technique.randomised for field in self.fields)

    def field(self, name: str) -> PlannedField | None:
        """The field sent under that name, or None."""
        return next((field for field in self.fields if field.name == name), None)


def compile(terms: PlanTerms, contract: Contract, schema: Mapping[str, DType], standard: Standard) -> Plan:
    """Compile the terms against the source's types.

    1. The contract is the agreed one, under the agreed standard, and has the purpose.
    2. Every rule of `plan_rules` holds, and every one of `plan_types` on this schema.
    3. Masks are written out and the columns to read are settled.

    Raises PLAN_REFUSED with every violation of steps 1 and 2 at once.
    """
    found = refusals(terms, contract, standard, schema)
    if found:
        raise SluicegateError(
            Reason.PLAN_REFUSED,
            f"{contract.dataset} cannot be sent for {terms.purpose[:64]}: {len(found)} rules are broken",
            found,
            {"dataset": contract.dataset, "purpose": terms.purpose[:64]},
        )
    return _plan(_case(terms, contract, standard), terms, schema)


def refusals(
    terms: PlanTerms, contract: Contract, standard: Standard, schema: Mapping[str, DType] | None = None
) -> tuple[Violation, ...]:
    """Everything that stands in the way, without compiling. Without a schema, what can be told
    without the data: the exchange and the contract lint ask so."""
    found = list(_bindings(terms, contract, standard))
    if terms.purpose not in contract.purposes:
        message = f"the contract has no purpose {terms.purpose[:64]!r}"
        hint = nearest(terms.purpose, contract.purposes)
        return (*found, Violation("customProperties.purposes", message, hint, code="PURPOSE_UNKNOWN"))
    case = _case(terms, contract, standard)
    found += plan_rules.violations(case)
    if schema is not None:
        found += plan_types.violations(case, schema)
    return tuple(found)


def _bindings(terms: PlanTerms, contract: Contract, standard: Standard) -> list[Violation]:
    found = []
    if terms.terms_digest and terms.terms_digest != contract.terms_digest:
        message = "the contract's terms are not those that were agreed"
        found.append(Violation("contract", message, "load the contract that the agreement names", code="TERMS_OTHER"))
    if terms.standard_digest and terms.standard_digest != standard.digest:
        message = "the standard is not the one that was agreed"
        found.append(
            Violation("standard", message, "load the standard that the agreement names", code="STANDARD_OTHER")
        )
    return found


def _case(terms: PlanTerms, contract: Contract, standard: Standard) -> plan_rules.Case:
    return plan_rules.Case(
        contract=contract,
        purpose=contract.purposes[terms.purpose],
        name=terms.purpose,
        fields=terms.fields,
        standard=standard,
    )


def _plan(case: plan_rules.Case, terms: PlanTerms, schema: Mapping[str, DType]) -> Plan:
    judged = case.purpose.effectiveness
    persons = plan_rules.about_persons(case.contract)
    sent = tuple(
        PlannedField(
            name=field.name,
            technique=settled,
            source=schema[field.name],
            output=settled.produces(schema[field.name]),
            identifiability=field.identifiability,
            tier=field.classification,
            may_hold=residual.excused(field, settled, about_persons=persons),
        )
        for field, mask in case.sent
        for settled in (plan_types.settled(case, mask, schema[field.name], schema),)
    )
    noisy, whole = case.purpose.aggregate, case.purpose.whole_release
    columns = tuple(field for field in sent if aggregate_rules.is_group(case.purpose, field.name))
    names = {field.name for field in sent}
    return Plan(
        agreement_digest=terms.agreement_digest,
        document_digest=case.contract.document_digest,
        terms_digest=case.contract.terms_digest,
        standard_digest=case.standard.digest,
        dataset=case.contract.dataset,
        purpose=case.name,
        fields=columns,
        # Rows are counted even where every field leaves as nulls, so one column is read at least.
        read=plan_types.needed(case) or (sent[0].name,),
        entity=judged.entity if judged else None,
        quasi_identifiers=plan_rules.quasi_identifiers(case) if noisy is None else (),
        sensitive={name: least for name, least in judged.require.l.items() if name in names} if judged else {},
        entropy={name: least for name, least in judged.require.entropy_l.items() if name in names} if judged else {},
        t={name: most for name, most in judged.require.t.items() if name in names} if judged else {},
        pseudonyms=plan_rules.pseudonyms(case) if noisy is None else (),
        k=judged.require.k if judged else None,
        tau=case.standard.tau(judged.sharing_model) if judged else None,
        tolerated=case.standard.risk,
        max_risk=judged.require.max_risk if judged else None,
        max_suppression=judged.require.max_suppression if judged else None,
        on_violation=judged.on_violation if judged else "refuse",
        sharing_model=judged.sharing_model if judged else None,
        rows=dict(case.purpose.rows),
        refresh=case.purpose.refresh,
        order="source" if judged is None and whole.suppress_small is None else "keyed",
        measured=tuple(field for field in sent if field not in columns),
        aggregate=None
        if noisy is None
        else aggregate_plan.planned(noisy, case.purpose.fields, tuple(field.name for field in columns)),
        sample=whole.sample,
        suppress_small=whole.suppress_small,
    )

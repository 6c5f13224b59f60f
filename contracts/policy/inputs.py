"""What the policy is asked, built from the product's own values: one function an action.

Every key is always there; `null` only where the policy's table allows it. Instants are epoch seconds,
durations whole seconds from `now` on. Sets of field names are objects `{name: true}`, because Rego
reads those as sets at once. The plan comes as groups of fields that share their facts: tier,
identifiability, what is done to them. Keys stand in the order in which the policy asks for them most:
one engine looks through an object from its first key on.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import msgspec
from msgspec import Struct

from contracts import aggregate_plan, instants, plan_rules, vocabulary
from contracts import standard as standards
from contracts.agreement import Agreement, Approval, Request
from contracts.envelope import Envelope
from contracts.errors import Reason, SluicegateError, nearest
from contracts.model import Contract, Identifiability, Tier
from contracts.papers import Aggregated
from contracts.plan import Plan
from contracts.policy.engine import plain
from contracts.standard import Standard
from contracts.technique import Family
from contracts.techniques import AnyTechnique, Sample, SuppressSmall

Input = dict[str, Any]

AGGREGATED = "aggregated"  # what is done to a field of which only groups and noisy totals leave


class Subject(Struct, frozen=True):
    """Who asks: a person or service of a party, in the roles that the party registered."""

    party: str
    kind: str
    subject: str
    roles: tuple[str, ...]


class KeptRequest(Protocol):
    """A request as the exchange keeps it: the signed paper, the signed approvals so far, its state."""

    @property
    def state(self) -> str:
        """SUBMITTED, APPROVED, REJECTED or CANCELLED."""
        ...

    @property
    def statement(self) -> bytes:
        """The signed request, verified when it came in."""
        ...

    @property
    def approvals(self) -> tuple[bytes, ...]:
        """The signed approvals, verified when they came in."""
        ...


def publish(
    subject: Subject, contract: Contract, *, signers: Iterable[str], now: int, standard: Standard | None = None
) -> Input:
    """May the subject publish this contract? `signers` are the approvers whose keys signed it."""
    held = standard or standards.load(contract.sharing.standard)
    purposes = [
        _purpose(contract, name, tuple(offer.fields), None, held, now) for name, offer in contract.purposes.items()
    ]
    stated = {**_contract(contract), "signers": sorted(signers)}
    return {"now": now, "subject": _subject(subject), "contract": stated, "purposes": purposes}


def request(
    subject: Subject, contract: Contract, asked: Request, *, now: int, standard: Standard | None = None
) -> Input:
    """May the subject ask for this? Raises REQUEST_OUTSIDE_CONTRACT for a purpose not in the contract."""
    return {
        "purpose": _purpose(contract, asked.purpose, asked.fields, None, standard, now),
        "request": _request(contract, asked, now),
        "contract": _contract(contract),
        "subject": _subject(subject),
        "now": now,
    }


def approve(
    subject: Subject, contract: Contract, kept: KeptRequest, *, now: int, standard: Standard | None = None
) -> Input:
    """May the subject approve this request? Papers are read, not verified: that is the caller's part."""
    asked = msgspec.convert(Envelope.from_bytes(kept.statement).payload, Request)
    approvers = [msgspec.convert(Envelope.from_bytes(raw).payload, Approval).approver for raw in kept.approvals]
    stated = request(subject, contract, asked, now=now, standard=standard)
    return {**stated, "request": {**stated["request"], "state": kept.state, "approvals": approvers}}


def transfer(
    subject: Subject,
    contract: Contract,
    agreement: Agreement,
    state: str,
    plan: Plan | None,
    now: int,
    *,
    standard: Standard | None = None,
) -> Input:
    """May this agreement be served now? The gateway passes its compiled plan; the exchange, which knows
    no schema, None: then the plan is what the contract says."""
    return Standing(contract, agreement, plan, standard).at(subject, state, now)


class Standing:
    """What is asked about an agreement whenever it is to be served; made once for all those times."""

    def __init__(
        self, contract: Contract, agreement: Agreement, plan: Plan | None, standard: Standard | None = None
    ) -> None:
        purpose = _purpose(contract, agreement.purpose, agreement.fields, plan, standard, 0)
        self._purpose = {**purpose, "plan": plain(purpose["plan"])}
        self._retention = purpose["retention"]
        self._agreement = {
            "fields": plain(_leaving(contract, agreement.purpose, agreement.fields)),
            "consumer": agreement.consumer,
            "approvals": list(agreement.approvals),
            "not_before": instants.epoch(agreement.not_before),
            "not_after": instants.epoch(agreement.not_after),
            "provider": agreement.provider,
            "dataset": agreement.dataset,
            "purpose": agreement.purpose,
            "document_digest": agreement.document_digest,
            "terms_digest": agreement.terms_digest,
        }
        self._contract = plain(_contract(contract))

    def at(self, subject: Subject, state: str, now: int) -> Input:
        """The whole question: who asks, and how the agreement stands at `now`."""
        return {
            "purpose": {**self._purpose, "retention_seconds": _lasts(self._retention, now)},
            "agreement": {**self._agreement, "state": state},
            "contract": self._contract,
            "subject": _subject(subject),
            "now": now,
        }


def ledger_read(subject: Subject, parties: Sequence[str], *, now: int) -> Input:
    """May the subject read the entries that concern these parties? `("*",)` asks for all."""
    return {"now": now, "subject": _subject(subject), "entries": {"parties": list(parties)}}


def _subject(subject: Subject) -> Input:
    return {"party": subject.party, "kind": str(subject.kind), "name": subject.subject, "roles": list(subject.roles)}


def _contract(contract: Contract) -> Input:
    owed, never = contract.obligations, contract.negative_list
    return {
        "sharing": {"class": contract.sharing.class_.value, "legal_basis": contract.sharing.legal_basis},
        "negative": {
            "fields": list(never.fields),
            "together": [list(some) for some in never.together],
            "uses": list(never.uses),
        },
        "terms_digest": contract.terms_digest,
        "document_digest": contract.document_digest,
        "provider": contract.provider,
        "dataset": contract.dataset,
        "version": contract.version,
        "obligations": {
            "onward_sharing": owed.onward_sharing,
            "reidentification": owed.reidentification,
            "deletion_proof": owed.deletion_proof,
            "breach_notice": owed.breach_notice,
        },
    }


def _request(contract: Contract, asked: Request, now: int) -> Input:
    """Fields that the purpose does not offer stay in, so that the policy names them."""
    masks = contract.purposes[asked.purpose].fields
    wanted = [name for name in asked.fields if name not in masks or masks[name].sent]
    return {
        "consumer": asked.consumer,
        "requester": asked.requester,
        "terms_digest": asked.terms_digest,
        "fields": _names(wanted),
        "duration_seconds": _lasts(asked.duration, now),
        "reason": asked.reason,
    }


def _purpose(
    contract: Contract, name: str, fields: Sequence[str], plan: Plan | None, standard: Standard | None, now: int
) -> Input:
    offer = contract.purposes.get(name)
    if offer is None:
        hint = nearest(name, contract.purposes)
        raise SluicegateError(Reason.REQUEST_OUTSIDE_CONTRACT, f"the contract has no purpose {name[:64]!r}; {hint}")
    term, role = vocabulary.purpose(offer.term), contract.role(name)
    return {
        "plan": _compiled(plan) if plan is not None else _stated(contract, name, tuple(fields), standard),
        "geography": {"allowed": list(offer.geography.allowed), "cross_border": offer.geography.cross_border},
        "consumers": list(offer.consumers),
        "ancestors": sorted({term.id, *term.ancestors}) if term else [],
        "retention_seconds": _lasts(offer.retention, now),
        "id": name,
        "term": offer.term,
        "fields": _leaving(contract, name, tuple(offer.fields)),
        "legal_basis": offer.legal_basis,
        "retention": offer.retention,
        "approvers": list(role.approvers) if role else [],
    }


def _compiled(plan: Plan) -> Input:
    """The plan as compiled against the data."""
    return {
        "groups": _groups(
            (
                (field.name, field.tier, field.identifiability, field.technique)
                for field in (*plan.fields, *plan.measured)
            ),
            aggregated=plan.aggregate is not None,
        ),
        "bounds": _noise(plan.aggregate.stated)
        if plan.aggregate is not None
        else None
        if plan.k is None or plan.entity is None
        else {
            "quasi_identifiers": _names(plan.quasi_identifiers),
            "entity": plan.entity,
            "k": plan.k,
            "l": dict(plan.sensitive),
            "sharing_model": str(plan.sharing_model),
            "on_violation": plan.on_violation,
            "max_suppression": plan.max_suppression,
        },
        "purpose": plan.purpose,
        "terms_digest": plan.terms_digest,
        "compiled": True,
        **_whole(plan.sample, plan.suppress_small),
    }


def _stated(contract: Contract, name: str, fields: tuple[str, ...], standard: Standard | None) -> Input:
    """The plan as far as the contract tells it: everything but types."""
    offer = contract.purposes[name]
    held = standard or standards.load(contract.sharing.standard)
    case = plan_rules.Case(contract=contract, purpose=offer, name=name, fields=fields, standard=held)
    sent = {field.name for field, _ in case.sent}
    judged = offer.effectiveness
    return {
        "groups": _groups(
            ((field.name, field.classification, field.identifiability, mask) for field, mask in case.sent),
            aggregated=offer.aggregate is not None,
        ),
        "bounds": _noise(aggregate_plan.stated(offer.aggregate, offer.fields))
        if offer.aggregate is not None
        else None
        if judged is None
        else {
            "quasi_identifiers": _names(plan_rules.quasi_identifiers(case)),
            "entity": judged.entity,
            "k": judged.require.k,
            "l": {field: least for field, least in judged.require.l.items() if field in sent},
            "sharing_model": judged.sharing_model.value,
            "on_violation": judged.on_violation,
            "max_suppression": judged.require.max_suppression,
        },
        "purpose": name,
        "terms_digest": contract.terms_digest,
        "compiled": False,
        **_whole(offer.whole_release.sample, offer.whole_release.suppress_small),
    }


def _whole(sample: Sample | None, small: SuppressSmall | None) -> Input:
    """What is done to the release as a whole; null for nothing."""
    return {
        "sample": sample and {"entity": sample.entity, "rate": sample.rate},
        "suppress_small": small
        and {"fields": _names(small.fields), "k": small.k, "max_suppression": small.max_suppression},
    }


def _noise(stated: Aggregated) -> Input:
    """What stands for bounds where no row leaves: epsilon in 10^-6, delta in 10^-12."""
    return {
        "entity": stated.entity,
        "micro_epsilon": stated.micro_epsilon,
        "pico_delta": stated.pico_delta,
        "budget_micro_epsilon": stated.budget_micro_epsilon,
        "budget_pico_delta": stated.budget_pico_delta,
        "most_groups": stated.most_groups,
        "most_rows": stated.most_rows,
    }


def _groups(
    fields: Iterable[tuple[str, Tier, Identifiability, AnyTechnique]], *, aggregated: bool = False
) -> list[Input]:
    """Fields that share all their facts stand together."""
    groups: dict[tuple[str, str, str, bool], list[str]] = {}
    for name, tier, identifiability, mask in fields:
        justified = not aggregated and mask.reversible and bool(mask.grounds)
        done = AGGREGATED if aggregated else treatment(mask)
        groups.setdefault((tier.value, identifiability.value, done, justified), []).append(name)
    return [
        {
            "fields": _names(names),
            "treatment": done,
            "tier": tier,
            "identifiability": identifiability,
            "justified": justified,
        }
        for (tier, identifiability, done, justified), names in sorted(groups.items())
    ]


def treatment(mask: AnyTechnique) -> str:
    """What a mask does, in the policy's words: kept, encrypted, removed, pseudonym or coarsened."""
    if mask.strength == 0:
        return "kept"
    if mask.reversible:
        return "encrypted"
    return {Family.SUPPRESSION: "removed", Family.PSEUDONYM: "pseudonym"}.get(mask.family, "coarsened")


def _leaving(contract: Contract, purpose: str, fields: Sequence[str]) -> dict[str, bool]:
    """The fields without those whose mask drops the column: promised is only what leaves."""
    offer = contract.purposes.get(purpose)
    masks = offer.fields if offer else {}
    return _names(name for name in fields if name not in masks or masks[name].sent)


def _names(names: Iterable[str]) -> dict[str, bool]:
    return dict.fromkeys(names, True)


def _lasts(duration: str, now: int) -> int:
    """Seconds that an ISO 8601 duration lasts from now on."""
    return instants.duration(duration).after(now) - now

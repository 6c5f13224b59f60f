"""Requests: a signed wish for data, checked against the contract at once, then decided by people.

    SUBMITTED -> APPROVED (an agreement is drafted) | REJECTED | CANCELLED

Unconditional sharing is a standing offer: its requests are approved as they arrive. Everything else
needs as many distinct approvers of the contract's own list as its highest tier demands, and never the
person who asks. A refusal stands in the ledger before the caller hears of it.
"""

from __future__ import annotations

import re

from msgspec.structs import replace

from contracts import agreement as law
from contracts import lifecycle, model, requesting
from contracts.envelope import Envelope, Kind
from contracts.errors import Reason, SluicegateError, Violation
from contracts.model import SharingClass
from contracts.policy import inputs
from contracts.policy.engine import Action
from contracts.trust import CertifiedKey, Use
from exchange import access, agreements, beside, decisions, ledger, paging, papers, records
from exchange.hall import Hall
from exchange.identity import Principal
from exchange.paging import Page
from exchange.records import Call, Request
from exchange.store import Tx, match_etag

_NAME = re.compile(r"requests/r-[a-z2-7]{10}")
_STATES = ("SUBMITTED", "APPROVED", "REJECTED", "CANCELLED")


def get(hall: Hall, principal: Principal, name: str) -> Request:
    """One request that the caller's party made or decides. Raises NOT_FOUND."""
    with hall.store.read() as tx:
        return access.find(tx, Request, name, principal)


def list_(
    hall: Hall, principal: Principal, *, state: str = "", page_size: int = 0, page_token: str = ""
) -> Page[Request]:
    """The requests of the caller's party, newest first; of one state where given.

    Raises INVALID_ARGUMENT, PAGE_TOKEN_INVALID.
    """
    if state and state not in _STATES:
        raise SluicegateError(Reason.INVALID_ARGUMENT, f"state must be one of {', '.join(_STATES)}, or empty for all")
    with hall.store.read() as tx:
        return paging.page(
            hall,
            tx,
            Request,
            principal,
            verb="requests.list",
            arguments={"state": state},
            page_size=page_size,
            page_token=page_token,
            where={"state": state} if state else None,
            either=access.concerned(principal),
        )


# --- asking


def create(hall: Hall, principal: Principal, call: Call | None, statement: Envelope) -> Request:
    """Take a signed request. It must name the caller, its party and the contract's current terms.

    Checked in this order: signature; dataset (NOT_FOUND when the caller may not see it); terms
    (ETAG_MISMATCH); NOT_SHARED; what the contract offers (REQUEST_OUTSIDE_CONTRACT, each violation
    saying what would pass); the live agreements that it would stand beside (`beside.demand`); policy
    (POLICY_REFUSED). From NOT_SHARED on the refusal is recorded.
    """
    access.require(principal, access.REQUESTER)
    asked = papers.read(law.Request, statement)
    _own(asked, principal)
    with hall.store.transaction() as tx:
        if (done := tx.replay(call)) is not None:
            return access.find(tx, Request, done, principal)
        papers.fresh(asked.created, hall.clock(), "request")
        papers.signer(tx, hall, Kind.REQUEST, statement, principal, Use.REQUESTER)
        contract = _current_contract(tx, principal, asked)
        terms = papers.contract(tx, contract.name, contract.document_digest)
        outcome = _judge(tx, hall, principal, asked, contract, terms, statement)
        if isinstance(outcome, Request):
            tx.remember(call, outcome.name)
    return decisions.settled(outcome)


def _own(asked: law.Request, principal: Principal) -> None:
    if not _NAME.fullmatch(asked.id):
        raise SluicegateError(
            Reason.INVALID_ARGUMENT, "a request's id is requests/r- and ten characters of a-z and 2-7, chosen at random"
        )
    if (asked.consumer, asked.requester) != (principal.party, principal.subject):
        raise SluicegateError(
            Reason.INVALID_ARGUMENT,
            f"the request must name its caller: consumer {principal.party}, requester {principal.subject}",
        )
    if asked.provider == principal.party:
        raise SluicegateError(Reason.INVALID_ARGUMENT, "a party does not request its own dataset")


def _current_contract(tx: Tx, principal: Principal, asked: law.Request) -> records.Contract:
    name = f"parties/{asked.provider}/datasets/{asked.dataset}"
    dataset = tx.get(records.Dataset, name)
    if dataset is None or not {"*", principal.party} & set(dataset.consumers):
        raise access.missing(name)
    contract = tx.get(records.Contract, dataset.contract)
    if contract is None:
        raise SluicegateError(Reason.INTERNAL, f"the contract of {name} is missing from the store")
    if (asked.terms_digest, asked.document_digest) != (contract.terms_digest, contract.document_digest):
        raise SluicegateError(
            Reason.ETAG_MISMATCH,
            f"the request is not for the current contract {contract.name}: read it, then sign a new request",
            metadata={"contract": contract.name, "terms_digest": contract.terms_digest},
        )
    return contract


def _judge(
    tx: Tx,
    hall: Hall,
    principal: Principal,
    asked: law.Request,
    contract: records.Contract,
    terms: model.Contract,
    statement: Envelope,
) -> Request | SluicegateError:
    """The recorded request, or the refusal as it was recorded."""
    needed = law.approvals_needed(terms, asked.fields, hall.standard)
    try:
        _offered(hall, terms, asked, needed)
        beside.demand(tx, hall, asked, contract, terms)
        drawn = None
        if needed == 0:
            drawn = agreements.draw_up(tx, hall, request=statement, approvals=(), contract=contract, terms=terms)
    except SluicegateError as refusal:
        _note(tx, hall, "request.refused", asked, principal, decisions.refused(refusal))
        return refusal
    question = inputs.request(decisions.subject(principal), terms, asked, now=hall.clock(), standard=hall.standard)
    decision = hall.policy.decide(Action.REQUEST, question)
    if not decision.allow:
        _note(tx, hall, "request.refused", asked, principal, decisions.entry(decision))
        return decision.refusal()
    record = tx.insert(_record(hall, asked, contract, statement, needed, _others(terms, asked)))
    _note(tx, hall, "request.submitted", asked, principal, {"digest": statement.digest, **decisions.entry(decision)})
    return record if drawn is None else _approved(tx, hall, record, drawn, principal.name)


def _offered(hall: Hall, terms: model.Contract, asked: law.Request, needed: int) -> None:
    """Raise NOT_SHARED or REQUEST_OUTSIDE_CONTRACT for what the contract does not offer."""
    if terms.sharing.class_ is SharingClass.NOT_SHARED:
        basis = terms.sharing.legal_basis or "not stated"
        raise SluicegateError(
            Reason.NOT_SHARED,
            f"{asked.provider} does not share {asked.dataset}; legal basis: {basis}",
            metadata={"legal_basis": basis},
        )
    found = requesting.check(terms, asked, hall.standard)
    if found:
        raise SluicegateError(
            Reason.REQUEST_OUTSIDE_CONTRACT, f"the contract of {asked.dataset} does not offer what was asked", found
        )
    others = _others(terms, asked)
    if len(others) < needed:
        raise SluicegateError(
            Reason.REQUEST_OUTSIDE_CONTRACT,
            f"the contract names {len(others)} approvers besides the requester; these fields need {needed}",
            (
                Violation(
                    f"roles.{asked.purpose}", "too few others could approve", "let somebody else of your party ask"
                ),
            ),
        )


def _others(terms: model.Contract, asked: law.Request) -> tuple[str, ...]:
    """The approvers of the purpose, without the person who asks."""
    role = terms.role(asked.purpose)
    named = dict.fromkeys(role.approvers if role else ())
    return tuple(person for person in named if person.casefold() != asked.requester.casefold())


def _record(
    hall: Hall,
    asked: law.Request,
    contract: records.Contract,
    statement: Envelope,
    needed: int,
    approvers: tuple[str, ...],
) -> Request:
    now = hall.clock()
    return Request(
        name=asked.id,
        created=now,
        updated=now,
        provider=asked.provider,
        consumer=asked.consumer,
        requester=asked.requester,
        dataset=asked.dataset,
        contract=contract.name,
        purpose=asked.purpose,
        fields=asked.fields,
        state="SUBMITTED",
        statement=statement.to_bytes(),
        approvals_needed=needed,
        approvers=approvers if needed else (),
    )


# --- deciding


def approve(hall: Hall, principal: Principal, call: Call | None, name: str, approval: Envelope, etag: str) -> Request:
    """Add the caller's signed approval; the last one needed drafts the agreement.

    The caller is an approver whom the contract names for the purpose, has not approved yet, and is
    not the requester: neither by name nor by key, whatever party either acts for (POLICY_REFUSED, and
    recorded). The contract's terms must still be the dataset's. Raises ROLE_MISSING, STATE_WRONG,
    ETAG_MISMATCH, DIGEST_MISMATCH, SIGNATURE_INVALID, KEY_UNTRUSTED, ALREADY_EXISTS.
    """
    access.require(principal, *access.APPROVERS)
    paper = papers.read(law.Approval, approval)
    with hall.store.transaction() as tx:
        if (done := tx.replay(call)) is not None:
            return access.find(tx, Request, done, principal)
        papers.fresh(paper.created, hall.clock(), "approval")
        record = _decidable(tx, principal, name, etag, "endorse")
        contract, terms = _same_terms(tx, record)
        _bound(paper, record, principal)
        key = papers.signer(tx, hall, Kind.APPROVAL, approval, principal, Use.APPROVER)
        outcome = _endorse(tx, hall, principal, record, contract, terms, approval, key)
        if isinstance(outcome, Request):
            tx.remember(call, name)
    return decisions.settled(outcome)


def reject(hall: Hall, principal: Principal, call: Call | None, name: str, reason: str, etag: str) -> Request:
    """Refuse a request for good, for a reason that the consumer is shown. Only an approver whom the
    contract names. Raises INVALID_ARGUMENT, ROLE_MISSING, STATE_WRONG, ETAG_MISMATCH."""
    access.require(principal, *access.APPROVERS)
    why = access.reason(reason)
    with hall.store.transaction() as tx:
        if (done := tx.replay(call)) is not None:
            return access.find(tx, Request, done, principal)
        record = _decidable(tx, principal, name, etag, "reject")
        _may_decide(tx, record, principal)
        changed = replace(
            record,
            state=lifecycle.move("request", record.state, "reject"),
            reject_reason=why,
            approvers=(),
            updated=hall.clock(),
        )
        changed = tx.replace(changed, expected_version=record.version)
        _moved(tx, hall, "request.rejected", record, principal, {"reason": why})
        tx.remember(call, name)
        return changed


def cancel(hall: Hall, principal: Principal, call: Call | None, name: str, etag: str) -> Request:
    """Take an undecided request back. Only a requester of the consumer.

    Raises ROLE_MISSING, STATE_WRONG, ETAG_MISMATCH.
    """
    access.require(principal, access.REQUESTER)
    with hall.store.transaction() as tx:
        if (done := tx.replay(call)) is not None:
            return access.find(tx, Request, done, principal)
        record = access.find(tx, Request, name, principal)
        access.acts_for(principal, record.consumer, f"cancel {name}")
        match_etag(record, etag)
        state = lifecycle.move("request", record.state, "cancel")
        changed = replace(record, state=state, approvers=(), updated=hall.clock())
        changed = tx.replace(changed, expected_version=record.version)
        _moved(tx, hall, "request.cancelled", record, principal, {})
        tx.remember(call, name)
        return changed


# --- inside


def _decidable(tx: Tx, principal: Principal, name: str, etag: str, verb: str) -> Request:
    """The request, if it is the caller's party that decides it and it is still open as it was read."""
    record = access.find(tx, Request, name, principal)
    access.acts_for(principal, record.provider, f"decide {name}")
    match_etag(record, etag)
    lifecycle.move("request", record.state, verb)
    return record


def _same_terms(tx: Tx, record: Request) -> tuple[records.Contract, model.Contract]:
    """The contract of the request. Raises STATE_WRONG when the dataset's terms are others by now:
    approving would let the older ones live on."""
    contract = tx.get(records.Contract, record.contract)
    dataset = tx.get(records.Dataset, f"parties/{record.provider}/datasets/{record.dataset}")
    current = tx.get(records.Contract, dataset.contract) if dataset else None
    if contract is None or current is None:
        raise SluicegateError(Reason.INTERNAL, f"the contract of {record.name} is missing from the store")
    if current.terms_digest != contract.terms_digest:
        raise SluicegateError(
            Reason.STATE_WRONG,
            f"the terms changed since: {record.name} is for {contract.name}, the dataset now has {current.name}; "
            "reject it, and let the consumer ask again",
            metadata={"contract": current.name},
        )
    return contract, papers.contract(tx, contract.name, contract.document_digest)


def _may_decide(tx: Tx, record: Request, principal: Principal) -> None:
    """Demand an approver whom the contract names, whether or not he approved before."""
    document = papers.read(law.Request, Envelope.from_bytes(record.statement)).document_digest
    role = papers.contract(tx, record.contract, document).role(record.purpose)
    named = role.approvers if role else ()
    if principal.subject not in named or principal.subject.casefold() == record.requester.casefold():
        raise SluicegateError(
            Reason.ROLE_MISSING,
            f"{principal.subject} does not decide on {record.purpose}; who does: {', '.join(named)}",
        )


def _bound(paper: law.Approval, record: Request, principal: Principal) -> None:
    """Demand that the approval is the caller's and of exactly this signed request."""
    if paper.approver != principal.subject:
        raise SluicegateError(Reason.INVALID_ARGUMENT, f"the approval must name its caller, {principal.subject}")
    if (paper.request, paper.request_digest) != (record.name, Envelope.from_bytes(record.statement).digest):
        raise SluicegateError(
            Reason.DIGEST_MISMATCH, f"the approval is of another request: read {record.name}, then sign its digest"
        )


def _endorse(
    tx: Tx,
    hall: Hall,
    principal: Principal,
    record: Request,
    contract: records.Contract,
    terms: model.Contract,
    approval: Envelope,
    key: CertifiedKey,
) -> Request | SluicegateError:
    """The request with one more approval, or the refusal as it was recorded."""
    question = inputs.approve(decisions.subject(principal), terms, record, now=hall.clock(), standard=hall.standard)
    decision = hall.policy.decide(Action.APPROVE, question)
    refusal = decision.refusal() if not decision.allow else _same_person(record, principal, key)
    if refusal is not None:
        _moved(
            tx, hall, "approval.refused", record, principal, {**decisions.entry(decision), **decisions.refused(refusal)}
        )
        return refusal
    approvals = (*record.approvals, approval.to_bytes())
    endorsed = replace(
        record,
        approvals=approvals,
        approvers=tuple(person for person in record.approvers if person != principal.subject),
        updated=hall.clock(),
    )
    detail = {"approval": approval.digest, "given": len(approvals), "needed": record.approvals_needed}
    _moved(tx, hall, "request.endorsed", record, principal, {**detail, **decisions.entry(decision)})
    if len(approvals) < record.approvals_needed:
        return tx.replace(endorsed, expected_version=record.version)
    signed = tuple(Envelope.from_bytes(raw) for raw in approvals)
    asked = Envelope.from_bytes(record.statement)
    beside.demand(tx, hall, record, contract, terms)
    drawn = agreements.draw_up(tx, hall, request=asked, approvals=signed, contract=contract, terms=terms)
    return _approved(tx, hall, endorsed, drawn, principal.name)


def _same_person(record: Request, principal: Principal, key: CertifiedKey) -> SluicegateError | None:
    """The refusal when the approver is the requester or an earlier approver in disguise. One key is one
    person, and so is one name however it is written, under whatever party."""
    asked = Envelope.from_bytes(record.statement)
    used = papers.kids(asked) | {papers.read(law.Request, asked).holder.kid}
    for raw in record.approvals:
        used |= papers.kids(Envelope.from_bytes(raw))
    if key.key.kid not in used and principal.subject.casefold() != record.requester.casefold():
        return None
    message = (
        "this person made the request, may pull under it, or approved it already: approvals come from distinct others"
    )
    return SluicegateError(Reason.POLICY_REFUSED, message, (Violation("approver", message, code="SELF_APPROVAL"),))


def _approved(tx: Tx, hall: Hall, record: Request, drawn: Envelope, actor: str) -> Request:
    """The request as approved, with the agreement that it became."""
    state = lifecycle.move("request", record.state, "approve")
    agreement = agreements.open_(tx, hall, record, drawn, actor, live_key=beside.live_key(record))
    changed = replace(record, state=state, approvers=(), agreement=agreement.name, updated=hall.clock())
    return tx.replace(changed, expected_version=record.version)


def _note(tx: Tx, hall: Hall, event: str, asked: law.Request, principal: Principal, detail: dict[str, object]) -> None:
    about = {"dataset": f"parties/{asked.provider}/datasets/{asked.dataset}", "purpose": asked.purpose[:64]}
    ledger.append(
        tx,
        hall,
        event=event,
        resource=asked.id,
        parties=(asked.provider, asked.consumer),
        actor=principal.name,
        detail={**about, **detail},
    )


def _moved(tx: Tx, hall: Hall, event: str, record: Request, principal: Principal, detail: dict[str, object]) -> None:
    ledger.append(
        tx,
        hall,
        event=event,
        resource=record.name,
        parties=(record.provider, record.consumer),
        actor=principal.name,
        detail=detail,
    )

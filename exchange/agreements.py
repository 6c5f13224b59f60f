"""Agreements: drafted from approved requests, signed by both sides. `exchange.suspending` stops them.

    PENDING -> ACTIVE <-> SUSPENDED,  and each of them -> TERMINATED or EXPIRED

Two moves need nobody: a suspension lapses at its end, and an agreement expires at its own. Both are
computed from the clock whenever an agreement is looked at (`as_of`): no missed timer keeps a
suspension alive or a dead agreement running. The ledger's entries carry both ends.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from msgspec.structs import replace

from contracts import agreement as law
from contracts import instants, lifecycle, model
from contracts.agreement import AgreementBundle, VerifiedAgreement
from contracts.envelope import Envelope, Kind
from contracts.errors import Reason, SluicegateError
from contracts.trust import Keys, Use
from exchange import access, ledger, paging, papers, records
from exchange.hall import Hall
from exchange.identity import Principal
from exchange.memo import Memo
from exchange.paging import Page
from exchange.records import Agreement, Call
from exchange.store import Tx

STOPPED_SINCE = 24 * 3600  # seconds after its end that a gateway is still told of an agreement

# What is stored for each state that somebody may list: the clock may have moved it since.
_STORED = {
    "PENDING": ("PENDING",),
    "ACTIVE": ("ACTIVE", "SUSPENDED"),
    "SUSPENDED": ("SUSPENDED",),
    "TERMINATED": ("TERMINATED",),
    "EXPIRED": ("EXPIRED", "PENDING", "ACTIVE", "SUSPENDED"),
}
# What a record has of a suspension while there is none.
AT_LARGE: Mapping[str, Any] = {"state_reason": "", "suspended_by": "", "suspended_until": None}

_verified: Memo[VerifiedAgreement] = Memo()


def as_of(record: Agreement, now: int) -> Agreement:
    """The agreement as it stands at `now`: expired past its end, active again past its suspension."""
    if record.state in ("TERMINATED", "EXPIRED"):
        return record
    if now >= record.not_after:
        return replace(record, state="EXPIRED", live_key=None, **AT_LARGE)
    if record.state == "SUSPENDED" and record.suspended_until is not None and now >= record.suspended_until:
        return replace(record, state="ACTIVE", **AT_LARGE)
    return record


def live(record: Agreement, now: int) -> bool:
    """Whether data may be granted under it at `now`."""
    return as_of(record, now).state == "ACTIVE" and record.not_before <= now


def demand_live(record: Agreement, now: int) -> None:
    """Raises AGREEMENT_NOT_LIVE, with its state and who can change it, when nothing may be granted or served."""
    if live(record, now):
        return
    until = f" until {instants.rfc3339(record.suspended_until)}" if record.suspended_until else ""
    why = f", by {record.suspended_by}" if record.suspended_by else ""
    waits = f", waiting for the signature of {record.unsigned_parties[0]}" if record.unsigned_parties else ""
    raise SluicegateError(
        Reason.AGREEMENT_NOT_LIVE,
        f"{record.name} is {record.state}{until}{why}{waits}: nothing is granted under it",
        metadata={"agreement": record.name, "state": record.state},
    )


def get(hall: Hall, principal: Principal, name: str) -> Agreement:
    """One agreement of the caller's party, as it stands now. Raises NOT_FOUND."""
    with hall.store.read() as tx:
        return as_of(access.find(tx, Agreement, name, principal), hall.clock())


def list_(
    hall: Hall, principal: Principal, *, state: str = "", page_size: int = 0, page_token: str = ""
) -> Page[Agreement]:
    """The agreements of the caller's party, newest first; of one state where given. A page can be
    short, even empty, and still have a next one. Raises INVALID_ARGUMENT, PAGE_TOKEN_INVALID."""
    if state and state not in _STORED:
        raise SluicegateError(Reason.INVALID_ARGUMENT, f"state must be one of {', '.join(_STORED)}, or empty for all")
    now = hall.clock()
    with hall.store.read() as tx:
        page = paging.page(
            hall,
            tx,
            Agreement,
            principal,
            verb="agreements.list",
            arguments={"state": state},
            page_size=page_size,
            page_token=page_token,
            where={"state": _STORED[state]} if state else None,
            either=access.concerned(principal),
        )
    seen = (as_of(record, now) for record in page.items)
    return Page(tuple(record for record in seen if not state or record.state == state), page.next_token)


def draw_up(
    tx: Tx,
    hall: Hall,
    *,
    request: Envelope,
    approvals: tuple[Envelope, ...],
    contract: records.Contract,
    terms: model.Contract,
) -> Envelope:
    """The agreement that follows from a request and its approvals, unsigned, and verified as whoever
    is to sign it would: so nothing is drafted that no gateway would serve. Writes nothing.

    Raises what `contracts.agreement.verify_draft` raises.
    """
    now = hall.clock()
    document = papers.unsigned(
        law.draft(
            id=f"agreements/{papers.new_id('a', hall.entropy)}",
            request=request,
            approvals=approvals,
            contract=terms,
            gateway=contract.gateway.rsplit("/", 1)[-1],
            standard_digest=hall.standard.digest,
            policy_digest=hall.policy.bundle_digest,
            now=now,
        )
    )
    law.verify_draft(_assemble(tx, document, request, approvals, contract), hall.trust(), at=now)
    return document


def open_(tx: Tx, hall: Hall, request: records.Request, document: Envelope, actor: str, *, live_key: str) -> Agreement:
    """Record a drawn up agreement: PENDING, waiting for the signatures it needs.

    Under a standing offer the signed contract is the provider's signature. Whether it may be opened is for
    `exchange.beside` to say; the store has one of each `live_key`. Raises ALREADY_EXISTS.
    """
    now = hall.clock()
    drafted = papers.read(law.Agreement, document)
    standing = request.approvals_needed == 0
    record = Agreement(
        name=drafted.id,
        created=now,
        updated=now,
        provider=request.provider,
        consumer=request.consumer,
        dataset=request.dataset,
        contract=request.contract,
        request=request.name,
        purpose=request.purpose,
        fields=request.fields,
        state="PENDING",
        statement=document.to_bytes(),
        digest=document.digest,
        unsigned_parties=(request.consumer,) if standing else (request.provider, request.consumer),
        not_before=instants.epoch(drafted.not_before),
        not_after=instants.epoch(drafted.not_after),
        gateway=f"parties/{request.provider}/gateways/{drafted.gateway}",
        live_key=live_key,
    )
    tx.insert(record)
    detail = {"request": request.name, "digest": record.digest, "standing": standing, "notAfter": drafted.not_after}
    note(tx, hall, "agreement.drafted", record, actor, detail)
    return record


def sign(hall: Hall, principal: Principal, call: Call | None, name: str, statement: Envelope) -> Agreement:
    """Add the signature of the caller's party; the last one makes the agreement ACTIVE.

    The provider signs first, by an approver that the contract names; then the consumer, by a
    requester. `statement` is the document as drafted with the caller's signature, alone or beside
    those that are there. Before it becomes active the whole bundle is verified as a gateway would.
    Raises STATE_WRONG, SIGNATURE_INVALID, KEY_UNTRUSTED, DIGEST_MISMATCH.
    """
    access.require(principal, access.REQUESTER, *access.APPROVERS)
    with hall.store.transaction() as tx:
        if (done := tx.replay(call)) is not None:
            return as_of(access.find(tx, Agreement, done, principal), hall.clock())
        record = access.find(tx, Agreement, name, principal)
        now = hall.clock()
        current = as_of(record, now)
        last = len(current.unsigned_parties) == 1
        state = lifecycle.move("agreement", current.state, "activate" if last else "sign")
        use = _turn(tx, current, principal)
        stored = Envelope.from_bytes(record.statement)
        added = _added(stored, statement)
        papers.signer(tx, hall, Kind.AGREEMENT, Envelope(stored.payload, added), principal, use)
        signed = Envelope(stored.payload, (*stored.signatures, *added))
        waiting = tuple(party for party in current.unsigned_parties if party != principal.party)
        changed = replace(
            current,
            statement=signed.to_bytes(),
            unsigned_parties=waiting,
            state=state,
            updated=now,
        )
        if last:
            law.verify_bundle(_papers(tx, changed), hall.trust(), at=now)
        changed = tx.replace(changed, expected_version=record.version)
        event = "agreement.activated" if last else "agreement.signed"
        note(tx, hall, event, changed, principal.name, {"digest": record.digest, "party": principal.party})
        tx.remember(call, name)
        return changed


def bundle(hall: Hall, principal: Principal, name: str) -> AgreementBundle:
    """Every signed document behind an agreement, for verification offline. Raises NOT_FOUND."""
    with hall.store.read() as tx:
        return _papers(tx, access.find(tx, Agreement, name, principal))


def verified(tx: Tx, hall: Hall, record: Agreement) -> VerifiedAgreement:
    """A signed agreement, verified, with its parties' keys as they are now: what the papers of its
    transfers are verified against. The signatures were there when it became active, so keys that were
    revoked since do not undo them. Raises what `contracts.agreement.verify_bundle` raises."""
    at = min(hall.clock(), record.not_after - 1)

    def verify() -> VerifiedAgreement:
        return law.verify_bundle(_papers(tx, record), hall.trust(), at=at, existed_by=record.not_before)

    known = _verified.get(record.digest, verify)
    statements, revocations = _keys(tx, known.agreement)
    return dataclasses.replace(known, keys=Keys(hall.trust(), statements, revocations))


def stopped(hall: Hall, gateway: str) -> frozenset[str]:
    """Agreements of a gateway (`parties/{party}/gateways/{gateway}`) that must not be served now:
    suspended, terminated or expired. Those that ended by their own date more than a day ago are left
    out: the date is in the signed document, which the gateway reads itself."""
    now = hall.clock()
    with hall.store.read() as tx:
        known = papers.every(
            tx, Agreement, {"gateway": gateway, "state": ("ACTIVE", "SUSPENDED", "TERMINATED", "EXPIRED")}
        )
    return frozenset(
        record.name for record in known if not live(record, now) and now < record.not_after + STOPPED_SINCE
    )


def may_watch(principal: Principal, gateway: str) -> None:
    """Demand that the caller is that gateway. Raises ROLE_MISSING, or NOT_FOUND for another's."""
    access.require(principal, access.GATEWAY)
    if gateway != f"parties/{principal.party}/gateways/{principal.subject}":
        raise access.missing(gateway)


# --- inside


def note(tx: Tx, hall: Hall, event: str, record: Agreement, actor: str, detail: Mapping[str, object]) -> None:
    """The ledger's entry of what became of an agreement."""
    parties = (record.provider, record.consumer)
    ledger.append(tx, hall, event=event, resource=record.name, parties=parties, actor=actor, detail=detail)


def _turn(tx: Tx, record: Agreement, principal: Principal) -> Use:
    """The use of the key that the caller signs with, if it is the caller's turn."""
    require_side(principal, record, "sign it")
    if principal.party not in record.unsigned_parties:
        raise SluicegateError(Reason.STATE_WRONG, f"{principal.party} has signed {record.name} already")
    if principal.party != record.unsigned_parties[0]:
        raise SluicegateError(
            Reason.STATE_WRONG,
            f"{record.unsigned_parties[0]} signs {record.name} first",
            metadata={"state": record.state},
        )
    if principal.party == record.consumer:
        return Use.REQUESTER
    document = papers.read(law.Agreement, Envelope.from_bytes(record.statement))
    role = papers.contract(tx, record.contract, document.document_digest).role(record.purpose)
    if role is None or principal.subject not in role.approvers:
        raise SluicegateError(
            Reason.ROLE_MISSING, f"the contract names other approvers for {record.purpose}: one of them signs"
        )
    return Use.APPROVER


def require_side(principal: Principal, record: Agreement, what: str) -> None:
    """Raises ROLE_MISSING for all but approvers of the provider and requesters of the consumer."""
    if principal.party == record.provider:
        access.require(principal, *access.APPROVERS)
    elif principal.party == record.consumer:
        access.require(principal, access.REQUESTER)
    else:
        raise SluicegateError(Reason.ROLE_MISSING, f"only {record.provider} and {record.consumer} may {what}")


def _added(stored: Envelope, offered: Envelope) -> tuple[str, ...]:
    """The signatures that `offered` adds to the document as drafted."""
    if offered.digest != stored.digest:
        raise SluicegateError(
            Reason.DIGEST_MISMATCH,
            "what was signed is not the agreement as drafted: read it again, then sign those bytes",
        )
    return tuple(token for token in offered.signatures if token not in stored.signatures)


def _papers(tx: Tx, record: Agreement) -> AgreementBundle:
    """The bundle of a recorded agreement."""
    request = tx.get(records.Request, record.request)
    contract = tx.get(records.Contract, record.contract)
    if request is None or contract is None:
        raise SluicegateError(Reason.INTERNAL, f"papers of {record.name} are missing from the store")
    approvals = tuple(Envelope.from_bytes(raw) for raw in request.approvals)
    return _assemble(
        tx, Envelope.from_bytes(record.statement), Envelope.from_bytes(request.statement), approvals, contract
    )


def _assemble(
    tx: Tx, agreement: Envelope, request: Envelope, approvals: tuple[Envelope, ...], contract: records.Contract
) -> AgreementBundle:
    """The papers, with the keys to verify them and what follows under the agreement."""
    statements, revocations = _keys(tx, papers.read(law.Agreement, agreement))
    return AgreementBundle(
        agreement=agreement,
        request=request,
        approvals=approvals,
        contract=Envelope.from_bytes(contract.statement),
        document=contract.document.decode(),
        statements=statements,
        revocations=revocations,
    )


def _keys(tx: Tx, paper: law.Agreement) -> tuple[tuple[Envelope, ...], tuple[Envelope, ...]]:
    """Statements and revocations of the keys that can have signed something under the agreement: the
    provider's approvers and this gateway, the consumer's requesters."""
    found = (
        papers.key_papers(tx, paper.provider, use=Use.APPROVER),
        papers.key_papers(tx, paper.provider, use=Use.GATEWAY, subject=paper.gateway),
        papers.key_papers(tx, paper.consumer, use=Use.REQUESTER),
    )
    statements = tuple(one for stated, _ in found for one in stated)
    return statements, tuple(one for _, revoked in found for one in revoked)

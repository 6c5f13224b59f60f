"""What is reported about a granted transfer: intent, receipt and refusal by the gateway, acknowledgement
by the consumer.

A paper is kept exactly once. The same paper again changes nothing; another one in its place is refused
and, being evidence of two stories, recorded. A receipt is taken whatever the exchange concluded from
silence meanwhile, and under an agreement that ended: it tells what has left already.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Literal, TypeVar

from msgspec import to_builtins
from msgspec.structs import replace

from contracts import lifecycle
from contracts import receipt as law
from contracts.destruction import Destruction, verify_destruction
from contracts.envelope import Envelope
from contracts.errors import Reason, SluicegateError, Violation
from contracts.instants import SKEW, epoch
from contracts.receipt import Acknowledgement, Grant, Intent, Receipt
from contracts.revealing import Revealed, verify_revealed
from exchange import access, agreements, decisions, ledger, papers
from exchange.hall import Hall
from exchange.identity import Principal
from exchange.records import Agreement, Call, Transfer
from exchange.store import Tx
from exchange.transfer_state import agreement_of, find

DETAIL_AT_MOST = 16 * 1024  # bytes

# What a gateway says of a ticket or of itself, not of the transfer: the grant stays as good as it was,
# and who shows a used ticket again does not end the transfer that runs under it.
OF_THE_TICKET = frozenset(
    {
        Reason.GRANT_INVALID,
        Reason.GRANT_EXPIRED,
        Reason.GRANT_USED,
        Reason.TOO_MANY_TRANSFERS,
        Reason.CONTROL_PLANE_SILENT,
        Reason.AGREEMENT_NOT_LIVE,
    }
)

Slot = Literal["intent", "receipt", "acknowledgement"]
S = TypeVar("S", Agreement, Transfer)


def report_intent(hall: Hall, principal: Principal, call: Call | None, name: str, intent: Envelope) -> Transfer:
    """Keep what the gateway is about to serve, before the first row. Role: gateway, of this transfer.

    Raises NOT_FOUND, SIGNATURE_INVALID, KEY_UNTRUSTED, STATE_WRONG, and RECEIPT_INVALID when it does not
    fit the grant, or another intent is kept already (recorded). Raises AGREEMENT_NOT_LIVE, the intent being
    kept, when the agreement was stopped: the gateway need not have heard of that yet.
    """
    access.require(principal, access.GATEWAY)
    paper = papers.read(Intent, intent)
    answer, agreement = _announced(hall, principal, call, name, intent, paper)
    agreements.demand_live(agreement, hall.clock())
    return answer


def _announced(
    hall: Hall, principal: Principal, call: Call | None, name: str, intent: Envelope, paper: Intent
) -> tuple[Transfer, Agreement]:
    """The transfer with its intent, kept now or before; and its agreement, live or not."""
    with hall.store.transaction() as tx:
        record = _served_by(tx, Transfer, name, principal)
        agreement = agreement_of(tx, record)
        if (done := tx.replay(call)) is not None:
            return find(tx, hall, principal, done), agreement
        law.verify_intent(intent, agreements.verified(tx, hall, agreement), at=hall.clock())
        outcome = _kept(tx, hall, principal, record, "intent", intent)
        if outcome is None:
            _fits_grant(paper, record)
            _fits_receipt(intent, record)
            # A grant that ran out while the release was being made was used in time all the same.
            late = record.state in ("EXPIRED", "FAILED") or bool(record.receipt)
            state = record.state if late else lifecycle.move("transfer", record.state, "serve")
            detail = {"intent": intent.digest, "release": paper.release, "content": paper.content_digest}
            _note(tx, hall, "transfer.announced", record, principal, {**detail, "rows": paper.rows_out})
            outcome = _replaced(tx, hall, replace(record, intent=intent.to_bytes(), state=state))
        outcome = _answered(tx, hall, principal, call, outcome)
    return decisions.settled(outcome), agreement


def report_receipt(hall: Hall, principal: Principal, call: Call | None, name: str, receipt: Envelope) -> Transfer:
    """Keep what left, as the gateway attests it. Role: gateway, of this transfer.

    Raises NOT_FOUND, SIGNATURE_INVALID, KEY_UNTRUSTED, STATE_WRONG, and RECEIPT_INVALID when it does not
    fit grant, intent or agreement, or another receipt is kept already (recorded).
    """
    access.require(principal, access.GATEWAY)
    paper = papers.read(Receipt, receipt)
    with hall.store.transaction() as tx:
        if (done := tx.replay(call)) is not None:
            return find(tx, hall, principal, done)
        record = _served_by(tx, Transfer, name, principal)
        announced = Envelope.from_bytes(record.intent) if record.intent else None
        agreement = agreements.verified(tx, hall, agreement_of(tx, record))
        outcome = _kept(tx, hall, principal, record, "receipt", receipt)
        if outcome is None:
            law.verify_receipt(receipt, agreement, at=hall.clock(), intent=announced)
            _fits_grant(paper, record)
            verb = "complete" if paper.complete else "partial"
            state = lifecycle.move("transfer", record.state, verb)
            detail = {"receipt": receipt.digest, "release": paper.release, "content": paper.content_digest}
            counts = {
                "rows": paper.rows_out,
                "parts": len(paper.parts),
                "sent": len(paper.parts_sent),
                "begun": len(paper.parts_begun),
            }
            event = "transfer.completed" if paper.complete else "transfer.partial"
            index = _note(tx, hall, event, record, principal, {**detail, **counts})
            changed = replace(record, receipt=receipt.to_bytes(), state=state, ledger_index=index)
            outcome = _replaced(tx, hall, changed)
        outcome = _answered(tx, hall, principal, call, outcome)
    return decisions.settled(outcome)


def report_refusal(
    hall: Hall, principal: Principal, call: Call | None, name: str, reason: str, detail: str = ""
) -> Transfer:
    """Keep why the gateway did not serve, or not to the end. Role: gateway, of this transfer.

    `reason` is one of `contracts.errors.Reason`, `detail` a JSON object of figures and column names, which
    only the department's people are shown. A reason that is about the ticket shown (`OF_THE_TICKET`)
    is recorded and leaves the transfer as it is. Raises INVALID_ARGUMENT, NOT_FOUND, STATE_WRONG.
    """
    access.require(principal, access.GATEWAY)
    why, figures = _reason(reason), _figures(detail)
    with hall.store.transaction() as tx:
        if (done := tx.replay(call)) is not None:
            return find(tx, hall, principal, done)
        record = _served_by(tx, Transfer, name, principal)
        if why in OF_THE_TICKET:
            _note(tx, hall, "ticket.refused", record, principal, {"reason": why.value})
            outcome = record
        elif record.failure_reason == why.value and record.failure_detail == figures:
            outcome = record
        else:
            verb = "fail" if record.intent else "refuse"
            state = lifecycle.move("transfer", record.state, verb)
            event = "transfer.failed" if record.intent else "transfer.refused"
            _note(tx, hall, event, record, principal, {"reason": why.value})
            changed = replace(record, state=state, failure_reason=why.value, failure_detail=figures)
            outcome = _replaced(tx, hall, changed)
        answered = _answered(tx, hall, principal, call, outcome)
    return decisions.settled(answered)


def report_destruction(
    hall: Hall, principal: Principal, call: Call | None, name: str, destruction: Envelope
) -> Agreement:
    """Keep that the gateway destroyed the keys of an agreement. Role: gateway, of this agreement.

    Raises NOT_FOUND, SIGNATURE_INVALID, KEY_UNTRUSTED, and RECEIPT_INVALID when it does not fit the
    agreement, or another statement is kept already.
    """
    access.require(principal, access.GATEWAY)
    paper = papers.read(Destruction, destruction)
    with hall.store.transaction() as tx:
        record = _served_by(tx, Agreement, name, principal)
        if tx.replay(call) is not None:
            return agreements.as_of(record, hall.clock())
        if record.key_destruction not in (b"", destruction.to_bytes()):
            told = f"another statement about the keys of {name} is kept already"
            raise SluicegateError(Reason.RECEIPT_INVALID, told)
        if not record.key_destruction:
            verify_destruction(destruction, agreements.verified(tx, hall, record), at=hall.clock())
            detail = {"destruction": destruction.digest, "order": paper.order_digest}
            parties, actor = (record.provider, record.consumer), principal.name
            ledger.append(
                tx, hall, event="agreement.keys-destroyed", resource=name, parties=parties, actor=actor, detail=detail
            )
            changed = replace(record, key_destruction=destruction.to_bytes())
            record = tx.replace(changed, expected_version=record.version)
        tx.remember(call, name)
        return agreements.as_of(record, hall.clock())


def report_reveal(hall: Hall, principal: Principal, call: Call | None, name: str, revealed: Envelope) -> Agreement:
    """Keep that the gateway opens values of an agreement: who of the department, how many, of which field; for both
    sides to see. The agreement may have ended. Role: gateway, of this agreement.

    Raises NOT_FOUND, SIGNATURE_INVALID, KEY_UNTRUSTED, and RECEIPT_INVALID when it does not fit the agreement.
    """
    access.require(principal, access.GATEWAY)
    papers.read(Revealed, revealed)
    with hall.store.transaction() as tx:
        record = _served_by(tx, Agreement, name, principal)
        if tx.replay(call) is None:
            paper = verify_revealed(revealed, agreements.verified(tx, hall, record), at=hall.clock())
            detail = {
                "revealed": revealed.digest,
                "order": paper.order_digest,
                "field": paper.field,
                "count": paper.count,
                "people": list(paper.people),
                "statement": to_builtins(revealed),  # kept nowhere else: whoever has the entry can verify it
            }
            parties, actor = (record.provider, record.consumer), principal.name
            ledger.append(
                tx, hall, event="agreement.revealed", resource=name, parties=parties, actor=actor, detail=detail
            )
            tx.remember(call, name)
        return agreements.as_of(record, hall.clock())


def acknowledge(hall: Hall, principal: Principal, call: Call | None, name: str, acknowledgement: Envelope) -> Transfer:
    """Keep the consumer's word that it received what the receipt says: signed by a requester, with the
    receipt's digest and the digest recomputed over what arrived.

    Raises NOT_FOUND, ROLE_MISSING, SIGNATURE_INVALID, KEY_UNTRUSTED, STATE_WRONG (no receipt yet),
    DIGEST_MISMATCH, and RECEIPT_INVALID when another acknowledgement is kept already (recorded).
    """
    access.require(principal, access.REQUESTER)
    paper = papers.read(Acknowledgement, acknowledgement)
    with hall.store.transaction() as tx:
        if (done := tx.replay(call)) is not None:
            return find(tx, hall, principal, done)
        record = access.find(tx, Transfer, name, principal)
        access.acts_for(principal, record.consumer, f"acknowledge {name}")
        agreement = agreements.verified(tx, hall, agreement_of(tx, record))
        outcome = _kept(tx, hall, principal, record, "acknowledgement", acknowledgement)
        if outcome is None:
            state = lifecycle.move("transfer", record.state, "acknowledge")
            attested = Envelope.from_bytes(record.receipt)
            law.verify_acknowledgement(acknowledgement, attested, agreement, at=hall.clock())
            detail = {"acknowledgement": acknowledgement.digest, "receipt": paper.receipt_digest}
            _note(tx, hall, "transfer.acknowledged", record, principal, detail)
            outcome = _replaced(tx, hall, replace(record, acknowledgement=acknowledgement.to_bytes(), state=state))
        outcome = _answered(tx, hall, principal, call, outcome)
    return decisions.settled(outcome)


# --- inside


def _served_by(tx: Tx, kind: type[S], name: str, principal: Principal) -> S:
    """The transfer or agreement, if the caller is the very gateway that serves it. Raises NOT_FOUND."""
    record = tx.get(kind, name)
    if record is None or record.gateway != f"parties/{principal.party}/gateways/{principal.subject}":
        raise access.missing(name)
    return record


def _kept(
    tx: Tx, hall: Hall, principal: Principal, record: Transfer, slot: Slot, offered: Envelope
) -> Transfer | SluicegateError | None:
    """None while the slot is empty; the transfer as it is when it holds this very document; else the
    refusal, as it was recorded."""
    kept: bytes = getattr(record, slot)
    if not kept:
        return None
    held = Envelope.from_bytes(kept).digest
    if held == offered.digest:
        return record
    detail = {"paper": slot, "kept": held, "offered": offered.digest}
    _note(tx, hall, "transfer.contradicted", record, principal, detail)
    return SluicegateError(
        Reason.RECEIPT_INVALID,
        f"{record.name} has another {slot} already: {held}; both digests are in the ledger",
        metadata={"kept": held, "offered": offered.digest},
    )


def _replaced(tx: Tx, hall: Hall, changed: Transfer) -> Transfer:
    return tx.replace(replace(changed, updated=hall.clock()), expected_version=changed.version)


def _answered(
    tx: Tx, hall: Hall, principal: Principal, call: Call | None, outcome: Transfer | SluicegateError
) -> Transfer | SluicegateError:
    """Remember a call that succeeded; the transfer as its caller may see it."""
    if isinstance(outcome, SluicegateError):
        return outcome
    tx.remember(call, outcome.name)
    return find(tx, hall, principal, outcome.name)


def _note(tx: Tx, hall: Hall, event: str, record: Transfer, principal: Principal, detail: Mapping[str, object]) -> int:
    return ledger.append(
        tx,
        hall,
        event=event,
        resource=record.name,
        parties=(record.provider, record.consumer),
        actor=principal.name,
        detail={"agreement": record.agreement, **detail},
    )


def _differs(what: str, names: list[str]) -> SluicegateError:
    listed = ", ".join(names)
    return SluicegateError(
        Reason.RECEIPT_INVALID,
        f"it does not fit {what}: {listed}",
        tuple(Violation(name, f"differs from {what}") for name in names),
    )


def _fits_grant(paper: Intent | Receipt, record: Transfer) -> None:
    """Demand that a paper is about what was granted, and not dated before: its evidence would not stand."""
    grant = papers.read(Grant, Envelope.from_bytes(record.grant))
    wrong = [
        n for n in ("transfer", "agreement", "agreement_digest", "gateway") if getattr(paper, n) != getattr(grant, n)
    ]
    if grant.release not in (None, paper.release):
        wrong.append("release")
    dated = "started" if isinstance(paper, Receipt) else "created"
    if epoch(getattr(paper, dated)) < epoch(grant.issued) - SKEW:
        wrong.append(dated)
    if wrong:
        raise _differs("the grant", wrong)


def _fits_receipt(intent: Envelope, record: Transfer) -> None:
    """Demand that an intent that comes after its receipt is the one that the receipt names."""
    if record.receipt and papers.read(Receipt, Envelope.from_bytes(record.receipt)).intent_digest != intent.digest:
        raise _differs("the receipt", ["intent_digest"])


def _reason(text: str) -> Reason:
    try:
        return Reason(text)
    except ValueError:
        message = "reason must be one of the error reasons of this product"
        raise SluicegateError(Reason.INVALID_ARGUMENT, message, (Violation("reason", message),)) from None


def _figures(detail: str) -> str:
    """The detail, if it is a JSON object of bounded size, in one spelling."""
    if not detail:
        return ""
    try:
        if len(detail.encode()) > DETAIL_AT_MOST:
            raise ValueError
        value = json.loads(detail)
        if not isinstance(value, dict):
            raise ValueError
        return json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False)
    except (ValueError, RecursionError):
        message = f"detail must be a JSON object of at most {DETAIL_AT_MOST} bytes"
        raise SluicegateError(Reason.INVALID_ARGUMENT, message, (Violation("detail", message),)) from None

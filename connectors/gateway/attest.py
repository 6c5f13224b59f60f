"""The papers a gateway signs about a release: the intent before its first row, the receipt after the last."""

from __future__ import annotations

import msgspec

from connectors.gateway.records import PartsLeft
from connectors.releases.release import Release
from contracts.agreement import VerifiedAgreement
from contracts.destruction import Destruction
from contracts.envelope import Envelope, Kind, SigningKey, sign
from contracts.instants import rfc3339
from contracts.plan import Plan
from contracts.policy.engine import Decision
from contracts.receipt import Aggregated, Grant, Intent, PartDigest, Receipt
from contracts.revealing import Revealed, SignedOrder


def intent(grant: Grant, plan: Plan, release: Release, *, now: int) -> Intent:
    """What is about to leave, and what was measured on it."""
    return Intent(
        transfer=grant.transfer,
        agreement=grant.agreement,
        agreement_digest=grant.agreement_digest,
        gateway=grant.gateway,
        release=release.id,
        plan_digest=plan.digest,
        content_digest=release.content_digest,
        hash=release.hash,
        schema=_schema(release),
        parts=_parts(release),
        rows_in=release.rows_in,
        rows_out=release.rows_out,
        rows_suppressed=release.rows_suppressed,
        bounds=release.bounds,
        aggregate=_aggregate(plan),
        created=rfc3339(now),
    )


def draft(
    verified: VerifiedAgreement, plan: Plan, release: Release, decision: Decision, intended: Intent, intent_digest: str
) -> Receipt:
    """The receipt as far as it is known before the first row: nothing sent yet. It is stored with the
    intent, so that it can be finished by whoever finds it after a crash."""
    document = verified.agreement
    return Receipt(
        transfer=intended.transfer,
        agreement=document.id,
        agreement_digest=verified.digest,
        document_digest=document.document_digest,
        terms_digest=document.terms_digest,
        plan_digest=plan.digest,
        standard_digest=document.standard_digest,
        policy_digest=decision.bundle_digest,
        decision=decision.id,
        gateway=intended.gateway,
        release=release.id,
        consumer=document.consumer,
        purpose=document.purpose,
        fields=tuple(field.treatment for field in (*plan.fields, *plan.measured)),
        schema=intended.schema,
        rows_in=release.rows_in,
        rows_out=release.rows_out,
        rows_suppressed=release.rows_suppressed,
        bounds=release.bounds,
        content_digest=release.content_digest,
        hash=release.hash,
        parts=intended.parts,
        parts_sent=(),
        parts_begun=(),
        complete=False,
        order=release.order,
        refresh=plan.refresh,
        intent_digest=intent_digest,
        aggregate=intended.aggregate,
        started=intended.created,
        finished=intended.created,
    )


def destruction(
    agreement: str, agreement_digest: str, order: Envelope, gateway: str, key: SigningKey, *, now: int
) -> Envelope:
    """The signed statement that an agreement's secret is gone. Made before it goes, stored as it goes."""
    stated = Destruction(
        agreement=agreement,
        agreement_digest=agreement_digest,
        gateway=gateway,
        order_digest=order.digest,
        at=rfc3339(now),
    )
    return sign(Kind.DESTRUCTION, stated, key)


def revealed(ordered: SignedOrder, order: Envelope, gateway: str, key: SigningKey, *, now: int) -> Envelope:
    """The signed statement that values are opened by an order. Made and stored before one leaves."""
    asked = ordered.order
    stated = Revealed(
        agreement=asked.agreement,
        agreement_digest=asked.agreement_digest,
        gateway=gateway,
        field=asked.field,
        count=len(asked.values),
        people=ordered.people,
        order_digest=order.digest,
        at=rfc3339(now),
    )
    return sign(Kind.REVEALED, stated, key)


def finish(raw: bytes, left: PartsLeft, key: SigningKey, *, now: int) -> Envelope:
    """The signed receipt of a stored draft: complete when every part of the release was sent."""
    receipt = msgspec.json.decode(raw, type=Receipt)
    finished = msgspec.structs.replace(
        receipt,
        parts_sent=left.sent,
        parts_begun=left.begun,
        complete=left.sent == tuple(range(len(receipt.parts))),
        finished=rfc3339(now),
    )
    return sign(Kind.RECEIPT, finished, key)


def _aggregate(plan: Plan) -> Aggregated | None:
    return None if plan.aggregate is None else plan.aggregate.stated


def _schema(release: Release) -> tuple[tuple[str, str], ...]:
    return tuple((name, str(dtype)) for name, dtype in release.schema.items())


def _parts(release: Release) -> tuple[PartDigest, ...]:
    return tuple(PartDigest(rows=part.rows, digest=part.digest) for part in release.parts)

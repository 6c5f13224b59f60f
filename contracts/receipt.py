"""Grant, ticket, intent, receipt, acknowledgement: the papers of one transfer, and how each is verified.

A ticket is verified by the gateway before anything is read; intent, receipt and acknowledgement by
whoever they are shown to, live or years later (`contracts.evidence`).
"""

from __future__ import annotations

import msgspec

from contracts.agreement_checks import VerifiedAgreement
from contracts.canonical import digest
from contracts.envelope import Envelope, Kind, verify
from contracts.errors import Reason, SluicegateError
from contracts.instants import SKEW, epoch, rfc3339
from contracts.papers import (
    Acknowledgement,
    Aggregated,
    Agreement,
    Bounds,
    Certificate,
    FieldTreatment,
    Grant,
    Intent,
    PartDigest,
    Proof,
    Receipt,
    Spread,
)
from contracts.receipt_checks import (
    RECEIPT_CHECKS,
    TransferCase,
    acknowledged,
    content_digest,
    data_is_attested,
    intent_kept,
    verify_intent,
)
from contracts.steps import demand, need
from contracts.trust import TrustFile, read

__all__ = [
    "Acknowledgement",
    "Aggregated",
    "Bounds",
    "Certificate",
    "FieldTreatment",
    "Grant",
    "Intent",
    "PartDigest",
    "Proof",
    "Receipt",
    "Spread",
    "claimed_grant",
    "content_digest",
    "verify_acknowledgement",
    "verify_intent",
    "verify_receipt",
    "verify_ticket",
]

GRANT_SECONDS = 600  # the longest a grant may live, whoever minted it


def claimed_grant(raw: bytes) -> Grant:
    """The grant inside a ticket, unverified: only for finding the agreement to verify it with.

    Raises GRANT_INVALID or TOO_LARGE when the bytes are no ticket.
    """
    return _ticket(raw)[2]


def verify_ticket(
    raw: bytes, *, trust: TrustFile, agreement: Agreement, gateway: str, now: int, agreement_digest: str = ""
) -> Grant:
    """The grant of a ticket, verified for this agreement, gateway and moment (`now`, epoch seconds).

    1. The bytes are a proof that holds a grant.
    2. The exchange's grant key, and no other, signed the grant.
    3. The holder key of the agreement, and no other, signed the proof.
    4. The grant is for this agreement, by name and by digest.
    5. It is for this gateway, and so is the agreement.
    6. It lives at most ten minutes, has begun and has not expired; the proof was not made after it.
    7. The agreement is valid.

    Whether a part was served before is for the gateway's state to say. `agreement_digest` is the
    digest of the signed envelope where the caller has it. Raises GRANT_INVALID, GRANT_EXPIRED or
    AGREEMENT_NOT_LIVE.
    """
    # 1
    ticket, proof, grant = _ticket(raw)
    try:
        # 2
        verify(Kind.GRANT, proof.grant, [trust.grant_key])
    except SluicegateError as error:
        raise _invalid(f"its grant is not from this exchange: {error.message}") from None
    try:
        # 3
        verify(Kind.PROOF, ticket, [agreement.holder])
    except SluicegateError as error:
        raise _invalid(f"it was not made with the agreement's holder key: {error.message}") from None
    # 4
    expected = agreement_digest or digest(msgspec.to_builtins(agreement))
    if grant.agreement != agreement.id or grant.agreement_digest != expected:
        raise _invalid(f"its grant is for another agreement than {agreement.id} as it was signed")
    # 5
    if grant.gateway != gateway or agreement.gateway != gateway:
        raise _invalid(f"its grant is for another gateway than {gateway}")
    # 6
    _in_time(proof, grant, now)
    # 7
    if not epoch(agreement.not_before) - SKEW <= now < epoch(agreement.not_after):
        raise SluicegateError(
            Reason.AGREEMENT_NOT_LIVE, f"{agreement.id} is valid from {agreement.not_before} to {agreement.not_after}"
        )
    return grant


def verify_receipt(
    envelope: Envelope,
    agreement: VerifiedAgreement,
    *,
    at: int,
    intent: Envelope | None = None,
    content_digest: str | None = None,
    existed_by: int | None = None,
) -> Receipt:
    """The receipt in an envelope, verified against its agreement (`RECEIPT_CHECKS`).

    `at` is now (epoch seconds). `intent`, when given, must be the one that the receipt names, and
    agree with it. `content_digest`, when given, is what the caller recomputed over the data, and must
    be the attested one. `existed_by`: an instant by which the receipt provably existed, so that its
    key may have been revoked since; without it a key revoked by `at` counts for nothing. A receipt
    may be partial: see `complete` and `parts_sent`.

    Raises the first failure, its step's number in the message: SIGNATURE_INVALID, KEY_UNTRUSTED,
    RECEIPT_INVALID or DIGEST_MISMATCH.
    """
    case = _case(agreement, at, existed_by)
    case.receipt_envelope, case.intent_envelope, case.content_digest = envelope, intent, content_digest
    demand([check for check in RECEIPT_CHECKS if check.run is not intent_kept or intent is not None], case)
    if content_digest is not None:
        data_is_attested(case)
    return need(case.receipt, "the receipt")


def verify_acknowledgement(
    envelope: Envelope, receipt: Envelope, agreement: VerifiedAgreement, *, at: int, existed_by: int | None = None
) -> Acknowledgement:
    """The acknowledgement in an envelope: signed by the consumer's requester, of this very receipt.

    The receipt is taken as verified. Instants as for `verify_receipt`. Raises SIGNATURE_INVALID,
    KEY_UNTRUSTED or RECEIPT_INVALID.
    """
    case = _case(agreement, at, existed_by)
    case.receipt_envelope, case.acknowledgement_envelope = receipt, envelope
    case.receipt = read(Receipt, receipt, Reason.RECEIPT_INVALID)
    acknowledged(case)
    return read(Acknowledgement, envelope)


def _case(agreement: VerifiedAgreement, at: int, existed_by: int | None) -> TransferCase:
    latest = at if existed_by is None else existed_by
    return TransferCase(at, latest, acknowledgement_latest=latest, verified=agreement)


def _ticket(raw: bytes) -> tuple[Envelope, Proof, Grant]:
    try:
        ticket = Envelope.from_bytes(raw)
        proof = read(Proof, ticket)
        return ticket, proof, read(Grant, proof.grant)
    except SluicegateError as error:
        if error.reason is Reason.TOO_LARGE:
            raise
        raise _invalid(f"it is not a proof over a grant: {error.message}") from None


def _in_time(proof: Proof, grant: Grant, now: int) -> None:
    try:
        issued, expires, made = epoch(grant.issued), epoch(grant.expires), epoch(proof.created)
    except SluicegateError as error:
        raise _invalid(error.message) from None
    if not 0 < expires - issued <= GRANT_SECONDS:
        raise _invalid(f"its grant lives {expires - issued} seconds; the most is {GRANT_SECONDS}")
    if now >= expires:
        raise SluicegateError(Reason.GRANT_EXPIRED, f"the grant expired at {grant.expires}")
    if now < issued - SKEW:
        raise _invalid(f"its grant begins at {grant.issued}, and it is {rfc3339(now)}; check the clocks")
    if made > expires:
        raise _invalid(f"it was made at {proof.created}, after its grant expired")


def _invalid(why: str) -> SluicegateError:
    return SluicegateError(Reason.GRANT_INVALID, f"the ticket entitles to nothing: {why}")

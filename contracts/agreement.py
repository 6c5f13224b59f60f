"""Request, approval, agreement: how a wish becomes a permission that both sides signed.

`draft` writes the agreement that follows from a request and its approvals; `verify_bundle` checks,
offline and from nothing but signed papers and a trust file, that an agreement was properly made.
The exchange is not believed in any of it.
"""

from __future__ import annotations

from collections.abc import Sequence

from contracts.agreement_checks import (
    AGREEMENT_CHECKS,
    AgreementCase,
    VerifiedAgreement,
    approvals_needed,
    both_signed,
    same_contract,
    verify_approval,
    verify_contract,
    verify_request,
    verify_suspension,
)
from contracts.envelope import Envelope
from contracts.errors import Reason, SluicegateError
from contracts.instants import duration, rfc3339
from contracts.model import Contract
from contracts.papers import Agreement, AgreementBundle, Approval, ContractStatement, Request, Suspension
from contracts.steps import demand
from contracts.trust import Keys, TrustFile, read

__all__ = [
    "Agreement",
    "AgreementBundle",
    "Approval",
    "ContractStatement",
    "Request",
    "Suspension",
    "VerifiedAgreement",
    "approvals_needed",
    "draft",
    "verify_approval",
    "verify_bundle",
    "verify_contract",
    "verify_draft",
    "verify_request",
    "verify_suspension",
]


def draft(
    *,
    id: str,
    request: Envelope,
    approvals: Sequence[Envelope],
    contract: Contract,
    gateway: str,
    standard_digest: str,
    policy_digest: str,
    now: int,
) -> Agreement:
    """The agreement that follows from a signed request and its signed approvals.

    Deterministic: the same papers give the same document, in whatever order the approvals came. It is
    valid from `now` (epoch seconds) for the duration that was requested. Verifies no signature.
    Raises SIGNATURE_INVALID for a paper of another form, REQUEST_OUTSIDE_CONTRACT for another
    contract or an approval of something else.
    """
    asked = read(Request, request)
    same_contract(asked, contract)
    for approval in approvals:
        if read(Approval, approval).request_digest != request.digest:
            raise SluicegateError(Reason.REQUEST_OUTSIDE_CONTRACT, "an approval is for another request than this one")
    return Agreement(
        id=id,
        provider=contract.provider,
        dataset=contract.dataset,
        consumer=asked.consumer,
        request_digest=request.digest,
        approvals=tuple(sorted({approval.digest for approval in approvals})),
        document_digest=contract.document_digest,
        terms_digest=contract.terms_digest,
        purpose=asked.purpose,
        fields=asked.fields,
        holder=asked.holder,
        gateway=gateway,
        standard_digest=standard_digest,
        policy_digest=policy_digest,
        not_before=rfc3339(now),
        not_after=rfc3339(duration(asked.duration).after(now)),
    )


def verify_bundle(
    bundle: AgreementBundle,
    trust: TrustFile,
    *,
    at: int,
    existed_by: int | None = None,
    revocations: Sequence[Envelope] = (),
) -> VerifiedAgreement:
    """Check everything an agreement stands on, step by step (`AGREEMENT_CHECKS`), valid at `at`.

    Instants are epoch seconds. `existed_by`: an instant by which these signatures provably existed (a
    ledger checkpoint, or the verifier's own record of having seen them); keys revoked later still
    count then. Without it, a key that was revoked by `at` counts for nothing. `revocations`: what the
    verifier knows besides the bundle, whose sender may have left some out.

    Raises the first failure, its step's number in the message: CONTRACT_INVALID, SIGNATURE_INVALID,
    KEY_UNTRUSTED, NOT_SHARED, REQUEST_OUTSIDE_CONTRACT, POLICY_REFUSED or AGREEMENT_NOT_LIVE.
    """
    keys = Keys(trust, bundle.statements, (*bundle.revocations, *revocations))
    case = AgreementCase(bundle, keys, at, at if existed_by is None else existed_by)
    demand(AGREEMENT_CHECKS, case)
    return case.verified()


def verify_draft(bundle: AgreementBundle, trust: TrustFile, *, at: int) -> VerifiedAgreement:
    """The same checks for an agreement that waits for signatures: what to run before signing it.

    Signatures already under it are not looked at.
    """
    case = AgreementCase(bundle, Keys(trust, bundle.statements, bundle.revocations), at, at)
    demand([check for check in AGREEMENT_CHECKS if check.run is not both_signed], case)
    return case.verified()

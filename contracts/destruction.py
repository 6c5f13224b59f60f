"""The statement that an agreement's keys were destroyed: what a gateway signs, and how it is verified.

It proves who said so and when, in the ledger. That no copy of the salt is left in a backup, no signature
can prove.
"""

from __future__ import annotations

from contracts.agreement_checks import VerifiedAgreement
from contracts.envelope import Envelope, Kind
from contracts.errors import Reason, SluicegateError
from contracts.instants import SKEW, epoch
from contracts.papers import Destruction
from contracts.trust import Use, read

__all__ = ["Destruction", "verify_destruction"]


def verify_destruction(envelope: Envelope, agreement: VerifiedAgreement, *, at: int) -> Destruction:
    """The statement in an envelope, verified against its agreement. `at` is now (epoch seconds).

    1. The agreement's own gateway, and no other, signed it under a key that its department certified.
    2. It is about this agreement, by name and digest.
    3. It is not dated in the future.

    Raises SIGNATURE_INVALID, KEY_UNTRUSTED or RECEIPT_INVALID.
    """
    paper = read(Destruction, envelope, Reason.RECEIPT_INVALID)
    document, signed = agreement.agreement, epoch(paper.at)
    # 1
    signers = agreement.keys.signers(Kind.DESTRUCTION, envelope, [(document.provider, Use.GATEWAY)], signed)
    if len(signers) != 1 or signers[0].subject != document.gateway or paper.gateway != document.gateway:
        raise SluicegateError(
            Reason.SIGNATURE_INVALID, f"the destruction of keys must be signed by {document.gateway} alone"
        )
    # 2
    if (paper.agreement, paper.agreement_digest) != (document.id, agreement.digest):
        raise SluicegateError(Reason.RECEIPT_INVALID, f"it is about another agreement than {document.id}")
    # 3
    if signed > at + SKEW:
        raise SluicegateError(Reason.RECEIPT_INVALID, f"it is dated {paper.at}, in the future")
    return paper

"""Opening single values of a technique that can be turned back: who may order it, and what is said of it.

verify_order(envelope, agreement, keys, at=now) -> Ordered     at the gateway, before anything is opened
verify_revealed(envelope, agreement, at=now) -> Revealed       at the exchange, and by whoever reads the ledger
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass

from contracts.agreement_checks import VerifiedAgreement
from contracts.canonical import digest
from contracts.envelope import Envelope, Kind
from contracts.errors import Reason, SluicegateError
from contracts.instants import SKEW, epoch
from contracts.papers import Revealed, RevealOrder
from contracts.techniques import AesSiv, Ff1
from contracts.trust import Keys, Use, read

__all__ = ["MOST_VALUES", "RevealOrder", "Revealed", "Signed", "technique_of", "verify_order", "verify_revealed"]

MOST_VALUES = 10  # of one order: single persons, not a table
LONGEST_VALUE = 4096  # characters of one pseudonym
GOOD_FOR = 3600  # seconds from its date on: two people sign within an hour
PEOPLE = 2


@dataclass(frozen=True, slots=True)
class Signed:
    """A verified order: what it says, who signed it, and the 32 bytes of the key that the answer is sealed to."""

    order: RevealOrder
    people: tuple[str, ...]
    answer_key: bytes

    @property
    def reason_digest(self) -> str:
        """What the ledger knows of the reason."""
        return digest({"reason": self.order.reason})


def verify_order(envelope: Envelope, party: str, keys: Keys, *, at: int) -> Signed:
    """The order in an envelope, as far as it can be told before anything is fetched. `party` is the gateway's own
    department, `keys` are its keys, `at` is now (epoch seconds).

    1. It is not from the future, and not older than an hour.
    2. Two different people of the department signed it, with certified approver keys, and nobody else.
    3. It names 1 to 10 different values, a reason and a key for the answer.

    Raises INVALID_ARGUMENT, SIGNATURE_INVALID, KEY_UNTRUSTED or STATE_WRONG (1).
    """
    order = read(RevealOrder, envelope)
    # 1
    dated = epoch(order.at)
    if dated > at + SKEW:
        raise SluicegateError(Reason.INVALID_ARGUMENT, f"the order is dated {order.at}, in the future")
    if at >= dated + GOOD_FOR:
        raise SluicegateError(Reason.STATE_WRONG, f"the order is dated {order.at}; it is good for an hour")
    # 2
    signers = keys.signers(Kind.REVEAL, envelope, [(party, Use.APPROVER)], dated, latest=at)
    people = sorted({signer.subject for signer in signers})
    if len(people) != PEOPLE or len(signers) != PEOPLE:
        told = f"{PEOPLE} different people of {party} must sign, not {len(people)}"
        raise SluicegateError(Reason.SIGNATURE_INVALID, told)
    # 3
    if not 1 <= len(order.values) <= MOST_VALUES or len(set(order.values)) != len(order.values):
        told = f"an order names 1 to {MOST_VALUES} different values, not {len(order.values)}"
        raise SluicegateError(Reason.INVALID_ARGUMENT, told)
    if any(not 1 <= len(value) <= LONGEST_VALUE for value in order.values):
        raise SluicegateError(Reason.INVALID_ARGUMENT, f"a value has 1 to {LONGEST_VALUE} characters")
    if not 3 <= len(order.reason.strip()) <= 1000:
        raise SluicegateError(Reason.INVALID_ARGUMENT, "say why, in 3 to 1000 characters")
    return Signed(order, tuple(people), _key(order.answer_key))


def technique_of(order: RevealOrder, agreement: VerifiedAgreement) -> AesSiv | Ff1:
    """What the order's values were made by. Raises INVALID_ARGUMENT for another agreement or gateway than the
    order's, PLAN_REFUSED for a field that the agreement does not send so that it can be turned back."""
    document = agreement.agreement
    named = (order.agreement, order.agreement_digest, order.gateway)
    if named != (document.id, agreement.digest, document.gateway):
        raise SluicegateError(Reason.INVALID_ARGUMENT, "the order is about another agreement or another gateway")
    mask = _mask(order.field, agreement)
    if mask is None:
        told = f"{order.field[:64]} is not sent under a technique that can be turned back"
        raise SluicegateError(Reason.PLAN_REFUSED, told)
    return mask


def _mask(field: str, agreement: VerifiedAgreement) -> AesSiv | Ff1 | None:
    document = agreement.agreement
    mask = agreement.contract.purposes[document.purpose].fields.get(field) if field in document.fields else None
    return mask if isinstance(mask, AesSiv | Ff1) else None


def verify_revealed(envelope: Envelope, agreement: VerifiedAgreement, *, at: int) -> Revealed:
    """The gateway's statement in an envelope, verified against its agreement. `at` is now (epoch seconds).

    1. The agreement's own gateway, and no other, signed it under a key that its department certified.
    2. It is about this agreement, by name and digest, and a field that can be turned back.
    3. It names two people, and a number of values that an order can have.
    4. It is not dated in the future.

    Raises SIGNATURE_INVALID, KEY_UNTRUSTED or RECEIPT_INVALID.
    """
    paper = read(Revealed, envelope, Reason.RECEIPT_INVALID)
    document, signed = agreement.agreement, epoch(paper.at)
    # 1
    signers = agreement.keys.signers(Kind.REVEALED, envelope, [(document.provider, Use.GATEWAY)], signed)
    if len(signers) != 1 or signers[0].subject != document.gateway or paper.gateway != document.gateway:
        raise SluicegateError(
            Reason.SIGNATURE_INVALID, f"that values were opened must be signed by {document.gateway} alone"
        )
    # 2
    if (paper.agreement, paper.agreement_digest) != (document.id, agreement.digest):
        raise SluicegateError(Reason.RECEIPT_INVALID, f"it is about another agreement than {document.id}")
    if _mask(paper.field, agreement) is None:
        raise SluicegateError(Reason.RECEIPT_INVALID, "it is about a field that cannot be turned back")
    # 3
    if len(set(paper.people)) != PEOPLE or not 1 <= paper.count <= MOST_VALUES:
        raise SluicegateError(Reason.RECEIPT_INVALID, "no order has so many people or values")
    # 4
    if signed > at + SKEW:
        raise SluicegateError(Reason.RECEIPT_INVALID, f"it is dated {paper.at}, in the future")
    return paper


def _key(text: str) -> bytes:
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if len(raw) != 32:
        raise SluicegateError(Reason.INVALID_ARGUMENT, "the key for the answer is 32 bytes, in base64url")
    return raw

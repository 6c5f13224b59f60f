"""Opening single values of a technique that can be turned back: who may order it, and what is said of it.

verify_order(envelope, party, keys, at=now) -> SignedOrder     at the gateway, before anything is fetched
asked_by(envelope, colleague, agreement, at=now) -> str        before a colleague signs it too
openable(field, people, agreement) -> AesSiv | Ff1             against the contract that the department signed
verify_revealed(envelope, agreement, at=now) -> Revealed       at the exchange, and by whoever reads the ledger
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass

from contracts.agreement_checks import VerifiedAgreement
from contracts.envelope import Envelope, Kind
from contracts.errors import Reason, SluicegateError
from contracts.instants import SKEW, epoch
from contracts.papers import Revealed, RevealOrder
from contracts.techniques import AesSiv, Ff1
from contracts.trust import Keys, Use, read

__all__ = [
    "MOST_VALUES",
    "RevealOrder",
    "Revealed",
    "SignedOrder",
    "asked_by",
    "colleagues",
    "demand_terms",
    "openable",
    "technique_of",
    "verify_order",
    "verify_revealed",
]

MOST_VALUES = 10  # of one order: single persons, not a table
LONGEST_VALUE = 2048  # characters of one pseudonym
GOOD_FOR = 3600  # seconds from its date on: two people sign within an hour
PEOPLE = 2


@dataclass(frozen=True, slots=True)
class SignedOrder:
    """A verified order: what it says, who signed it, and the 32 bytes of the key that the answer is sealed to."""

    order: RevealOrder
    people: tuple[str, ...]
    answer_key: bytes


def demand_terms(order: RevealOrder) -> bytes:
    """What an order must say, whoever signs it: 1 to 10 different values, a reason, a key for the answer; the 32
    bytes of that key. Raises INVALID_ARGUMENT."""
    if not 1 <= len(order.values) <= MOST_VALUES or len(set(order.values)) != len(order.values):
        told = f"an order names 1 to {MOST_VALUES} different values"
        raise SluicegateError(Reason.INVALID_ARGUMENT, told)
    if any(not 1 <= len(value) <= LONGEST_VALUE for value in order.values):
        raise SluicegateError(Reason.INVALID_ARGUMENT, f"a value has 1 to {LONGEST_VALUE} characters")
    if not 3 <= len(order.reason.strip()) <= 1000:
        raise SluicegateError(Reason.INVALID_ARGUMENT, "say why, in 3 to 1000 characters")
    return _key(order.answer_key)


def verify_order(envelope: Envelope, party: str, keys: Keys, *, at: int) -> SignedOrder:
    """The order in an envelope, as far as it can be told before anything is fetched. `party` is the gateway's own
    department, `keys` are its keys, `at` is now (epoch seconds).

    1. It is not from the future, and not older than an hour.
    2. Two different people of the department signed it, with certified approver keys, and nobody else.
    3. It says what an order must say (`demand_terms`).

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
    people = tuple(sorted(signer.subject for signer in signers))
    persons, own = {name.casefold() for name in people}, {signer.key.kid for signer in signers}
    if not len(people) == len(persons) == len(own) == PEOPLE:
        told = f"{PEOPLE} different people of {party} must sign, each with a key of their own, and nobody else"
        raise SluicegateError(Reason.SIGNATURE_INVALID, told)
    # 3
    return SignedOrder(order, people, demand_terms(order))


def openable(field: str, people: Sequence[str], agreement: VerifiedAgreement) -> AesSiv | Ff1:
    """What a field's values were made by (`technique_of`), if these people may have them opened: the signed contract
    names one of them as first-level approver of the purpose, another one as second-level.

    Raises INVALID_ARGUMENT, or POLICY_REFUSED for other people.
    """
    technique, purpose = technique_of(field, agreement), agreement.agreement.purpose
    role = agreement.contract.role(purpose)
    if role is None or not role.both_levels(people):
        told = f"a first- and a second-level approver of {purpose} must sign, as the contract names them"
        raise SluicegateError(Reason.POLICY_REFUSED, told)
    return technique


def technique_of(field: str, agreement: VerifiedAgreement) -> AesSiv | Ff1:
    """What a field's values were made by. Raises INVALID_ARGUMENT for one that the agreement does not send under a
    technique that can be turned back."""
    document = agreement.agreement
    mask = agreement.contract.purposes[document.purpose].fields.get(field) if field in document.fields else None
    if not isinstance(mask, AesSiv | Ff1):
        told = f"{field[:64]} is not sent under a technique that can be turned back"
        raise SluicegateError(Reason.INVALID_ARGUMENT, told)
    return mask


def colleagues(person: str, agreement: VerifiedAgreement) -> tuple[str, ...]:
    """Who may sign an order beside this person: of the other level. Raises POLICY_REFUSED when nobody may."""
    purpose = agreement.agreement.purpose
    role = agreement.contract.role(purpose)
    named = dict.fromkeys(role.approvers if role else ())
    found = tuple(other for other in named if role and role.both_levels((person, other)))
    if not found:
        told = f"the contract does not name you and another person as approvers of {purpose} on two levels"
        raise SluicegateError(Reason.POLICY_REFUSED, told)
    return found


def asked_by(envelope: Envelope, colleague: str, agreement: VerifiedAgreement, *, at: int) -> str:
    """Who asked for an order that a colleague is to sign too. `at` is now (epoch seconds).

    Demanded is a signature that is good, by one person alone who may have values of the field opened beside the
    colleague: who asked holds the key of the answer. Of two who each took the other for the one that asked, an
    order that somebody else wrote would open values to its writer.

    Raises SIGNATURE_INVALID, KEY_UNTRUSTED, INVALID_ARGUMENT or POLICY_REFUSED.
    """
    order, document = read(RevealOrder, envelope), agreement.agreement
    if (order.agreement, order.agreement_digest) != (document.id, agreement.digest):
        raise SluicegateError(Reason.INVALID_ARGUMENT, f"the order is about another agreement than {document.id}")
    dated, ours = epoch(order.at), [(document.provider, Use.APPROVER)]
    signers = agreement.keys.signers(Kind.REVEAL, envelope, ours, dated, latest=at)
    people = {signer.subject for signer in signers}
    if len(people) != 1 or len(envelope.signatures) != 1:
        raise SluicegateError(
            Reason.SIGNATURE_INVALID, "who asked has signed an order before it is countersigned, alone"
        )
    (asker,) = people
    openable(order.field, (asker, colleague), agreement)
    return asker


def verify_revealed(envelope: Envelope, agreement: VerifiedAgreement, *, at: int) -> Revealed:
    """The gateway's statement in an envelope, verified against its agreement. `at` is now (epoch seconds).

    1. The agreement's own gateway, and no other, signed it under a key that its department certified.
    2. It is about this agreement, by name and digest.
    3. Two people have a number of values opened that an order can have, and may (`openable`).
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
    # 3
    if len(paper.people) != PEOPLE or not 1 <= paper.count <= MOST_VALUES:
        raise SluicegateError(Reason.RECEIPT_INVALID, "no order has so many people or values")
    try:
        openable(paper.field, paper.people, agreement)
    except SluicegateError as error:
        raise SluicegateError(Reason.RECEIPT_INVALID, f"nobody could order that: {error.message}") from None
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

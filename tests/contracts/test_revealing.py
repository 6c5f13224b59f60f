"""Who may order that values are opened, by the contract: one of each level, and two persons."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import msgspec
import pytest

from contracts.agreement import VerifiedAgreement
from contracts.envelope import Envelope, Kind, sign
from contracts.errors import Reason
from contracts.instants import rfc3339
from contracts.model import AccessRole
from contracts.papers import RevealOrder
from contracts.revealing import asked_by, colleagues, openable
from contracts.techniques import AesSiv
from tests import papers
from tests.connectors import reversible
from tests.halls import refused

PURPOSE = "outbreak-monitoring"


def role(first: Iterable[str], second: Iterable[str]) -> AccessRole:
    """A role whose approvers have names of one letter."""
    return AccessRole(role=PURPOSE, first_level_approvers=tuple(first), second_level_approvers=tuple(second))


@pytest.mark.parametrize(
    ("first", "second", "people", "enough"),
    [
        ("a", "b", "ab", True),
        ("a", "b", "ba", True),
        ("ab", "a", "ab", True),
        ("ab", "ab", "ab", True),
        ("ac", "b", "cb", True),
        ("ab", "", "ab", False),
        ("", "ab", "ab", False),
        ("ab", "c", "ab", False),
        ("a", "a", "ab", False),
        ("a", "a", "a", False),
        ("a", "A", "aA", False),
        ("a", "b", "a", False),
        ("a", "b", "c", False),
        ("", "", "ab", False),
    ],
)
def test_both_levels_and_two_persons(first: str, second: str, people: str, enough: bool) -> None:
    assert role(first, second).both_levels(tuple(people)) is enough


def agreement(*roles: AccessRole) -> VerifiedAgreement:
    """An agreement that sends `citizen_id` so that it can be turned back, under a contract with these roles."""
    verified = papers.make(purpose=PURPOSE, document=reversible.document()).verified
    return dataclasses.replace(verified, contract=msgspec.structs.replace(verified.contract, roles=roles))


def test_who_may_sign_beside_whom() -> None:
    assert colleagues("a", agreement(role("ab", "bc"))) == ("b", "c")
    with refused(Reason.POLICY_REFUSED):
        colleagues("d", agreement(role("ab", "bc")))
    with refused(Reason.POLICY_REFUSED):
        colleagues("a", agreement())


def test_openable_is_what_the_agreement_sends_for_two_of_its_approvers() -> None:
    assert isinstance(openable("citizen_id", ("a", "b"), agreement(role("a", "b"))), AesSiv)
    with refused(Reason.POLICY_REFUSED):
        openable("citizen_id", ("a", "b"), agreement())
    with refused(Reason.POLICY_REFUSED):
        openable("citizen_id", ("a", "b"), agreement(role("ab", "c")))
    for field in ("birth_date", "patient_name", "nothing"):
        with refused(Reason.INVALID_ARGUMENT):
            openable(field, ("a", "b"), agreement(role("a", "b")))


def ordered(verified: VerifiedAgreement, *signers: str, **changed: str) -> Envelope:
    """An order about that agreement, signed by these."""
    order = RevealOrder(
        agreement=verified.agreement.id,
        agreement_digest=verified.digest,
        field="citizen_id",
        values=("ab12",),
        reason="a court asks",
        answer_key="A" * 43,
        at=rfc3339(papers.NOW),
    )
    return sign(Kind.REVEAL, msgspec.structs.replace(order, **changed), *map(papers.key, signers))


def test_who_asked_has_signed_before_a_colleague_does() -> None:
    """An order that somebody else wrote, with a key for the answer of their own, gets no first signature."""
    verified, steward, dpo = agreement(role([papers.STEWARD], [papers.DPO])), papers.STEWARD, papers.DPO
    assert asked_by(ordered(verified, steward), dpo, verified, at=papers.NOW) == steward
    assert asked_by(ordered(verified, dpo), steward, verified, at=papers.NOW) == dpo
    unsigned = Envelope(ordered(verified, steward).payload, ())
    changed = Envelope(
        ordered(verified, steward).payload | {"answerKey": "B" * 43}, ordered(verified, steward).signatures
    )
    for order, colleague, reason in (
        (unsigned, dpo, Reason.SIGNATURE_INVALID),
        (changed, dpo, Reason.SIGNATURE_INVALID),
        (ordered(verified, "somebody"), dpo, Reason.KEY_UNTRUSTED),
        (ordered(verified, steward, dpo), dpo, Reason.SIGNATURE_INVALID),
        (ordered(verified, steward), steward, Reason.POLICY_REFUSED),
        (ordered(verified, steward, field="birth_date"), dpo, Reason.INVALID_ARGUMENT),
        (ordered(verified, steward, agreement="agreements/a-zzzzzzzzzz"), dpo, Reason.INVALID_ARGUMENT),
    ):
        with refused(reason):
            asked_by(order, colleague, verified, at=papers.NOW)

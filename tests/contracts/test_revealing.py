"""Who may order that values are opened, by the contract: one of each level, and two persons."""

from __future__ import annotations

import dataclasses

import msgspec
import pytest

from contracts.agreement import VerifiedAgreement
from contracts.errors import Reason
from contracts.model import AccessRole
from contracts.revealing import colleagues, openable
from contracts.techniques import AesSiv
from tests import papers
from tests.connectors import reversible
from tests.halls import refused

PURPOSE = "outbreak-monitoring"


def role(first: str, second: str) -> AccessRole:
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

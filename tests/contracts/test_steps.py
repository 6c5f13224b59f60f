"""Numbered steps: demanded one by one, or reported all together."""

from __future__ import annotations

import pytest

from contracts.errors import Reason, SluicegateError, Violation
from contracts.steps import Check, demand, need, not_shown, report


def holds(found: list[str]) -> str:
    found.append("first")
    return "it holds"


def fails(found: list[str]) -> str:
    found.append("second")
    raise SluicegateError(Reason.RECEIPT_INVALID, "it does not", (Violation("rows", "one too many"),), {"a": "b"})


def absent(found: list[str]) -> str:
    raise not_shown("the paper")


def depends(found: list[str]) -> str:
    return str(need(None, "the second step"))


CHECKS = (Check("one", holds), Check("two", fails), Check("three", absent, required=False), Check("four", depends))


def test_a_demand_stops_at_the_first_failure_and_names_it():
    found: list[str] = []
    with pytest.raises(SluicegateError) as caught:
        demand(CHECKS, found)
    assert found == ["first", "second"]
    assert caught.value.reason is Reason.RECEIPT_INVALID
    assert caught.value.message == "step 2, two: it does not"
    assert caught.value.violations[0].path == "rows"
    assert caught.value.metadata == {"a": "b"}


def test_a_demand_that_is_met_is_silent():
    demand(CHECKS[:1], [])


def test_a_demand_lets_nothing_go_that_is_not_shown():
    with pytest.raises(SluicegateError, match="not shown: the paper"):
        demand(CHECKS[2:3], [])


def test_a_report_tells_every_step():
    steps = report(CHECKS, [], start=5)
    assert [(step.number, step.ok, step.failed, step.shown) for step in steps] == [
        (5, True, False, True),
        (6, False, True, True),
        (7, False, False, False),
        (8, False, True, False),
    ]
    assert [step.detail for step in steps] == [
        "it holds",
        "it does not; rows: one too many",
        "not shown: the paper",
        "not checked: it needs the second step",
    ]
    assert [step.reason for step in steps] == ["", "RECEIPT_INVALID", "RECEIPT_INVALID", "RECEIPT_INVALID"]


def test_what_is_no_refusal_is_not_swallowed():
    def broken(found: list[str]) -> str:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        report((Check("broken", broken),), [])


def test_need_gives_what_is_there():
    assert need(0, "a number") == 0

"""The tables of allowed moves, and that nothing moves past them."""

from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts import lifecycle
from contracts.errors import Reason, SluicegateError

VERBS = sorted({verb for table in lifecycle.TABLES.values() for row in table.values() for verb in row})


def test_every_move_leads_to_a_state_of_the_same_table():
    for table in lifecycle.TABLES.values():
        for row in table.values():
            assert set(row.values()) <= set(table)


def test_the_states_are_those_that_the_exchange_remembers():
    from exchange import records

    assert set(lifecycle.REQUEST) == set(get_args(records.RequestState))
    assert set(lifecycle.AGREEMENT) == set(get_args(records.AgreementState))
    assert set(lifecycle.TRANSFER) == set(get_args(records.TransferState))


@pytest.mark.parametrize("noun", lifecycle.TABLES)
def test_every_state_is_reached_from_the_first(noun):
    table = lifecycle.TABLES[noun]
    reached, waiting = set(), [next(iter(table))]
    while waiting:
        state = waiting.pop()
        if state not in reached:
            reached.add(state)
            waiting += table[state].values()
    assert reached == set(table)


@given(st.sampled_from(sorted(lifecycle.TABLES)), st.data(), st.sampled_from([*VERBS, "nonsense", ""]))
def test_a_move_is_in_the_table_or_refused_naming_what_is_allowed(noun, data, verb):
    state = data.draw(st.sampled_from(sorted(lifecycle.TABLES[noun])))
    allowed = lifecycle.TABLES[noun][state]
    if verb in allowed:
        assert lifecycle.move(noun, state, verb) == allowed[verb]
        return
    with pytest.raises(SluicegateError) as caught:
        lifecycle.move(noun, state, verb)
    assert caught.value.reason is Reason.STATE_WRONG
    shown = [other for other in allowed if other not in ("expire", "endorse", "activate")]
    assert caught.value.metadata["allowed"] == ",".join(shown)
    assert caught.value.message.endswith(f"; allowed: {', '.join(shown) if allowed else 'nothing: it has ended'}")


@pytest.mark.parametrize(
    ("noun", "ends"),
    [
        ("contract", {"WITHDRAWN"}),
        ("request", {"APPROVED", "REJECTED", "CANCELLED"}),
        ("agreement", {"TERMINATED", "EXPIRED"}),
        ("transfer", {"REFUSED", "ACKNOWLEDGED"}),
    ],
)
def test_what_has_ended_stays_ended(noun, ends):
    table = lifecycle.TABLES[noun]
    assert {state for state in table if lifecycle.ended(noun, state)} == ends
    for state in ends:
        assert lifecycle.verbs(noun, state) == ()
        with pytest.raises(SluicegateError, match="it has ended"):
            lifecycle.move(noun, state, "resume")


@pytest.mark.parametrize(
    ("noun", "path", "last"),
    [
        ("request", ["endorse", "approve"], "APPROVED"),
        ("agreement", ["sign", "activate", "suspend", "suspend", "resume", "expire"], "EXPIRED"),
        ("transfer", ["serve", "serve", "complete", "acknowledge"], "ACKNOWLEDGED"),
        ("transfer", ["serve", "expire", "partial", "acknowledge"], "ACKNOWLEDGED"),
        ("transfer", ["serve", "fail", "partial"], "PARTIAL"),
        ("contract", ["publish", "supersede", "withdraw"], "WITHDRAWN"),
    ],
)
def test_the_usual_lives(noun, path, last):
    state = next(iter(lifecycle.TABLES[noun]))
    for verb in path:
        state = lifecycle.move(noun, state, verb)
    assert state == last


@pytest.mark.parametrize(
    ("noun", "state", "verb"),
    [
        ("agreement", "PENDING", "resume"),
        ("agreement", "TERMINATED", "resume"),
        ("agreement", "PENDING", "suspend"),
        ("transfer", "ACKNOWLEDGED", "complete"),
        ("transfer", "REFUSED", "complete"),
        ("transfer", "GRANTED", "acknowledge"),
        ("request", "REJECTED", "approve"),
    ],
)
def test_moves_that_would_do_harm(noun, state, verb):
    with pytest.raises(SluicegateError) as caught:
        lifecycle.move(noun, state, verb)
    assert caught.value.reason is Reason.STATE_WRONG


def test_an_unknown_state_is_our_own_fault():
    with pytest.raises(SluicegateError) as caught:
        lifecycle.move("agreement", "SUSPENDDED", "resume")
    assert caught.value.reason is Reason.INTERNAL
    assert "SUSPENDED" in caught.value.message

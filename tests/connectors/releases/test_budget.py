"""The budget is exact: no order of asks, at once or after restarts, takes more than there is."""

from __future__ import annotations

import itertools
import tempfile
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.gateway.state import GatewayState
from connectors.releases.budget import Cost, Figures
from contracts.errors import Reason, SluicegateError

BUDGET = Cost(3_000_001, 2_000_000)
ASK = {"consumer": "metro", "dataset": "visits", "agreement_digest": "sha256:0", "budget": BUDGET, "now": 1}
COSTS = st.builds(Cost, st.sampled_from([1, 999_999, 1_000_000, 1_500_001]), st.sampled_from([0, 1, 700_000]))
# Costs that are asked for at once; None is a restart.
DAYS = st.lists(st.one_of(st.none(), st.lists(COSTS, min_size=1, max_size=4)), max_size=8)


def opened(folder: Path) -> GatewayState:
    return GatewayState(folder / "state" / "state.db", clock=lambda: 1, entropy=bytes)


def at_once(state: GatewayState, asks: list[tuple[str, Cost]]) -> list[Cost]:
    """Ask in threads of their own; the costs that were taken."""
    taken: list[Cost] = []
    reasons: list[Reason] = []
    together = threading.Barrier(len(asks))

    def ask(release: str, cost: Cost) -> None:
        together.wait()
        try:
            state.take(release, cost=cost, **ASK)
            taken.append(cost)
        except SluicegateError as refused:
            reasons.append(refused.reason)

    threads = [threading.Thread(target=ask, args=one) for one in asks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert reasons == [Reason.BUDGET_SPENT] * (len(asks) - len(taken))
    return taken


@settings(max_examples=30, deadline=None)
@given(day=DAYS)
def test_never_more_is_taken_than_there_is(day: list[list[Cost] | None]) -> None:
    names = (f"rel-{number}" for number in itertools.count())
    with tempfile.TemporaryDirectory() as folder:
        state, taken = opened(Path(folder)), [Cost(0, 0)]
        try:
            for asks in day:
                if asks is None:
                    state.close()
                    state = opened(Path(folder))
                    continue
                before = state.spent("metro", "visits")
                won = at_once(state, [(next(names), cost) for cost in asks])
                taken += won
                spent = state.spent("metro", "visits")
                assert spent == Cost(sum(c.micro_epsilon for c in taken), sum(c.pico_delta for c in taken))
                assert spent.micro_epsilon <= BUDGET.micro_epsilon
                assert spent.pico_delta <= BUDGET.pico_delta
                if not won:  # then not one of them was covered
                    assert all(
                        before.micro_epsilon + cost.micro_epsilon > BUDGET.micro_epsilon
                        or before.pico_delta + cost.pico_delta > BUDGET.pico_delta
                        for cost in asks
                    )
        finally:
            state.close()


@pytest.fixture
def state(tmp_path: Path):  # type: ignore[no-untyped-def]
    made = opened(tmp_path)
    yield made
    made.close()


def test_the_last_millionth_can_be_spent_and_no_more(state: GatewayState) -> None:
    assert state.take("r1", cost=Cost(3_000_000, 0), **ASK) == Cost(1, 2_000_000)
    assert state.take("r2", cost=Cost(1, 0), **ASK) == Cost(0, 2_000_000)
    with pytest.raises(SluicegateError, match=r"of the budget of epsilon 3\.000001, delta 0\.000002") as caught:
        state.take("r3", cost=Cost(1, 0), **ASK)
    assert caught.value.reason is Reason.BUDGET_SPENT


def test_delta_is_counted_as_well(state: GatewayState) -> None:
    state.take("r1", cost=Cost(1, 1_500_000), **ASK)
    with pytest.raises(SluicegateError) as caught:
        state.take("r2", cost=Cost(1, 500_001), **ASK)
    assert caught.value.reason is Reason.BUDGET_SPENT


def test_recipients_and_datasets_have_budgets_of_their_own(state: GatewayState) -> None:
    for number, (consumer, dataset) in enumerate(itertools.product(("metro", "lab"), ("visits", "trips"))):
        state.take(f"r{number}", cost=BUDGET, **{**ASK, "consumer": consumer, "dataset": dataset})


def test_another_agreement_spends_the_same_budget(state: GatewayState) -> None:
    state.take("r1", cost=BUDGET, **ASK)
    with pytest.raises(SluicegateError):
        state.take("r2", cost=Cost(1, 0), **{**ASK, "agreement_digest": "sha256:1"})


def test_a_release_is_paid_for_once_and_never_drawn_twice(state: GatewayState) -> None:
    state.take("r1", cost=Cost(1, 0), **ASK)
    with pytest.raises(SluicegateError) as caught:
        state.take("r1", cost=Cost(1, 0), **ASK)
    assert caught.value.reason is Reason.STATE_WRONG
    assert state.spent("metro", "visits") == Cost(1, 0)


def test_only_the_last_figures_of_a_recipient_are_kept(state: GatewayState) -> None:
    for number in range(2):
        state.keep_figures("metro", "visits", "planning", Figures(f"r{number}", "sha256:p", 1, b"figures"))
    assert state.figures("metro", "visits", "r0") is None
    assert state.figures("lab", "visits", "r1") is None
    assert state.figures("metro", "visits", "r1") == Figures("r1", "sha256:p", 1, b"figures")

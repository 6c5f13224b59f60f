"""One consumer with two agreements on one dataset, each for a purpose of its own: each has its release of the interval,
and the two together tell no more than one release may."""

from __future__ import annotations

import dataclasses
import datetime as dt
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.flight as fl
import pytest

from connectors.gateway import releasing
from connectors.gateway.shelf import Shelf
from connectors.releases.release import Release
from contracts.receipt import Intent
from tests import papers
from tests.connectors.gate import (
    POLICY,
    Clock,
    FakeExchange,
    Gate,
    fetch_all,
    info_of,
    intent_of,
    reason,
    refused,
    until,
    visits,
)
from tests.connectors.gateway.test_shelf import renamed
from tests.papers import Papers

PLANNING, SAFETY = "transport-planning", "road-safety"
SUPPRESS = {"require": {"k": 20, "maxSuppression": 0.5}, "onViolation": "suppress"}
WEEK = 7 * papers.DAY


def document(
    first: dict[str, Any] | None = None,
    second: dict[str, Any] | None = None,
    *,
    judged: dict[str, Any] | None = None,
    **purpose: Any,
) -> dict[str, Any]:
    """The contract with a second purpose that anybody may ask for, like the first but for its fields. Both have these
    fields besides, these bounds (those of `judged` the second one alone), and what `purpose` says."""
    made = papers.document()
    (terms,) = (one["value"] for one in made["customProperties"] if one["property"] == "purposes")
    plain = terms[PLANNING]
    terms[PLANNING], terms[SAFETY] = (
        {
            **plain,
            "fields": {**plain["fields"], **(fields or {})},
            "effectiveness": {**plain["effectiveness"], **SUPPRESS, **own},
            **purpose,
        }
        for fields, own in ((first, {}), (second, judged or {}))
    )
    made["roles"].append({"role": SAFETY, "access": "read", "firstLevelApprovers": papers.STEWARD})
    return made


def agreed(gate: Gate, purpose: str, name: str, **changes: Any) -> Papers:
    """Another agreement under the contract of the gate's, live from now on."""
    made = papers.make(purpose=purpose, document=gate.papers.parsed, cast=gate.papers.cast, **changes)
    made = dataclasses.replace(made, agreement=renamed(made, f"agreements/a-{name * 10}"))
    gate.exchange.bundles[made.agreed.id] = made.bundle
    return made


def ticket(gate: Gate, of: Papers) -> bytes:
    gate.papers = of
    return gate.ticket()


def begun(gate: Gate, of: Papers) -> Intent:
    return intent_of(info_of(gate.client(), ticket(gate, of)))


def pulled(gate: Gate, of: Papers) -> pl.DataFrame:
    client = gate.client()
    parts = fetch_all(client, info_of(client, ticket(gate, of)))
    return pl.concat(pl.DataFrame(pl.from_arrow(part)) for part in parts)


def refusal(gate: Gate, of: Papers) -> str:
    asked = ticket(gate, of)
    return refused(lambda: info_of(gate.client(), asked))


Build = Callable[..., tuple[Gate, Papers, Papers]]


@pytest.fixture
def build(tmp_path: Path) -> Iterator[Build]:
    """A gate that runs, and two agreements of one consumer."""
    gates = list[Gate]()

    def built(**terms: Any) -> tuple[Gate, Papers, Papers]:
        cast = papers.Cast(policy_digest=POLICY.bundle_digest)
        made = papers.make(purpose=PLANNING, document=document(**terms), cast=cast)
        visits(tmp_path / "visits.parquet")
        gates.append(Gate(tmp_path, made, FakeExchange({made.agreed.id: made.bundle}), Clock(papers.NOW)))
        gates[0].start()
        return gates[0], made, agreed(gates[0], SAFETY, "s")

    yield built
    gates[0].stop()


def arrive(gate: Gate, few: int) -> None:
    """So many people more, all alike: from one district, in one hospital, on one day."""
    known = pl.read_parquet(gate.folder / "visits.parquet")
    like = known.head(1)
    more = [like.with_columns(citizen_id=pl.lit(f"NEW{number:06d}")) for number in range(few)]
    pl.concat([known, *more]).write_parquet(gate.folder / "visits.parquet")


# --- each has its own release


def test_each_purpose_has_its_release_which_is_served_again(build: Build) -> None:
    gate, one, other = build()
    first, second = begun(gate, one), begun(gate, other)
    assert first.release != second.release
    for _ in range(2):
        assert begun(gate, one).release == first.release
        assert begun(gate, other).release == second.release


def test_both_are_made_again_after_a_restart_whichever_is_asked_for_first(build: Build) -> None:
    """The earlier one is compared with what was sent before it, not with the later one, whose k is smaller: beside
    that one it would be another."""
    gate, one, other = build(judged={"require": {"k": 5, "maxSuppression": 0.5}, "onViolation": "suppress"})
    first = begun(gate, one)
    arrive(gate, 5)
    second = begun(gate, other)
    assert second.rows_out == first.rows_out + 5
    gate.stop()
    visits(gate.folder / "visits.parquet")
    gate.start()
    again = begun(gate, one)
    assert (again.release, again.content_digest) == (first.release, first.content_digest)
    gate.stop()
    arrive(gate, 5)
    gate.start()
    again = begun(gate, other)
    assert (again.release, again.content_digest) == (second.release, second.content_digest)


def test_a_transfer_is_resumed_with_its_own_agreements_release(build: Build) -> None:
    gate, one, other = build()
    first, second = begun(gate, one).release, begun(gate, other).release
    gate.papers = other
    assert intent_of(info_of(gate.client(), gate.ticket(release=second))).release == second
    assert refused(lambda: info_of(gate.client(), gate.ticket(release=first))) == "NOT_FOUND"


def test_what_stops_one_leaves_the_other(build: Build) -> None:
    gate, one, other = build()
    pulled(gate, one), pulled(gate, other)
    gate.papers = one
    gate.gateway.suspend(gate.order(until=None))
    assert refusal(gate, one) == "AGREEMENT_NOT_LIVE"
    assert pulled(gate, other).height == 4800


def test_a_purpose_is_asked_for_again_and_waits_for_its_interval_only(build: Build) -> None:
    gate, one, other = build()
    pulled(gate, one)
    gate.papers = one
    gate.gateway.suspend(gate.order(until=None))
    later = agreed(gate, PLANNING, "l", duration="P60D")
    assert refusal(gate, later) == "REFRESH_PENDING"
    pulled(gate, other)
    gate.clock.now += WEEK
    gate.hear()
    assert pulled(gate, later).height == 4800


# --- and the two are compared


@pytest.mark.parametrize("few", [1, 19, 20])
@pytest.mark.parametrize(
    "second", [{}, {"birth_date": {"mask": "bucket", "size": "100y"}}], ids=["same fields", "other fields"]
)
def test_newcomers_between_two_pulls_for_two_purposes_wait(build: Build, second: dict[str, Any], few: int) -> None:
    gate, one, other = build(second=second)
    before = pulled(gate, one)
    arrive(gate, few)
    after = pulled(gate, other)
    same = before.columns
    gained = after.group_by(same).len().join(before.group_by(same).len(), on=same, how="left", suffix="_before")
    differences = gained.select(pl.col("len").cast(pl.Int64) - pl.col("len_before").fill_null(0)).to_series()
    assert sorted(set(differences) - {0}) == ([] if few < 20 else [20])


def test_the_department_sees_which_release_forbids_another_and_the_consumer_does_not(build: Build) -> None:
    gate, one, other = build(judged={"require": {"k": 20}, "onViolation": "refuse"})
    first = begun(gate, one).release
    arrive(gate, 3)
    asked = ticket(gate, other)
    with pytest.raises(fl.FlightError) as caught:
        info_of(gate.client(), asked)
    assert reason(caught.value) == "BOUNDS_NOT_MET"
    assert not any(word in str(caught.value) for word in (first, "earlier", "difference")), caught.value
    assert "rel-" not in str(caught.value)
    until(lambda: gate.exchange.refusals)
    ((why, told),) = gate.exchange.refusals.values()
    assert why == "BOUNDS_NOT_MET"
    assert (told["earlier_releases"], told["difference_persons"]) == (first, "3")


def test_persons_told_apart_by_another_field_are_not_taken_for_compared(build: Build) -> None:
    """No digest of a person is one of the other release: who is missing there could not be seen."""
    gate, one, other = build(judged={"entity": "patient_name"})
    pulled(gate, one)
    assert refusal(gate, other) == "REFRESH_PENDING"
    assert pulled(gate, one).height == 4800


# --- also when they are made at once


class Slowly:
    """Releases are made as ever, but nobody is quick; counts how many are being made at once."""

    def __init__(self, make: Callable[..., Release]) -> None:
        self._make, self._lock, self.now, self.most = make, threading.Lock(), 0, 0
        self.meanwhile: Callable[[], object] = lambda: None

    def __call__(self, *words: Any, **named: Any) -> Release:
        with self._lock:
            self.now += 1
            self.most = max(self.most, self.now)
        try:
            made = self._make(*words, **named)
            self.meanwhile()
            time.sleep(0.3)
            return made
        finally:
            with self._lock:
                self.now -= 1


@pytest.fixture
def slowly(monkeypatch: pytest.MonkeyPatch) -> Slowly:
    found = Slowly(releasing.releases.make)
    monkeypatch.setattr(releasing.releases, "make", found)
    return found


def test_two_that_are_asked_for_at_once_are_made_one_after_the_other(slowly: Slowly, tmp_path: Path) -> None:
    """Each would be compared with the past and neither with the other."""
    made = papers.make(purpose=PLANNING, document=document(), cast=papers.Cast(policy_digest=POLICY.bundle_digest))
    visits(tmp_path / "visits.parquet")
    exchange = FakeExchange({made.agreed.id: made.bundle})
    gate = Gate(tmp_path, made, exchange, Clock(papers.NOW), settings={"makers": 2})
    gate.start()
    try:
        tickets = [ticket(gate, made), ticket(gate, agreed(gate, SAFETY, "s"))]
        grew = threading.Event()

        def grow_once() -> None:
            if not grew.is_set():
                grew.set()
                arrive(gate, 3)

        slowly.meanwhile = grow_once
        intents = list[Intent]()
        clients = [gate.client() for _ in tickets]
        asking = [
            threading.Thread(target=lambda client=client, one=one: intents.append(intent_of(info_of(client, one))))
            for client, one in zip(clients, tickets, strict=True)
        ]
        for thread in asking:
            thread.start()
        for thread in asking:
            thread.join()
        assert slowly.most == 1
        assert grew.is_set()
        assert [intent.rows_out for intent in intents] == [4800, 4800]
        sent = gate.state.sent_records(made.consumer, "hospital-visits")
        assert sum(len(record.sent) for record in sent.values()) == 2
    finally:
        gate.stop()


def test_who_waits_too_long_for_the_others_release_is_told_to_come_back(build: Build, slowly: Slowly) -> None:
    gate, one, other = build()
    shelf: Shelf = gate.gateway._shelf
    recipient = releasing._recipient(one.verified)
    with shelf.one_for_whom(recipient, wait=1.0):
        object.__setattr__(gate.gateway._releasing, "_make_wait", 0.05)
        assert refusal(gate, other) == "TOO_MANY_TRANSFERS"
    assert pulled(gate, other).height == 4800


def test_a_release_that_stands_is_served_while_another_is_made(build: Build, slowly: Slowly) -> None:
    gate, one, _ = build()
    first = begun(gate, one)
    with gate.gateway._shelf.one_for_whom(releasing._recipient(one.verified), wait=1.0):
        assert begun(gate, one).release == first.release


# --- refusals


def test_two_agreements_that_fail_buy_no_look_more_by_turns(build: Build, slowly: Slowly) -> None:
    gate, one, other = build(judged={"require": {"k": 20}, "onViolation": "refuse"}, refresh="P1D")
    visits(gate.folder / "visits.parquet", people=20)
    looks = list[int]()
    slowly.meanwhile = lambda: looks.append(1)
    made, count = slowly._make, list[int]()

    def counted(*words: Any, **named: Any) -> Release:
        count.append(1)
        return made(*words, **named)

    slowly._make = counted
    for _ in range(3):
        assert refusal(gate, one) == refusal(gate, other) == "BOUNDS_NOT_MET"
    assert (len(count), looks) == (2, [])


def test_what_waits_under_one_agreement_does_not_keep_another_waiting(build: Build) -> None:
    """After a restart with other rows the first release cannot be made again; the other purpose's is its own."""
    gate, one, other = build()
    pulled(gate, one)
    gate.stop()
    arrive(gate, 20)
    gate.start()
    assert refusal(gate, one) == "REFRESH_PENDING"
    assert pulled(gate, other).height == 4820


# --- what chance went into

DRAWS: dict[str, Any] = {"birth_date": {"mask": "shift_date", "days": 30, "entity": "citizen_id"}}
BORN = dt.date(1980, 5, 5)


def born_alike(gate: Gate) -> None:
    """All were born on one day."""
    path = gate.folder / "visits.parquet"
    if pl.read_parquet(path)["birth_date"].n_unique() > 1:
        pl.read_parquet(path).with_columns(birth_date=pl.lit(BORN)).write_parquet(path)


def shifted(gate: Gate, of: Papers) -> list[Any]:
    """The dates that left, each person's own moved one; all were born on one day."""
    born_alike(gate)
    found = pulled(gate, of)
    return sorted(found["birth_date"], key=str)


def test_two_agreements_draw_one_shift_for_a_person(build: Build) -> None:
    """Two of them would narrow the date down, and a new one with each renewal would tell it."""
    gate, one, other = build(first=DRAWS, second=DRAWS)
    first = shifted(gate, one)
    assert len(set(first)) == 60
    assert shifted(gate, other) == first
    for of in (one, other):
        gate.papers = of
        gate.gateway.suspend(gate.order(until=None))
    gate.clock.now += WEEK
    gate.hear()
    later = agreed(gate, PLANNING, "l", duration="P60D")
    assert shifted(gate, later) == first


def test_two_agreements_and_the_next_one_sample_the_same_people(build: Build) -> None:
    """Other ones with each renewal would add up to everybody."""
    gate, one, other = build(first=DRAWS, second=DRAWS, wholeRelease={"sample": {"rate": 0.5, "entity": "citizen_id"}})
    first = shifted(gate, one)
    assert 0 < len(first) < 4800
    assert shifted(gate, other) == first
    gate.papers = one
    gate.gateway.suspend(gate.order(until=None))
    gate.clock.now += WEEK
    gate.hear()
    assert shifted(gate, agreed(gate, PLANNING, "l", duration="P60D")) == first


def lots(gate: Gate) -> int:
    """How many secrets that lots are drawn with are kept."""
    return len(gate.state._rows("SELECT 1 FROM salts WHERE agreement_digest LIKE '%lots%'"))


def end(gate: Gate, of: Papers) -> None:
    gate.papers = of
    gate.gateway.suspend(gate.order(until=None))
    gate.gateway.tick()


def test_what_is_drawn_is_forgotten_once_the_last_release_is_to_be_gone(build: Build) -> None:
    """Until then nobody draws anew; from then on nobody can draw the same, not even with the master key."""
    gate, one, other = build(first=DRAWS, second=DRAWS, retention="P90D")
    first = shifted(gate, one)
    pulled(gate, other)
    end(gate, one)
    end(gate, other)
    gate.clock.now += 90 * papers.DAY + WEEK - 1
    gate.gateway.tick()
    assert lots(gate) == 1
    gate.clock.now += 1
    gate.gateway.tick()
    assert lots(gate) == 0
    cast = papers.Cast(now=gate.clock.now - papers.DAY, policy_digest=POLICY.bundle_digest)
    later = papers.make(purpose=PLANNING, document=gate.papers.parsed, cast=cast, now=gate.clock.now)
    later = dataclasses.replace(later, agreement=renamed(later, "agreements/a-llllllllll"))
    gate.exchange.bundles[later.agreed.id] = later.bundle
    gate.hear()
    assert shifted(gate, later) != first


def test_what_is_drawn_outlives_every_release_while_an_agreement_draws_it(build: Build) -> None:
    """Who pulls seldom has the same draw each time; it goes with the last agreement's own secret."""
    gate, one, other = build(first=DRAWS, second=DRAWS, retention="P90D")
    assert shifted(gate, one) == shifted(gate, other)
    end(gate, one)
    gate.clock.now += 90 * papers.DAY + WEEK
    gate.gateway.tick()
    assert lots(gate) == 1
    end(gate, other)
    assert lots(gate) == 0


def test_what_is_drawn_first_is_not_forgotten_before_its_release_is_made(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others finish theirs at any moment, and sweep."""
    gate, one, _ = build(first=DRAWS, second=DRAWS)
    draw = gate.state.draw_lots

    def drawn(*whose: str) -> str:
        name = draw(*whose)
        gate.gateway._shelf.sweep()
        return name

    monkeypatch.setattr(gate.state, "draw_lots", drawn)
    shifted(gate, one)
    assert lots(gate) == 1
    end(gate, one)
    gate.clock.now += 400 * papers.DAY
    gate.gateway.tick()
    assert lots(gate) == 0


def test_a_release_whose_agreement_loses_its_secret_meanwhile_is_not_made(build: Build, slowly: Slowly) -> None:
    """What was drawn for it may be forgotten by then, and the next one's would be another."""
    gate, one, other = build(first=DRAWS, second=DRAWS)

    def lost() -> None:
        gate.state.erase_salt(one.verified.digest, one.agreed.id, one.agreement)
        gate.gateway._shelf.sweep()

    born_alike(gate)
    slowly.meanwhile = lost
    assert refusal(gate, one) == "AGREEMENT_NOT_LIVE"
    assert gate.state.intervals(one.consumer, "hospital-visits") == []
    slowly.meanwhile = lambda: None
    assert pulled(gate, other).height == 4800


# --- data about no person, which nothing compares

SMALL = {"suppress_small": {"k": 5, "fields": ["hospital_code"], "max_suppression": 0.5}}


def about_things(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """The contract without anybody in it; each purpose sends hospitals, and has what is given."""
    made = document()
    for column in made["schema"][0]["properties"]:
        column["classification"] = "internal"
        column["customProperties"] = [{"property": "identifiability", "value": "none"}]
    (terms,) = (one["value"] for one in made["customProperties"] if one["property"] == "purposes")
    for name, own in ((PLANNING, first), (SAFETY, second)):
        del terms[name]["effectiveness"]
        terms[name] |= {"fields": {"hospital_code": {"mask": "keep"}}, **own}
    return made


def things(folder: Path, first: dict[str, Any], second: dict[str, Any]) -> tuple[Gate, Papers, Papers]:
    made = papers.make(
        purpose=PLANNING, document=about_things(first, second), cast=papers.Cast(policy_digest=POLICY.bundle_digest)
    )
    visits(folder / "visits.parquet")
    gate = Gate(folder, made, FakeExchange({made.agreed.id: made.bundle}), Clock(papers.NOW))
    gate.start()
    return gate, made, agreed(gate, SAFETY, "s")


@pytest.mark.parametrize("turned", [False, True], ids=["suppressed first", "suppressed second"])
def test_things_whose_small_classes_are_left_out_have_no_other_release_beside_them(
    tmp_path: Path, turned: bool
) -> None:
    """What was left out of one release would be the difference to the other; nothing compares the two."""
    own: tuple[dict[str, Any], dict[str, Any]] = ({"wholeRelease": SMALL}, {})
    gate, one, other = things(tmp_path, *(own[::-1] if turned else own))
    try:
        assert pulled(gate, one).height == 4800
        assert refusal(gate, other) == "REFRESH_PENDING"
        gate.clock.now += WEEK
        gate.hear()
        assert pulled(gate, other).height == 4800
        assert refusal(gate, one) == "REFRESH_PENDING"
    finally:
        gate.stop()


def test_things_of_which_nothing_is_left_out_have_a_release_for_each_purpose(tmp_path: Path) -> None:
    gate, one, other = things(tmp_path, {}, {})
    try:
        assert pulled(gate, one).height == pulled(gate, other).height == 4800
    finally:
        gate.stop()

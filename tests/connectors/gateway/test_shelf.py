"""Releases that a transfer is about to serve stay, whatever the clock and the watchdog do meanwhile."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pyarrow.flight as fl
import pytest

from connectors.gateway.shelf import Shelf
from connectors.gateway.state import GatewayState
from connectors.releases.release import Recipient, Release
from contracts.dtypes import STRING
from contracts.envelope import Envelope, Kind
from contracts.errors import Reason, SluicegateError
from contracts.policy.engine import Action, Decision
from tests import papers
from tests.connectors.gate import (
    POLICY,
    Clock,
    Entropy,
    Gate,
    fetch_all,
    info_of,
    intent_of,
    make_gate,
    reason,
    until,
    visits,
)
from tests.connectors.plans import plan


class SlowPolicy:
    """The real policy, during whose decision time may pass and the watchdog look around."""

    bundle_digest = POLICY.bundle_digest

    def __init__(self) -> None:
        self.meanwhile: Any = lambda: None

    def decide(self, action: Action, input: Mapping[str, Any]) -> Decision:
        decision = POLICY.decide(action, input)
        self.meanwhile()
        return decision


@pytest.fixture
def policy() -> SlowPolicy:
    return SlowPolicy()


@pytest.fixture
def gate(tmp_path: Path, policy: SlowPolicy) -> Iterator[Gate]:
    made = make_gate(tmp_path)
    made.extra["policy"] = policy
    made.start()
    yield made
    made.stop()


def test_a_release_whose_interval_ends_while_its_transfer_begins_is_served(gate: Gate, policy: SlowPolicy) -> None:
    client = gate.client()
    first = info_of(client, gate.ticket())
    fetch_all(client, first)
    gate.clock.now += 7 * papers.DAY - 5

    def interval_ends() -> None:
        gate.clock.now += 10
        gate.gateway.tick()

    policy.meanwhile = interval_ends
    second = info_of(client, gate.ticket())
    assert intent_of(second).release == intent_of(first).release
    assert sum(table.num_rows for table in fetch_all(client, second)) == 4800


def test_a_release_that_took_longer_to_make_than_its_interval_lasts_is_served(tmp_path: Path) -> None:
    clock = Clock(papers.NOW)
    state = GatewayState(tmp_path / "state" / "state.db", clock=clock, entropy=Entropy())
    shelf = Shelf(tmp_path / "spool", state, clock=clock, entropy=Entropy(), makers=1, limit=1 << 20)
    shelf.clean()
    daily = plan({"id": ({"mask": "keep"}, STRING)})

    def slow(folder: Path, name: str) -> Release:
        clock.now += 2 * papers.DAY
        return Release(name, folder, {}, (), "blake3:0", "blake3", 1, 1, 0, None, "keyed", papers.NOW)

    standing = shelf.make(Recipient("metro-lines", "visits", "sha256:a", "planning"), daily, slow, wait=1.0)
    shelf.sweep()
    assert standing.folder.is_dir()
    shelf.done(standing)
    assert not standing.folder.exists()
    assert shelf.take("sha256:a") is None
    state.close()


def test_a_refused_transfer_gives_its_release_back(gate: Gate, policy: SlowPolicy) -> None:
    client = gate.client()
    fetch_all(client, info_of(client, gate.ticket()))

    def fails() -> None:
        raise SluicegateError(Reason.POLICY_UNAVAILABLE, "no answer")

    policy.meanwhile = fails
    with pytest.raises(Exception, match="POLICY_UNAVAILABLE"):
        info_of(client, gate.ticket())
    gate.clock.now += 7 * papers.DAY
    gate.gateway.tick()
    assert list((gate.folder / "spool").iterdir()) == []


# --- one release for one consumer and interval, whatever happens meanwhile


def refused(gate: Gate) -> str:
    with pytest.raises(fl.FlightError) as caught:
        info_of(gate.client(), gate.ticket())
    return reason(caught.value)


def agree_again(gate: Gate) -> None:
    """The same consumer gets another agreement on the same dataset."""
    made = papers.make(cast=gate.papers.cast, duration="P60D")
    gate.papers = dataclasses.replace(made, agreement=renamed(made, "agreements/a-bbbbbbbbbb"))
    gate.exchange.bundles[gate.papers.agreed.id] = gate.papers.bundle


def renamed(made: papers.Papers, name: str) -> Envelope:
    return papers.Cast.sign(
        Kind.AGREEMENT, msgspec.structs.replace(made.agreed, id=name), papers.STEWARD, papers.ANALYST
    )


def test_a_new_agreement_does_not_begin_a_new_interval(gate: Gate) -> None:
    """Two releases of the same days can be subtracted, whatever papers each was pulled under."""
    fetch_all(gate.client(), info_of(gate.client(), gate.ticket()))
    gate.gateway.suspend(gate.order(until=None))
    agree_again(gate)
    assert refused(gate) == "REFRESH_PENDING"
    until(lambda: gate.exchange.refusals)
    gate.clock.now += 7 * papers.DAY
    gate.hear()
    assert sum(table.num_rows for table in fetch_all(gate.client(), info_of(gate.client(), gate.ticket()))) == 4800


def test_neither_does_a_new_agreement_after_a_restart(gate: Gate) -> None:
    fetch_all(gate.client(), info_of(gate.client(), gate.ticket()))
    gate.gateway.suspend(gate.order(until=None))
    agree_again(gate)
    gate.stop()
    gate.start()
    assert refused(gate) == "REFRESH_PENDING"


def test_without_a_release_there_is_no_interval(gate: Gate) -> None:
    agree_again(gate)
    assert len(info_of(gate.client(), gate.ticket()).endpoints) > 0


def test_a_restarted_gateway_makes_the_same_release_again_and_its_interval_goes_on(gate: Gate) -> None:
    before = intent_of(info_of(gate.client(), gate.ticket()))
    gate.stop()
    gate.clock.now += papers.DAY
    gate.start()
    after = intent_of(info_of(gate.client(), gate.ticket()))
    assert (after.release, after.content_digest, after.parts) == (before.release, before.content_digest, before.parts)
    gate.clock.now += 6 * papers.DAY
    gate.hear()
    assert intent_of(info_of(gate.client(), gate.ticket())).release != before.release


def test_a_source_that_changed_while_the_gateway_was_away_waits_for_the_interval_to_end(gate: Gate) -> None:
    before = intent_of(info_of(gate.client(), gate.ticket()))
    gate.stop()
    visits(gate.folder / "visits.parquet", people=800)
    gate.start()
    assert refused(gate) == "REFRESH_PENDING"
    assert list((gate.folder / "spool").iterdir()) == []
    gate.clock.now += 7 * papers.DAY
    gate.hear()
    assert intent_of(info_of(gate.client(), gate.ticket())).rows_out > before.rows_out


def test_of_two_agreements_that_make_their_release_at_once_one_wins(tmp_path: Path) -> None:
    """Nothing stands between the look at the interval and the release but the state's own transaction."""
    clock = Clock(papers.NOW)
    state = GatewayState(tmp_path / "state" / "state.db", clock=clock, entropy=Entropy())
    shelf = Shelf(tmp_path / "spool", state, clock=clock, entropy=Entropy(), makers=2, limit=1 << 20)
    shelf.clean()
    daily = plan({"id": ({"mask": "keep"}, STRING)})

    def made(folder: Path, name: str) -> Release:
        return Release(name, folder, {}, (), "blake3:0", "blake3", 1, 1, 0, None, "keyed", papers.NOW)

    def overtaken(folder: Path, name: str) -> Release:
        shelf.make(Recipient("metro-lines", "visits", "sha256:b", "planning"), daily, made, wait=1.0)
        return made(folder, name)

    with pytest.raises(SluicegateError) as caught:
        shelf.make(Recipient("metro-lines", "visits", "sha256:a", "planning"), daily, overtaken, wait=1.0)
    assert caught.value.reason is Reason.REFRESH_PENDING
    assert shelf.size() == len(list((tmp_path / "spool").iterdir())) == 1
    # Another consumer's interval is its own.
    shelf.make(Recipient("bus-lines", "visits", "sha256:c", "planning"), daily, made, wait=1.0)

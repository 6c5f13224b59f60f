"""Releases that a transfer is about to serve stay, whatever the clock and the watchdog do meanwhile."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from connectors.gateway_state import GatewayState
from connectors.release import Release
from connectors.shelf import Shelf
from contracts.dtypes import STRING
from contracts.errors import Reason, SluicegateError
from contracts.policy.engine import Action, Decision
from tests import papers
from tests.connectors.gate import POLICY, Clock, Entropy, Gate, info_of, intent_of, make_gate
from tests.connectors.plans import plan
from tests.connectors.test_gateway import fetch_all


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

    standing = shelf.make("sha256:a", daily, slow, wait=1.0)
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
